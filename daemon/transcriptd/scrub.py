"""Reads slowly, and once, what guards vouched for: a rewrite that changed nothing they look at.

Only a file that grew since all of it was read, and has been quiet since, is read again; where
nothing grows, nothing is done. What is found is read whole by the worker in its next turn. Writes
to the journal, never to the archive.
"""

from __future__ import annotations

import asyncio
from time import time
from typing import TYPE_CHECKING

from transcriptd.content import BLOCK
from transcriptd.digest import Digester
from transcriptd.errors import SourceError
from transcriptd.logs import get_logger
from transcriptd.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transcriptd.journal import Journal
    from transcriptd.model import Cursor, Session
    from transcriptd.rows import Record
    from transcriptd.sources import Source

log = get_logger("transcriptd.scrub")

_LOOK_EVERY_S = 60.0
_AT_ONCE = 100
_FIRST = -(1 << 63)


class Scrub:
    """`run` works until it is cancelled. `on_doubt` hears of a session that has to be read whole.

    `rate` in bytes per second, 0 for not at all; `after_s` is how long a file must have been quiet;
    `max_bytes` bounds what is held in memory; `clock` gives Unix seconds. `read_bytes` and `found`
    count since the start.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        journal: Journal,
        *,
        rate: int,
        after_s: float,
        max_bytes: int,
        on_doubt: Callable[[Session], None],
        clock: Callable[[], float] = time,
    ) -> None:
        self._sources = sources
        self._journal = journal
        self.rate = rate
        self._after_s = after_s
        self._max_bytes = max_bytes
        self._on_doubt = on_doubt
        self._clock = clock
        self._at_ns = _FIRST  # how far this round is
        self.read_bytes = 0
        self.found = 0

    async def run(self) -> None:
        """Read what waits, one session after the other."""
        while self.rate:
            if not await self.read_next():
                await asyncio.sleep(_LOOK_EVERY_S)

    async def read_next(self) -> bool:
        """Read the next session that can be read; `False` where none is left in this round."""
        names, before_ns = self._sources.keys(), int((self._clock() - self._after_s) * 1e9)
        while waiting := self._journal.unverified(names, self._at_ns, before_ns, _AT_ONCE):
            for record in waiting:
                self._at_ns = record.stat.mtime_ns if record.stat else self._at_ns
                if await self._read(record):
                    return True
        self._at_ns = _FIRST
        return False

    async def _read(self, record: Record) -> bool:
        """Read a session; returns whether that could be done."""
        session, cursor = record.session, record.cursor
        source = self._sources.get(session.source)
        if cursor is None or not isinstance(source, Tree):
            return False
        try:
            content, stat = await asyncio.to_thread(source.content, session, self._max_bytes)
            if stat != record.stat:
                return False  # it changed, or goes: its turn comes
            digest = await self._digest(content.read, cursor)
        except SourceError:
            return False
        if digest == _at_the_source(record, cursor):
            await self._journal.verified(session, stat)
        else:
            await self._doubt(record, cursor)
        return True

    async def _digest(self, read: Callable[[int, int], bytes], cursor: Cursor) -> str:
        digester = Digester()
        for at in range(0, cursor.length, BLOCK):
            block = await asyncio.to_thread(read, at, min(at + BLOCK, cursor.length))
            digester.update(block)
            self.read_bytes += len(block)
            await asyncio.sleep(len(block) / self.rate)
        return digester.hexdigest()

    async def _doubt(self, record: Record, cursor: Cursor) -> None:
        self.found += 1
        log.warning(
            "scrub.rewrite_found",
            session=record.session.id,
            source=record.session.source,
            length_bytes=cursor.length,
            hint="the agent rewrote it in its place; it becomes the next generation",
        )
        await self._journal.doubt(record.session)
        self._on_doubt(record.session)


def _at_the_source(record: Record, cursor: Cursor) -> str:
    """Return the digest of what the source had when it was archived, masked or not."""
    known = record.screening
    masked = known is not None and known.length == cursor.length and known.masks
    return known.plain if known and masked else cursor.digest
