"""What a growing session costs on the wire, beside writing it whole at each save.

Requests and their bodies are counted by a proxy in front of a real server. Sessions are neither
files nor JSON here, because the wire is measured and not parsing; everything from the worker on is
the daemon's own. `tests/integration/test_wire.py` holds the figures to their budgets.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from tests.contract.s3 import BLOCK, PREFIX, Generated, opened
from tests.proxy import FaultProxy
from tests.servers import create_bucket
from tests.servers.request import send
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
    from collections.abc import AsyncIterator, Iterable, Sequence

    from tests.exchange import Seen
    from tests.servers import Server
    from transcriptd.model import Cursor
    from transcriptd.stores.s3 import S3Store

KB, MB, GB = 10**3, 10**6, 10**9
_SESSION = Session("codetether", "s", "/nowhere", "s.json")
_KEY = history_key(PREFIX, _SESSION.id)
_MAX_LAG_S = 1800.0
_SENT_UP_TO = GB  # beyond, what writing whole objects sends is added up


@dataclass(frozen=True, slots=True)
class Growth:
    """A session that grows by `new` bytes in `saves` equal steps, and is then drained.

    Its first `before` bytes are archived before anything is counted. There is a save each `every_s`
    seconds, and no save for `pause_s` seconds after every `pause_after` of them.
    """

    name: str
    saves: int
    new: int
    before: int = 0
    every_s: float = 1.0
    pause_after: int = 0
    pause_s: float = SETTLED_S

    @property
    def length(self) -> int:
        return self.before + self.new

    @property
    def lengths(self) -> list[int]:
        """How long the session is after each save."""
        steps = range(1, self.saves + 1)
        return [self.before + self.new * step // self.saves for step in steps]


MEGABYTE = Growth("0 to 1 MB", 500, MB)
PAUSES = Growth("0 to 1 MB, a minute's pause after every tenth save", 500, MB, pause_after=10)
FIVE = Growth("0 to 5 MB", 2000, 5 * MB)
FIFTY = Growth("0 to 50 MB", 2000, 50 * MB)
APPEND = Growth("64 KiB appended to 1 GB", 1, 64 << 10, before=GB)
GROWTHS = (MEGABYTE, PAUSES, FIVE, FIFTY, APPEND)


@dataclass(frozen=True, slots=True)
class Cost:
    """What was sent: requests by what they are for, and the bytes of their bodies."""

    growth: Growth
    body_bytes: int
    requests: Counter[str] = field(default_factory=Counter)

    @property
    def times(self) -> float:
        """Bytes sent for each new byte."""
        return self.body_bytes / self.growth.new

    @property
    def requests_per_save(self) -> float:
        return self.requests.total() / self.growth.saves


async def archive(server: Server, growth: Growth) -> Cost:
    """Archive a growing session; return what that took. Raises where something is not archived."""
    with tempfile.TemporaryDirectory(prefix="transcriptd-wire-") as home:
        async with FaultProxy(server) as proxy, _machine(proxy.server, Path(home)) as machine:
            await machine.find_out()
            if growth.before:
                await machine.save(growth.before)
                await machine.wait(2 * SETTLED_S)
            already = len(proxy.requests)
            for number, length in enumerate(growth.lengths, 1):
                await machine.save(length)
                await machine.wait(growth.every_s)
                if growth.pause_after and number % growth.pause_after == 0:
                    await machine.wait(growth.pause_s)
            await machine.drain()
            cost = _cost(growth, proxy.requests[already:])
            await machine.require_archived()
            return cost


async def stay(server: Server, growth: Growth, idle_s: float) -> Counter[str]:
    """Return what is asked for in `idle_s` seconds after a session has grown and become quiet."""
    with tempfile.TemporaryDirectory(prefix="transcriptd-wire-") as home:
        async with FaultProxy(server) as proxy, _machine(proxy.server, Path(home)) as machine:
            await machine.find_out()
            for length in growth.lengths:
                await machine.save(length)
                await machine.wait(growth.every_s)
            await machine.wait(SETTLED_S)
            already = len(proxy.requests)
            await machine.wait(idle_s)
            return _cost(growth, proxy.requests[already:]).requests


async def rewrite(server: Server, growth: Growth) -> Cost:
    """Write the whole session at each save, as CodeTether's own sink does.

    Really, up to 1 GB in all; beyond, the bodies are added up.
    """
    total = sum(growth.lengths)
    if total > _SENT_UP_TO:
        return Cost(growth, total, Counter(base=growth.saves))
    async with FaultProxy(server) as proxy:
        path = f"/{server.bucket}/{_KEY}"
        for length in growth.lengths:
            body = Generated(length).read(0, length)
            status, _ = await asyncio.to_thread(send, proxy.server, "PUT", path, body)
            if status != 200:
                raise RuntimeError(f"the server answered {status}")
        return _cost(growth, proxy.requests)


class _Session:
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
        document = b'{"id":"s","updated_at":"%d"}' % saves if with_document else None
        stat = Stat(size, saves, saves, 1, 1)
        snapshot = Snapshot(_SESSION, stat, self.content, saves, document)
        return Look(snapshot, self.digest, cursor is None or self._holds(cursor))

    def _holds(self, cursor: Cursor) -> bool:
        return self._digests.get(cursor.length) == cursor.digest


class _Worker(Worker):
    """A worker that is told what it sees."""

    seen: _Session

    async def _look(self, turn: Turn, cursor: Cursor | None) -> Look:
        return self.seen.look(cursor, with_document=turn.settled)


class _Machine:
    """One session's turns as the pool would give them, by a clock that only moves when told."""

    def __init__(self, store: S3Store, journal: Journal, names: Names) -> None:
        self.now = 1_700_000_000.0
        self._store = store
        self._due: float | None = None
        self._session = _Session()
        self._worker = _Worker(
            sources={"codetether": CodeTether((), {"HOME": "/nowhere"})},
            journal=journal,
            uploader=Uploader(store, journal, names, clock=lambda: self.now),
            gate=Gate(8),
            budget=Budget(64 << 20),
            status=Status(),
            names=names,
            max_document=0,
            max_lag=_MAX_LAG_S,
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

    async def drain(self) -> None:
        await self._turn(settled=True, sealing=True)

    async def require_archived(self) -> None:
        """Read the base back. Raises RuntimeError where it is not all there is."""
        tails = await list_tails(self._store, PREFIX, _KEY)
        if tails.segments or await digest_of(self._store, _KEY, None, None) != self._session.digest:
            raise RuntimeError("lost: the base is not the session")

    async def _turn(self, *, settled: bool = False, sealing: bool = False) -> None:
        turn = Turn(_SESSION, monotonic(), settled, sealing)
        more_in = await self._worker.attempt(turn)
        if more_in is not None and (more_in >= SETTLED_S or self._due is None):
            self._due = self.now + more_in


@asynccontextmanager
async def _machine(server: Server, home: Path) -> AsyncIterator[_Machine]:
    async with opened(server, home) as store, Journal(home / "journal.db") as journal:
        yield _Machine(store, journal, Names(PREFIX, "bench.0123456789ab"))


def _cost(growth: Growth, requests: Sequence[Seen]) -> Cost:
    body_bytes = sum(seen.body_bytes for seen in requests)
    return Cost(growth, body_bytes, Counter(map(_purpose, requests)))


def _purpose(seen: Seen) -> str:
    """Say what a request is for."""
    words = {part.partition("=")[0] for part in seen.query.split("&")}
    match seen.method:
        case "PUT" if "partNumber" in words:
            return "part copy" if "x-amz-copy-source" in seen.headers else "part"
        case "PUT" if "/.tail/" in seen.key:
            return "claim" if "/writer-" in seen.key else "tail"
        case "PUT":
            return "base" if seen.key == _KEY else "document"
        case "POST":
            return "delete" if "delete" in words else "upload"
        case "GET":
            return "list" if "list-type" in words else "get"
    return seen.method.lower()


def run(server: Server) -> list[tuple[Cost, Cost]]:
    """Archive every growing session, beside writing it whole at each save."""

    async def both(growth: Growth) -> tuple[Cost, Cost]:
        whole = await rewrite(create_bucket(server), growth)
        return await archive(create_bucket(server), growth), whole

    return [asyncio.run(both(growth)) for growth in GROWTHS]


def table(rows: Iterable[tuple[Cost, Cost]]) -> str:
    """Return the figures for people, as Markdown."""
    lines = [
        "| scenario | saves | final size | bodies × | requests/save | whole-object rewriting × |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for cost, whole in rows:
        growth = cost.growth
        cells = (
            growth.name,
            f"{growth.saves:,}",
            f"{growth.length / MB:,.0f} MB",
            f"{cost.times:.2f}",
            f"{cost.requests_per_save:.2f}",
            f"{whole.times:,.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
