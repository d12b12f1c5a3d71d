"""The most recent session of a workspace, and the end of a stream.

The agent's own index is asked first; where it is wrong, the newest files that the journal knows.
Opens a bounded number of files and requests, however many sessions there are.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transcriptd.archive import Span, open_stream
from transcriptd.database import read_only
from transcriptd.errors import Damaged, SourceError
from transcriptd.landing import stands
from transcriptd.model import Session
from transcriptd.snapshot import read
from transcriptd.wanted import asked, read_small
from transcriptd.whereabouts import Finder
from transcriptd.workspace import named_in, owner_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from transcriptd.sources import Documents
    from transcriptd.stores import Store

    Newest = Callable[[str | None, int], Iterable[Session]]
    """Gives the sessions below a root, or below any, that were changed last, newest first."""

_OF_A_ROOT = 20
_OF_ALL = 100
_WINDOW_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Found:
    """A workspace's most recent session.

    `path` and `changed_at` (Unix seconds) are those of its file; `None` where only the archive has
    it.
    """

    session_id: str
    workspace: str
    session: Session | None = None
    path: Path | None = None
    changed_at: float | None = None


def newest_known(journal: Path, source: str) -> Newest:
    """Read the order from a journal's file, also beside a running daemon."""

    def newest(root: str | None, limit: int) -> list[Session]:
        where = "" if root is None else " AND root = ?"
        values = (source,) if root is None else (source, root)
        # The mirrored files of other agents are none of ours; a row without a time is no file.
        query = (
            "SELECT source, id, root, name FROM sessions"  # noqa: S608 - constants
            f" WHERE source = ? AND mtime_ns IS NOT NULL{where} ORDER BY mtime_ns DESC LIMIT ?"
        )
        try:
            with contextlib.closing(sqlite3.connect(read_only(journal), uri=True)) as connection:
                rows = connection.execute(query, (*values, limit)).fetchall()
        except sqlite3.Error:
            return []  # no journal, nothing known
        return [Session(of, name_id, os.fsdecode(at), name) for of, name_id, at, name in rows]

    return newest


def last_here(
    source: Documents, directory: Path, newest: Newest, *, max_document: int
) -> Found | None:
    """Find the most recent session whose file is on this machine. Blocks."""
    for workspace in _workspaces(source, directory):
        best: Found | None = None
        for session in _candidates(source, workspace, newest):
            stat = stands(session.path)
            changed_at = stat.mtime_ns / 1e9 if stat else 0.0
            if stat is None or (best and changed_at <= (best.changed_at or 0.0)):
                continue
            if _belongs(session, workspace, max_document):
                best = Found(session.id, workspace, session, session.path, changed_at)
        if best:
            return best
    return None


async def last_archived(
    source: Documents, directory: Path, store: Store, document_key: Callable[[str], str]
) -> Found | None:
    """Find the session that the agent's index names and only the archive has any more."""
    for workspace in _workspaces(source, directory):
        for root in source.homes(Path(workspace)):
            named = source.latest(root, workspace)
            if named is None:
                continue
            document = await read_small(store, document_key(named.id)) or b""
            if _is_named(document, workspace):
                return Found(named.id, workspace)
    return None


async def last_lines(
    store: Store, prefix: str, key: str, count: int, *, window: int = _WINDOW_BYTES
) -> list[bytes]:
    """Read the last `count` lines of a stream from its end, and no more than a window before them.

    `window` in bytes is what is read at first; it doubles. Raises `StoreError`, `Superseded`.
    """
    found = await asked(lambda: Finder(store, prefix, key).find(None, None))
    start, content = found.length, b""
    while start and content.count(b"\n", 0, -1) < count:
        end, start = start, max(0, start - max(window, len(content)))
        async with open_stream(store, prefix, Span(key, start, end, found.generation)) as stream:
            piece = b"".join([chunk async for chunk in stream.chunks])
        if len(piece) != end - start:
            raise Damaged("the end of the stream does not fit what is before it")
        content = piece + content
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    return [line + b"\n" for line in lines[-count:]]


def _workspaces(source: Documents, directory: Path) -> Iterator[str]:
    """Yield the directory as the agent would name it, then the workspace around it."""
    canonical = os.path.realpath(directory)
    yield canonical
    around = (owner_of(str(root)) for root in source.homes(Path(canonical)))
    yield from (each for each in around if each and each != canonical)


def _candidates(source: Documents, workspace: str, newest: Newest) -> Iterator[Session]:
    roots = source.homes(Path(workspace))
    for root in roots:
        if named := source.latest(root, workspace):
            yield named
    for root in roots:
        yield from newest(str(root), _OF_A_ROOT)
    yield from newest(None, _OF_ALL)


def _belongs(session: Session, workspace: str, max_document: int) -> bool:
    try:
        data, _ = read(session, max_document)
    except SourceError:
        return False
    return _is_named(data, workspace) or (
        named_in(data) is None and owner_of(session.root) == workspace
    )


def _is_named(document: bytes, workspace: str) -> bool:
    named = named_in(document)
    return named is not None and os.path.realpath(named) == workspace
