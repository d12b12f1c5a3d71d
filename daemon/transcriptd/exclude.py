"""Which sessions never leave the machine, because the configuration says so.

Cheap questions come first: where a file is, how old it is. Only the last one, which project a
session is about, opens the file, and reads no more than its beginning. Where that cannot be told,
the session waits: what may be excluded is not sent.
"""

from __future__ import annotations

from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from transcriptd.config import Excludes
from transcriptd.errors import Vanished
from transcriptd.files import open_content, stat_at
from transcriptd.globs import pattern
from transcriptd.model import Session
from transcriptd.remap import (
    directory_in,
    directory_in_head,
    main_path,
    may_be_below,
    project_name,
)
from transcriptd.tree import LINES, Tree
from transcriptd.workspace import is_within, named_in_whole, owner_of, spelt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from transcriptd.config import Config
    from transcriptd.content import Content
    from transcriptd.model import Stat
    from transcriptd.sources import Source

PATH = "excluded_path"
PROJECT = "excluded_project"
OLD = "excluded_old"
INDEX = "excluded_index"
UNKNOWN = "project_unknown"
"""It cannot be told now: the session waits until its file changes."""

_NOTHING = Excludes()
_HEAD = 1 << 20
_PIECE = 1 << 16
_LONGEST_NAME = 200  # of Claude Code's directories: a longer one is cut, and a hash put behind
_INDEXES = {"codex": "session_index.jsonl"}


def reasons(
    config: Config, sources: Mapping[str, Source]
) -> dict[str, Callable[[Session, Stat], str]]:
    """Return who knows why a session is excluded, for the sources of which any is."""

    def asking(source: Source, excludes: Excludes) -> Callable[[Session, Stat], str]:
        return lambda session, stat: why(excludes, source, session, stat, time())

    excluding = {name: config.excludes_of(name) for name in sources}
    return {
        name: asking(sources[name], excludes)
        for name, excludes in excluding.items()
        if excludes != _NOTHING
    }


def why(excludes: Excludes, source: Source, session: Session, stat: Stat, now: float) -> str:
    """Return for which reason a session is not archived; nothing where it is.

    `stat` is what stands of it `now` (Unix seconds). Blocks. Raises any `SourceError`.
    """
    if excludes == _NOTHING:
        return ""
    path = source.path(session) if isinstance(source, Tree) else session.name
    by_content = excludes.paths or excludes.globs or excludes.projects
    if by_content and path == _INDEXES.get(source.name):
        return INDEX  # it has the titles of all sessions
    if _is_placed(excludes, source, session, path):
        return PATH
    if excludes.older_s and now - _changed_at(source, session, stat) > excludes.older_s:
        return OLD
    projects = [Path(project) for project in excludes.projects]
    if not projects:
        return ""
    if source.name == "claude":
        return _by_name(projects, source, session, path)
    directory = _directory(source, session)
    if directory is None:
        return UNKNOWN
    return PROJECT if _is_about(directory, projects) else ""


def _is_placed(excludes: Excludes, source: Source, session: Session, path: str) -> bool:
    """Say whether a file, or the transcript that it belongs to, is named or matches a glob."""
    files, paths = [session.path], [path]
    if source.name == "claude":
        paths.append(main_path(path))
        files.append(Path(session.root, main_path(session.name)))
    if any(is_within(str(file), Path(place)) for place in excludes.paths for file in files):
        return True
    around = {
        "/".join(each.split("/")[:n]) for each in paths for n in range(1, each.count("/") + 2)
    }
    return any(pattern(glob).fullmatch(each) for glob in excludes.globs for each in around)


def _changed_at(source: Source, session: Session, stat: Stat) -> float:
    """Return when a session changed last; inside a database that is when its file did."""
    times = [stat.mtime_ns]
    if source.is_store(session.name):
        store = f"{session.root}/{session.name.partition('/')[0]}"
        stats = (stat_at(Path(store)), stat_at(Path(f"{store}-wal")))
        times = [each.mtime_ns for each in stats if each] or times
    return max(times) / 1e9


def _by_name(projects: list[Path], source: Source, session: Session, path: str) -> str:
    """Answer for Claude Code, which has a directory for each project.

    Its name may stand for several projects, and the records say directories that the agent went to:
    those that have this name say which it is.
    """
    name = path.partition("/")[0]
    others: list[str] = []
    for directory in _directories_of_claude(source, session):
        if project_name(directory)[:_LONGEST_NAME] == name[:_LONGEST_NAME]:
            return PROJECT if _is_about(directory, projects) else ""
        others.append(directory)
    if any(_is_about(directory, projects) for directory in others):
        return PROJECT
    names = {project_name(each)[:_LONGEST_NAME] for at in projects for each in spelt(at)}
    if name in names:
        return PROJECT
    if any(may_be_below(name, each) for each in names):
        return PROJECT if others else UNKNOWN
    return ""


def _is_about(directory: str, projects: list[Path]) -> bool:
    return any(is_within(directory, project) for project in projects)


def _directories_of_claude(source: Source, session: Session) -> Iterator[str]:
    """Yield what the records of a session say; of what belongs to one, those of the session."""
    main = main_path(session.name)
    try:
        yield from _said(source, Session(session.source, session.id, session.root, main))
    except Vanished:
        if session.name != main and session.name.endswith(LINES):
            yield from _said(source, session)


def _directory(source: Source, session: Session) -> str | None:
    if isinstance(source, Tree):
        return next(_said(source, session), None)
    content = open_content(session)
    head = content.read(0, min(content.size, _HEAD))
    if content.size > _HEAD:
        return directory_in_head(head)
    try:
        return named_in_whole(head) or owner_of(session.root)
    except ValueError:
        return None


def _said(source: Source, session: Session) -> Iterator[str]:
    """Yield the directories that a file's first records say."""
    assert isinstance(source, Tree)
    content, _ = source.content(session, _HEAD)
    for line in _lines(content, min(content.size, _HEAD)):
        if directory := directory_in(source.name, line):
            yield directory


def _lines(content: Content, end: int) -> Iterator[bytes]:
    """Yield lines, and at last what may be one without its end."""
    held = b""
    for start in range(0, end, _PIECE):
        *lines, held = (held + content.read(start, min(start + _PIECE, end))).split(b"\n")
        yield from lines
    yield held
