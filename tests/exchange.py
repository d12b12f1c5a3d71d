"""One request through the proxy: what is recorded of it and which fault befalls it.

Knows neither rules nor other requests.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.http1 import (
    LIMIT,
    LOST,
    Head,
    close,
    ends_with_connection,
    request_body,
    response_body,
    status_of,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer from the proxy; the server never sees the request."""

    status: int
    code: str
    headers: tuple[tuple[str, str], ...] = ()

    def render(self, method: str, *, closes: bool) -> bytes:
        """Return the response: an S3 error document, and none to HEAD."""
        error = f"<Code>{self.code}</Code><Message>injected</Message>"
        body = f'<?xml version="1.0" encoding="UTF-8"?><Error>{error}</Error>'.encode()
        lines = [f"HTTP/1.1 {self.status} Injected", "Content-Type: application/xml"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += ["Connection: close"] if closes else []
        lines += [f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode("latin-1") + (b"" if method == "HEAD" else body)


SLOW_DOWN = Answer(503, "SlowDown")
SERVER_ERROR = Answer(500, "InternalError")
EXPIRED_TOKEN = Answer(403, "ExpiredToken")
ACCESS_DENIED = Answer(403, "AccessDenied")
CLOCK_SKEWED = Answer(403, "RequestTimeTooSkewed")


def too_many_requests(retry_after: str) -> Answer:
    return Answer(429, "TooManyRequests", (("Retry-After", retry_after),))


@dataclass(frozen=True, slots=True)
class BlackHole:
    """Take the request's head and never do anything again, until the client leaves."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Close the connection; the server never sees the request."""


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """Let the server do it, then close the connection instead of answering."""


@dataclass(frozen=True, slots=True)
class FlipByte:
    """Change the first byte of the request's payload on its way to the server."""


@dataclass(frozen=True, slots=True)
class Drip:
    """Pass the answer on byte by byte with a pause, in seconds, after each."""

    pause: float = 0.05


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait for the event: before the server sees the request, or before the answer is given."""

    until: asyncio.Event
    answer: bool = False


Fault = Answer | BlackHole | Reset | LoseAnswer | FlipByte | Drip | Hold


@dataclass(slots=True)
class Seen:
    """One request, recorded when its head arrives and completed as it goes on."""

    method: str
    target: str
    headers: dict[str, str]
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    body_bytes: int = 0
    server_status: int | None = None  # what the server said
    status: int | None = None  # what the client was told, None while or if it was told nothing

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def key(self) -> str:
        return self.path.lstrip("/").partition("/")[2]

    @property
    def access_key(self) -> str:
        found = re.search(r"Credential=([^/]+)/", self.headers.get("authorization", ""))
        return found[1] if found else ""

    def matches(self, method: str = ".*", key: str = ".*") -> bool:
        found = re.fullmatch(method, self.method) and re.search(key, self.key, re.DOTALL)
        return found is not None


@dataclass(slots=True)
class Exchange:
    """One request on a client's connection and what becomes of it."""

    seen: Seen
    head: Head
    fault: Fault | None
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    changed: asyncio.Event  # set when there is more to see
    invited: bool = True  # whether the client may send the body

    async def run(self, connect: Connect) -> bool:
        """Serve the request; say whether the client's connection stays open."""
        self.invited = "expect" not in self.head.headers
        match self.fault:
            case Answer() as answer:
                return await self._answer(answer)
            case BlackHole():
                while data := await self.reader.read(LIMIT):
                    self.seen.body_bytes += len(data)
                    self.changed.set()
                return False
            case Reset():
                self.writer.transport.abort()
                return False
            case Hold(until=until, answer=False):
                await until.wait()
        up_reader, up_writer = await connect()
        try:
            return await self._forward(up_reader, up_writer)
        finally:
            await close(up_writer)

    async def _answer(self, answer: Answer) -> bool:
        stays = self.invited and not self.head.closes
        if self.invited:
            async for piece in request_body(self.head, self.reader):
                self.seen.body_bytes += len(piece.wire) if piece.payload else 0
        self.seen.status = answer.status
        self.writer.write(answer.render(self.seen.method, closes=not stays))
        await self.writer.drain()
        return stays

    async def _forward(
        self, up_reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter
    ) -> bool:
        sending = asyncio.create_task(self._send(up_writer), name="proxy.send")
        try:
            response = await self._response_head(up_reader)
            self.seen.server_status = int(status_of(response))
            self.changed.set()
            stays = await self._give(response, up_reader)
            if stays:
                await sending
            return stays
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, up_writer: asyncio.StreamWriter) -> None:
        try:
            up_writer.write(self.head.raw)
            flip = _Flip(self.head) if isinstance(self.fault, FlipByte) else None
            # A server may answer and close on the last of the payload: the framing behind it,
            # sent on its own, would meet a reset that takes the answer with it.
            pending = b""
            async for piece in request_body(self.head, self.reader):
                if not piece.payload:
                    pending += piece.wire
                    continue
                up_writer.write(pending)
                await up_writer.drain()
                self.seen.body_bytes += len(piece.wire)
                pending = flip(piece.wire) if flip else piece.wire
            up_writer.write(pending)
            await up_writer.drain()
        except LOST:
            up_writer.transport.abort()  # or the server would wait for the rest
            raise

    async def _response_head(self, up_reader: asyncio.StreamReader) -> Head:
        """Pass interim answers on; return the final one."""
        while status_of(head := await Head.read(up_reader)).startswith("1"):
            self.invited = True
            self.writer.write(head.raw)
        return head

    async def _give(self, response: Head, up_reader: asyncio.StreamReader) -> bool:
        method = self.seen.method
        body = response_body(response, up_reader, method=method)
        if isinstance(self.fault, LoseAnswer):
            async for _ in body:
                pass
            return False
        if isinstance(self.fault, Hold):
            await self.fault.until.wait()
        # A client that was refused before its body may send it or not: nobody could tell
        # it from the next request.
        stays = self.invited and not ends_with_connection(response, method=method)
        stays = stays and not self.head.closes
        self.seen.status = self.seen.server_status
        await self._write(response.raw if stays else response.with_close())
        async for piece in body:
            await self._write(piece.wire)
        return stays

    async def _write(self, data: bytes) -> None:
        if not isinstance(self.fault, Drip):
            self.writer.write(data)
            await self.writer.drain()
            return
        for byte in data:
            self.writer.write(bytes([byte]))
            await self.writer.drain()
            await asyncio.sleep(self.fault.pause)


class _Flip:
    """Flips one byte of a payload, behind the first line if the payload is aws-chunked."""

    def __init__(self, head: Head) -> None:
        encoding = head.headers.get("content-encoding", "")
        self._done = False
        self._in_line = "aws-chunked" in encoding

    def __call__(self, data: bytes) -> bytes:
        if self._done:
            return data
        at = 0
        if self._in_line:
            at = data.find(b"\n") + 1
            self._in_line = at == 0
        if self._in_line or at >= len(data):
            return data
        self._done = True
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
