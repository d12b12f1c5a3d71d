"""What somebody wants to be looked at: sessions of this machine, by name or all of them, and files.

Finds sessions where their agents keep them, as the daemon does, also those that never leave the
machine. Needs no archive; the journal, if there is one, knows of further places.
"""

from __future__ import annotations

import stat as modes
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from transcriptd.census import look
from transcriptd.finds import Subject
from transcriptd.listing import Archived
from transcriptd.mirrors import MirroredSession, named, owner
from transcriptd.model import Session
from transcriptd.tree import Tree
from transcriptd.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from transcriptd.journal import Journal
    from transcriptd.layout import Names
    from transcriptd.sources import Source


@dataclass(slots=True)
class Subjects:
    """What is to be looked at, each file once, by its path.

    `unreadable` are places that cannot be looked into, and why; `missing` is what nothing is called
    like.
    """

    found: dict[Path, Subject] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def take(self, subjects: Iterable[Subject]) -> bool:
        """Add them; say whether there are any."""
        several = {subject.session.path: subject for subject in subjects}
        self.found = several | self.found
        return bool(several)


class Here:
    """The sessions of this machine. `names` says under which keys they are archived."""

    def __init__(
        self, sources: Mapping[str, Source], names: Names, journal: Journal | None = None
    ) -> None:
        self._sources = sources
        self._names = names
        self._journal = journal

    @cached_property
    def everything(self) -> Subjects:
        """All sessions of all sources. Blocks."""
        found = Subjects()
        for source in self._sources.values():
            for root in look(source, self._journal):
                found.unreadable |= root.unreadable
                found.take(
                    Subject(session, source, max(stat.size, 0) if stat else 0)
                    for name, stat in root.sessions.items()
                    if (session := source.session(root.path, name))
                )
        return found

    def chosen(self, wanted: Iterable[str]) -> Subjects:
        """Return what is meant: what has such a path, or else a session. Blocks."""
        chosen = Subjects()
        for what in wanted:
            path = Path(what)
            if _is_there(path):
                chosen.take(_below(path, chosen.unreadable))
            elif not chosen.take(self._named(what)):
                chosen.missing.append(what)
        return chosen

    def _named(self, what: str) -> Iterator[Subject]:
        """Yield the sessions that `ls` and `cat` call so, with what belongs to them."""
        mirrors: list[tuple[MirroredSession, Subject]] = []
        for subject in self.everything.found.values():
            source, session = subject.source, subject.session
            key = source.key(self._names, session) if source else ""
            if isinstance(source, Tree):
                mirrors.append((self._mirror(source, session, key), subject))
            elif what in {session.id, key}:
                yield subject
        meant = {(m.agent, m.path) for m in named((mirror for mirror, _ in mirrors), what)}
        for mirror, subject in mirrors:
            if not meant.isdisjoint((mirror.agent, path) for path in (mirror.path, owner(mirror))):
                yield subject

    def _mirror(self, source: Tree, session: Session, key: str) -> MirroredSession:
        """Return a session as the archive would list it."""
        listed = Archived(key, session.id, source.name, None, (), 0, (), 0.0)
        path = source.path(session)
        return MirroredSession(session.id, self._names.machine, source.name, path, key, listed)


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
    return True


def _below(path: Path, unreadable: dict[Path, str]) -> Iterator[Subject]:
    """Yield a file, or those below a directory, of which links are not followed. Blocks."""
    try:
        there = path.resolve(strict=True)
        if not there.is_dir():
            yield _file(path, there, there.stat().st_size)
            return
        walked = walk(there, lambda _: True)
    except (OSError, RuntimeError) as error:
        unreadable[path] = getattr(error, "strerror", None) or "it cannot be told what that is"
        return
    unreadable |= walked.unreadable
    if unnamed := walked.skipped["name_not_utf8"]:
        unreadable[path] = f"{unnamed:,} names below it are not UTF-8"
    for name in walked.names:
        try:
            stat = (there / name).lstat()
        except OSError:
            continue  # it went in this moment
        if modes.S_ISREG(stat.st_mode):
            yield _file(path / name, there / name, stat.st_size)


def _file(shown: Path, there: Path, size: int) -> Subject:
    return Subject(Session("", str(shown), str(there.parent), there.name), None, size)
