"""A session that grows in memory, and its turns as the daemon would take them.

Sessions are neither files nor JSON here; everything from the worker on is the daemon's own.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING

from tests.contract.s3 import BLOCK, PREFIX, Generated, opened
from transcriptd.budget import Budget
from transcriptd.compare import digest_of
from transcriptd.digest import Digester
from transcriptd.gate import Gate
from transcriptd.journal import Journal
from transcriptd.layout import Names, history_key
from transcriptd.model import Session, Snapshot, Stat
from transcriptd.pool import SETTLED_S, Turn
from transcriptd.snapshot import Look
from transcriptd.sources.codetether import CodeTether
from transcriptd.status import Status
from transcriptd.survey import list_tails
from transcriptd.upload import Uploader
from transcriptd.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.servers import Server
    from transcriptd.model import Cursor
    from transcriptd.rows import Record
    from transcriptd.stores.s3 import S3Store

SESSION = Session("codetether", "s", "/nowhere", "s.json")
KEY = history_key(PREFIX, SESSION.id)
MAX_LAG_S = 1800.0


class Growing:
    """A session that grows, and what a look at it says without reading all of it each time."""

    def __init__(self) -> None:
        self.content = Generated(0)
        self._saves = 0
        self._digester = Digester()
        self._digests: dict[int, str] = {}

    def grow(self, length: int) -> None:
        content, at = Generated(length), self.content.size
        for start in range(at, length, BLOCK):
            self._digester.update(content.read(start, min(start + BLOCK, length)))
        self._digests[length] = self._digester.hexdigest()
        self.content = content
        self._saves += 1

    @property
    def digest(self) -> str:
        return self._digests[self.content.size]

    def look(self, cursor: Cursor | None, *, with_document: bool) -> Look:
        size, saves = self.content.size, self._saves
        document = _document(saves) if with_document else None
        stat = Stat(size, saves, saves, 1, 1)
        snapshot = Snapshot(SESSION, stat, self.content, saves, document)
        return Look(snapshot, self.digest, cursor is None or self._holds(cursor))

    def _holds(self, cursor: Cursor) -> bool:
        return self._digests.get(cursor.length) == cursor.digest


def _document(saves: int) -> bytes:
    """What an agent keeps beside the messages: a few hundred bytes, others after each save."""
    return b'{"id":"s","updated_at":"%d","usage":"%s"}' % (saves, b"." * 400)


class Told(Worker):
    """A worker that is told what it sees."""

    seen: Growing

    async def _look(self, turn: Turn, cursor: Cursor | None, known: Record | None) -> Look:
        del known
        return self.seen.look(cursor, with_document=turn.settled)


class Machine:
    """One session's turns as the pool would give them, by a clock that only moves when told."""

    def __init__(self, store: S3Store, journal: Journal, names: Names) -> None:
        self.now = 1_700_000_000.0
        self._store = store
        self._due: float | None = None
        self._session = Growing()
        self._worker = Told(
            sources={"codetether": CodeTether((), {"HOME": "/nowhere"})},
            screens={},
            excluded={},
            journal=journal,
            uploader=Uploader(store, journal, names, clock=lambda: self.now),
            gate=Gate(8),
            budget=Budget(64 << 20),
            status=Status(),
            names=names,
            max_document=0,
            max_lag=MAX_LAG_S,
            wall_clock=lambda: self.now,
        )
        self._worker.seen = self._session

    async def find_out(self) -> None:
        """Let the store find out what the server does, which it does once in 30 days."""
        await self._store.put(f"{PREFIX}first", b"", {})
        await self._store.copies()

    async def save(self, length: int) -> None:
        self._session.grow(length)
        await self._turn()

    async def wait(self, seconds: float) -> None:
        """Let time go by, and take the turns that come once the session has been quiet."""
        end = self.now + seconds
        while self._due is not None and self._due <= end:
            self.now, self._due = max(self.now, self._due), None
            await self._turn(settled=True)
        self.now = end

    async def look_again(self) -> None:
        await self._turn(settled=True)

    async def drain(self) -> None:
        await self._turn(settled=True, sealing=True)

    async def require_archived(self) -> None:
        """Read the base back. Raises RuntimeError where it is not all there is."""
        tails, head = await list_tails(self._store, PREFIX, KEY), await self._store.head(KEY)
        held = await digest_of(self._store, KEY, None, head.etag) if head else ""
        if tails.segments or held != self._session.digest:
            raise RuntimeError("lost: the base is not the session")

    async def _turn(self, *, settled: bool = False, sealing: bool = False) -> None:
        quiet = settled and not sealing
        turn = Turn(SESSION, monotonic(), settled, sealing, quiet)
        more_in = await self._worker.attempt(turn)
        if more_in is not None and (more_in >= SETTLED_S or self._due is None):
            self._due = self.now + more_in


@asynccontextmanager
async def machine_of(server: Server, home: Path) -> AsyncIterator[Machine]:
    async with opened(server, home) as store, Journal(home / "journal.db") as journal:
        yield Machine(store, journal, Names(PREFIX, "bench.0123456789ab"))
