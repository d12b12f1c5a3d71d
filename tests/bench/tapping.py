"""The process of a tap: connections passed through, requests counted, arrivals noticed."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import parse_qs

import uvloop

from tests.bench.framing import Framing
from tests.bench.marker import LastMarker

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from tests.bench.framing import Head
    from tests.bench.marker import Marker

_BACKLOG = 1024


class Arrival(NamedTuple):
    """A request succeeded; the last message in its body was this one."""

    at: float  # by time.monotonic, when the answer had come
    session_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What went through, failed requests included."""

    requests: int = 0
    body_bytes: int = 0  # of requests
    answer_bytes: int = 0  # of the bodies of answers
    by_method: Counter[str] = field(default_factory=Counter)
    by_status: Counter[int] = field(default_factory=Counter)  # 0: no answer came

    def __sub__(self, before: Counts) -> Counts:
        """Return what was counted since `before`."""
        return Counts(
            self.requests - before.requests,
            self.body_bytes - before.body_bytes,
            self.answer_bytes - before.answer_bytes,
            self.by_method - before.by_method,
            self.by_status - before.by_status,
        )


class _Exchange:
    """One request and its answer."""

    __slots__ = ("last", "method", "status", "target")

    def __init__(self, method: str, target: str) -> None:
        self.method = method
        self.target = target
        self.last = LastMarker()
        self.status = 0


class Record:
    """What was counted so far, and what arrived."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.body_bytes = 0
        self.answer_bytes = 0
        self._by_method: Counter[str] = Counter()
        self._by_status: Counter[int] = Counter()
        self._uploads: dict[str, dict[int, Marker]] = {}  # by uploadId, then by part

    def counts(self) -> Counts:
        by_method, by_status = self._by_method.copy(), self._by_status.copy()
        return Counts(by_method.total(), self.body_bytes, self.answer_bytes, by_method, by_status)

    def begins(self, exchange: _Exchange) -> None:
        self._by_method[exchange.method] += 1

    def ends(self, exchange: _Exchange, at: float) -> None:
        """Take note of an answer, or that none came.

        What is in parts arrives with the last request for them. (S3 may say 200 to that and fail
        in the body; the servers that are measured here do not.)
        """
        self._by_status[exchange.status] += 1
        if not 200 <= exchange.status < 300:
            return
        found = exchange.last.found
        query = parse_qs(exchange.target.partition("?")[2])
        if "uploadId" in query:
            upload = query["uploadId"][0]
            if "partNumber" in query:
                if found is not None:
                    self._uploads.setdefault(upload, {})[int(query["partNumber"][0])] = found
                return
            parts = self._uploads.pop(upload, {})
            found = parts[max(parts)] if parts and exchange.method == "POST" else None
        if found is not None:
            self.arrivals.append(Arrival(at, *found))


class _End(asyncio.Protocol):
    """One end of a passed connection: what it gets goes to the other end, and is looked at."""

    other: _End
    framing: Framing
    transport: asyncio.Transport

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)
        self.framing.feed(data)

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        with suppress(RuntimeError):  # it is closing
            self.other.transport.resume_reading()


class _ToServer(_End):
    """The connection to the server. As a listener: of its answers."""

    def __init__(self, client: _FromClient) -> None:
        self.other: _FromClient = client
        self.framing = Framing(self, unframed_is_empty=False)
        self._is_interim = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.framing.closed()
        self.other.transport.close()

    def head(self, head: Head) -> bool:
        status = int(head.start.split(" ", 2)[1])
        # Servers also say, unasked, that they have waited long enough.
        self._is_interim = status < 200 or not self.other.waiting
        if self._is_interim:
            return False
        exchange = self.other.waiting[0]
        exchange.status = status
        return status not in {204, 304} and exchange.method != "HEAD"

    def body(self, piece: bytes) -> None:
        self.other.record.answer_bytes += len(piece)

    def end(self) -> None:
        if not self._is_interim:
            self.other.record.ends(self.other.waiting.popleft(), time.monotonic())


class _FromClient(_End):
    """The connection of a client. As a listener: of its requests."""

    def __init__(self, front: _Front) -> None:
        self.record = front.record
        self.waiting: deque[_Exchange] = deque()  # for their answers
        self.framing = Framing(self, unframed_is_empty=True)
        self._front = front
        self._is_lost = False
        self._early: list[bytes] | None = []  # what came before there was a way to the server
        self._connecting: asyncio.Task[None] | None = None
        self._exchange = _Exchange("", "")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._front.clients.add(self)
        self._connecting = asyncio.create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        if self._early is None:
            super().data_received(data)
        else:
            self._early.append(data)

    async def _connect(self) -> None:
        host, port = self._front.upstream
        loop = asyncio.get_running_loop()
        try:
            _, self.other = await loop.create_connection(lambda: _ToServer(self), host, port)
        except OSError:
            self.transport.abort()
            return
        if self._is_lost:
            self.other.transport.abort()
            return
        early, self._early = self._early or [], None
        for data in early:
            super().data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = True
        self._front.clients.discard(self)
        for exchange in self.waiting:
            exchange.status = 0  # also where an answer had begun
            self.record.ends(exchange, time.monotonic())
        self.waiting.clear()
        if hasattr(self, "other"):
            self.other.transport.abort()

    def head(self, head: Head) -> bool:
        method, target, _ = head.start.split(" ", 2)
        self._exchange = _Exchange(method, target)
        self.waiting.append(self._exchange)
        self.record.begins(self._exchange)
        return True

    def body(self, piece: bytes) -> None:
        self.record.body_bytes += len(piece)
        self._exchange.last.feed(piece)

    def end(self) -> None:
        pass  # an exchange ends with its answer


class _Front:
    """The port, which may be closed for a while."""

    def __init__(self, port: int, upstream: tuple[str, int]) -> None:
        self.record = Record()
        self.clients: set[_FromClient] = set()
        self.upstream = upstream
        self._port = port
        self._server: asyncio.Server | None = None

    async def accept(self) -> None:
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: _FromClient(self), "127.0.0.1", self._port, backlog=_BACKLOG
            )

    async def refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            for client in list(self.clients):
                client.transport.abort()
            await self._server.wait_closed()
            self._server = None


def serve(pipe: Connection, port: int, upstream_host: str, upstream_port: int) -> None:
    """Do as the pipe says, until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the pipe's end is the end
    gc.disable()  # connections are few, and exchanges are in no cycles
    uvloop.run(_serve(pipe, _Front(port, (upstream_host, upstream_port))))


async def _serve(pipe: Connection, front: _Front) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            command = await loop.run_in_executor(None, pipe.recv)
        except EOFError:
            await front.refuse()
            return
        match command:
            case "accept":
                await front.accept()
                pipe.send(None)
            case "refuse":
                await front.refuse()
                pipe.send(None)
            case "counts":
                pipe.send(front.record.counts())
            case "arrivals":
                pipe.send(front.record.arrivals)
