"""What a growing session costs on the wire, beside writing it whole at each save.

Requests and their bodies are counted by a proxy in front of a real server; what the store finds out
about that server, once in 30 days, is left out. `tests/integration/test_wire.py` holds the figures
to their budgets.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.growing import KEY, machine_of
from tests.bench.result import Figure
from tests.contract.s3 import Generated
from tests.proxy import FaultProxy
from tests.servers import create_bucket
from tests.servers.request import send
from transcriptd.pool import SETTLED_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tests.exchange import Seen
    from tests.servers import Server

KB, MB, GB = 10**3, 10**6, 10**9
SUBJECT = "transcriptd"
WHOLE = "whole object"
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
    """What was sent: requests by what they are for, and the bytes of their bodies.

    Or what would have been: where not `is_sent`, it was added up.
    """

    growth: Growth
    body_bytes: int
    requests: Counter[str]
    is_sent: bool = True

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
        async with FaultProxy(server) as proxy, machine_of(proxy.server, Path(home)) as machine:
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
    """Return what is asked for in `idle_s` seconds after a session has grown and become quiet.

    It is looked at each minute, as if something had touched it.
    """
    with tempfile.TemporaryDirectory(prefix="transcriptd-wire-") as home:
        async with FaultProxy(server) as proxy, machine_of(proxy.server, Path(home)) as machine:
            await machine.find_out()
            for length in growth.lengths:
                await machine.save(length)
                await machine.wait(growth.every_s)
            await machine.wait(SETTLED_S)
            already = len(proxy.requests)
            for _ in range(int(idle_s / SETTLED_S)):
                await machine.wait(SETTLED_S)
                await machine.look_again()
            return _cost(growth, proxy.requests[already:]).requests


async def rewrite(server: Server, growth: Growth) -> Cost:
    """Write the whole session at each save, as CodeTether's own sink does.

    Really, up to 1 GB in all; beyond, the bodies are added up.
    """
    total = sum(growth.lengths)
    if total > _SENT_UP_TO:
        return Cost(growth, total, Counter(base=growth.saves), is_sent=False)
    async with FaultProxy(server) as proxy:
        path = f"/{server.bucket}/{KEY}"
        for length in growth.lengths:
            body = Generated(length).read(0, length)
            status, _ = await asyncio.to_thread(send, proxy.server, "PUT", path, body)
            if status != 200:
                raise RuntimeError(f"the server answered {status}")
        return _cost(growth, proxy.requests)


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
            return "base" if seen.key == KEY else "document"
        case "POST":
            return "delete" if "delete" in words else "upload"
        case "GET":
            return "list" if "list-type" in words else "get"
    return seen.method.lower()


def run(server: Server, growths: Iterable[Growth] = GROWTHS) -> list[Figure]:
    """Archive growing sessions, beside writing them whole at each save; beyond 1 GB, as if."""
    found: list[Figure] = []
    for growth in growths:
        print(f"wire: {growth.name}, {growth.saves:,} saves", flush=True)
        whole = asyncio.run(rewrite(create_bucket(server), growth))
        cost = asyncio.run(archive(create_bucket(server), growth))
        found += [*_figures(cost, SUBJECT), *_figures(whole, WHOLE)]
    return found


def _figures(cost: Cost, who: str) -> Iterator[Figure]:
    name = cost.growth.name
    yield Figure(name, who, "bytes on the wire per new byte", "", cost.times)
    yield Figure(name, who, "requests per save", "", cost.requests_per_save)
    yield Figure(name, who, "saves", "", cost.growth.saves)
    for purpose, count in sorted(cost.requests.items()):
        yield Figure(name, who, f"requests: {purpose}", "", count)
