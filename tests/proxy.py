"""A proxy in front of one S3 server that records requests and injects the faults tests ask for.

It speaks HTTP/1.1 on bytes, because the faults are on that level: it passes heads on unchanged,
the Host among them, so clients sign for the proxy. `FaultProxy` runs in the test's own event
loop, and a daemon process beside the test may be its client; `in_thread` runs one for tests
without a loop. It knows nothing of S3 beyond the shape of paths, errors and signatures.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import tempfile
import threading
import time
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trustme

from tests.exchange import (
    ACCESS_DENIED,
    CLOCK_SKEWED,
    EXPIRED_TOKEN,
    SERVER_ERROR,
    SLOW_DOWN,
    Answer,
    BlackHole,
    Drip,
    Exchange,
    Fault,
    FlipByte,
    Hold,
    LoseAnswer,
    Reset,
    Seen,
    too_many_requests,
)
from tests.http1 import LIMIT, LOST, Head, close
from tests.servers.process import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from tests.servers.server import Server

__all__ = [
    "ACCESS_DENIED",
    "CLOCK_SKEWED",
    "EXPIRED_TOKEN",
    "SERVER_ERROR",
    "SLOW_DOWN",
    "Answer",
    "BlackHole",
    "Drip",
    "FaultProxy",
    "FlipByte",
    "Hold",
    "LoseAnswer",
    "Reset",
    "Rule",
    "Seen",
    "in_thread",
    "too_many_requests",
]

WAIT = 10.0
"""Seconds within which what a test waits for has to happen."""


@dataclass(slots=True)
class Rule:
    """A fault and the requests it befalls: all that match, the first `times`, or by chance."""

    fault: Fault
    method: str = ".*"
    key: str = ".*"
    times: int | None = None
    probability: float = 1.0
    hits: int = 0

    def befalls(self, seen: Seen, chance: random.Random) -> bool:
        if self.times is not None and self.hits >= self.times:
            return False
        return seen.matches(self.method, self.key) and chance.random() < self.probability


class FaultProxy:
    """`async with FaultProxy(server, tls=True) as proxy`: `proxy.server` is for the clients."""

    def __init__(self, server: Server, *, tls: bool = False, seed: int = 0) -> None:
        self.requests: list[Seen] = []
        self.rules: list[Rule] = []
        self.server = server
        self._upstream = server
        self._tls = tls
        self._chance = random.Random(seed)
        self._context: ssl.SSLContext | None = None
        self._upstream_context: ssl.SSLContext | None = None
        if server.over_tls:
            self._upstream_context = ssl.create_default_context(cafile=server.ca_bundle)
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self) -> None:
        ca_bundle = None
        if self._tls:
            home = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="transcriptd-ca-"))
            ca_bundle = str(Path(home) / "ca.pem")
            authority = trustme.CA()
            authority.cert_pem.write_to_path(ca_bundle)
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            authority.issue_cert("127.0.0.1", "localhost").configure_cert(self._context)
        port = free_port()
        await self._listen(port)
        endpoint = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        self.server = replace(self._upstream, endpoint=endpoint, ca_bundle=ca_bundle)

    async def close(self) -> None:
        await self.refuse()
        await self._stack.aclose()

    def add(
        self,
        fault: Fault,
        *,
        method: str = ".*",
        key: str = ".*",
        times: int | None = None,
        probability: float = 1.0,
    ) -> Rule:
        """Set a fault for requests by a method and a part of a key, both regular expressions."""
        rule = Rule(fault, method, key, times, probability)
        self.rules.append(rule)
        return rule

    def seen(self, method: str = ".*", key: str = ".*") -> list[Seen]:
        return [seen for seen in self.requests if seen.matches(method, key)]

    def count(self, method: str = ".*", key: str = ".*") -> int:
        return len(self.seen(method, key))

    async def until(self, holds: Callable[[], object], within: float = WAIT) -> None:
        """Wait until something recorded makes `holds` true. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def refuse(self) -> None:
        """Close the port and every connection: the next one is refused."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def accept(self) -> None:
        """Open the port again, the same one as before."""
        await self._listen(urlsplit(self.server.endpoint).port or 0)

    async def _listen(self, port: int) -> None:
        self._listener = await asyncio.start_server(
            self._connected, "127.0.0.1", port, ssl=self._context, limit=LIMIT, backlog=1024
        )

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = urlsplit(self._upstream.endpoint)
        return await asyncio.open_connection(
            address.hostname, address.port, ssl=self._upstream_context, limit=LIMIT
        )

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._one_request(reader, writer):
                pass
        except LOST:
            pass  # the client left, or the server did: either end sees a closed connection
        except asyncio.CancelledError:  # by `refuse`, which waits for this task
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            await close(writer)

    async def _one_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Serve one request; say whether the connection stays open."""
        head = await Head.read(reader)
        method, target, _ = head.start.split(" ", 2)
        seen = Seen(method, target, head.headers)
        self.requests.append(seen)
        fault = self._fault_for(seen)
        self._changed.set()
        exchange = Exchange(seen, head, fault, reader, writer, self._changed)
        try:
            return await exchange.run(self._connect)
        finally:
            seen.ended = time.monotonic()
            self._changed.set()

    def _fault_for(self, seen: Seen) -> Fault | None:
        rule = next((rule for rule in self.rules if rule.befalls(seen, self._chance)), None)
        if rule is None:
            return None
        rule.hits += 1
        return rule.fault


@contextmanager
def in_thread(server: Server, *, tls: bool = False) -> Iterator[FaultProxy]:
    """Run a proxy on a loop of its own, for what has none."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy", daemon=True)
    thread.start()
    proxy = FaultProxy(server, tls=tls)
    try:
        asyncio.run_coroutine_threadsafe(proxy.open(), loop).result(WAIT)
        try:
            yield proxy
        finally:
            asyncio.run_coroutine_threadsafe(proxy.close(), loop).result(WAIT)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
