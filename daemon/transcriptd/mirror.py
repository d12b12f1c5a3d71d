"""What stands of a mirrored file beside what is archived of it, without reading all of it.

A file that is written to is cut behind its last line feed; a line without one counts once nothing
has come for 30 seconds (never, where only whole lines may leave). That it still begins with what is
archived is told by guards (its inode, its first 64 KiB, the block before the cursor); where they do
not tell, all of it is read. What they may miss, a rewrite further back, is found by the scrub. Runs
in a thread; knows neither the store nor the journal.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from time import time
from typing import TYPE_CHECKING

from transcriptd import snapshot
from transcriptd.blocks import Blocks, measure
from transcriptd.content import BLOCK, end_of_lines
from transcriptd.damage import Damage
from transcriptd.digest import EMPTY
from transcriptd.errors import Unsettled
from transcriptd.files import wait_out_the_tick
from transcriptd.model import Guard, Snapshot
from transcriptd.snapshot import Look
from transcriptd.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from transcriptd.blocks import Mark
    from transcriptd.content import Content
    from transcriptd.model import Cursor, Session, Stat
    from transcriptd.sources import Source

HEAD = 64 << 10
QUIET_S = 30.0
_READ_AT_ONCE = 64 << 20


def look_at(
    source: Source,
    session: Session,
    cursor: Cursor | None,
    guard: Guard | None = None,
    *,
    max_bytes: int,
    with_document: bool = False,
    whole_lines: bool = False,
    clock: Callable[[], float] = time,
) -> Look:
    """Look at a session of any source: a document, or a file that is mirrored.

    `max_bytes` bounds what has to be held in memory, `clock` gives Unix seconds. With `whole_lines`
    a line without its end never counts, however long nothing has come. Raises any `SourceError`.
    """
    if isinstance(source, Tree):
        content, stat = source.content(session, max_bytes)
        wait_out_the_tick(stat.mtime_ns)
        seen = _Mirrored(session, content, stat, has_lines=source.has_lines(session))
        return seen.look(cursor, guard, clock(), whole_lines=whole_lines)
    return snapshot.look(source, session, cursor, max_bytes=max_bytes, with_document=with_document)


def seconds_until_quiet(stat: Stat, now: float) -> float | None:
    """Return in how many seconds a file counts as finished if nothing comes; `None`: it does."""
    # A clock that was set back puts changes into the future: then nothing is known but by ctime.
    changed = next((at / 1e9 for at in (stat.mtime_ns, stat.ctime_ns) if at / 1e9 <= now), None)
    if changed is None or now - changed >= QUIET_S:
        return None
    return QUIET_S - (now - changed)


class _Mirrored:
    """One look at one file. `end` is where the lines end that count."""

    def __init__(self, session: Session, raw: Content, stat: Stat, *, has_lines: bool) -> None:
        self._session = session
        self._raw = raw
        self._stat = stat
        self._has_lines = has_lines

    def look(
        self, cursor: Cursor | None, guard: Guard | None, now: float, *, whole_lines: bool
    ) -> Look:
        waits_s = seconds_until_quiet(self._stat, now) if self._has_lines else None
        is_cut = waits_s is not None or whole_lines
        end = end_of_lines(self._raw, self._raw.size) if is_cut else self._raw.size
        seen = self._resumed(cursor, guard, end) if cursor and guard else None
        seen = seen or self._read_whole(cursor, end)
        if not seen.extends and not end and waits_s is not None:
            raise Unsettled("it was emptied, or is being written anew", seconds=waits_s)
        is_unfinished = seen.snapshot.content.size < self._raw.size
        if not is_unfinished:
            return seen
        return replace(seen, is_unfinished=True, unfinished_s=None if whole_lines else waits_s)

    def _resumed(self, cursor: Cursor, guard: Guard, end: int) -> Look | None:
        """Go on from what the guard vouches for; `None` where it does not."""
        end = max(end, cursor.length)
        if not self._is_as_guarded(cursor, guard):
            return None
        start = cursor.length - cursor.length % BLOCK
        chain = bytes.fromhex(guard.chain)
        damage = Damage(guard.damaged, counts=self._has_lines)
        lengths = (cursor.length, end)
        found = measure(self._raw, lengths, damage, start=start, chain=chain, known=cursor.length)
        before, mark = (found.marks[length] for length in lengths)
        if before.digest != cursor.digest:
            return None
        mark = replace(mark, feeds=guard.feeds + mark.feeds - before.feeds)
        content = Blocks(self._raw, mark, found.hashes, start=start, chain=chain)
        head = guard.head if cursor.length >= HEAD else _head(content)
        return self._told(content, mark, head, extends=True, is_verified=not start)

    def _is_as_guarded(self, cursor: Cursor, guard: Guard) -> bool:
        """Whether it is worth to look at the cursor: the same file, grown, with the same head."""
        size = self._raw.size
        if guard.length != cursor.length or guard.inode != self._stat.inode or size < cursor.length:
            return False
        is_touched = guard.ctime_ns != self._stat.ctime_ns
        if is_touched and size == cursor.length and size <= _READ_AT_ONCE:
            return False  # and not grown: all of it is read
        return guard.head == _head(self._raw, cursor.length)

    def _read_whole(self, cursor: Cursor | None, end: int) -> Look:
        archived = cursor.length if cursor and cursor.length <= self._raw.size else 0
        damage = Damage(counts=self._has_lines)
        found = measure(self._raw, {archived, end}, damage)
        extends = cursor is None or (
            cursor.length == archived and found.marks[archived].digest == cursor.digest
        )
        mark = found.marks[max(end, archived) if extends else end]
        content = Blocks(self._raw, mark, found.hashes, start=0, chain=EMPTY)
        return self._told(content, mark, _head(content), extends=extends, is_verified=True)

    def _told(
        self, content: Blocks, mark: Mark, head: str, *, extends: bool, is_verified: bool
    ) -> Look:
        guard = Guard(
            length=mark.length,
            chain=mark.chain.hex(),
            head=head,
            feeds=mark.feeds,
            damaged=mark.damaged,
            inode=self._stat.inode,
            ctime_ns=self._stat.ctime_ns,
        )
        records = mark.feeds + (not mark.ends_a_line)
        snapshot = Snapshot(self._session, self._stat, content, records)
        return Look(snapshot, mark.digest, extends, guard, is_verified)


def _head(content: Content, size: int = HEAD) -> str:
    return sha256(content.read(0, min(HEAD, size, content.size))).hexdigest()
