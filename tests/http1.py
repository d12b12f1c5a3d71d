"""HTTP/1.1 on the wire: heads kept as they were sent, bodies in pieces. Knows no faults."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

LIMIT = 1 << 20
"""The longest head, in bytes; for `limit=` of asyncio's streams."""

LOST = (OSError, EOFError, ssl.SSLError)
"""What reading and writing raise when the other side has gone."""

_PIECE = 65536
_CLOSE_WITHIN = 1.0
_BODILESS = frozenset({"204", "304"})


@dataclass(frozen=True, slots=True)
class Head:
    """A start line and its headers; names are in lower case, the last of equal names wins."""

    raw: bytes
    start: str
    headers: dict[str, str]

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> Self:
        """Read one head. Raises one of `LOST` when the connection ends before it."""
        raw = await reader.readuntil(b"\r\n\r\n")
        start, *lines = raw[:-4].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return cls(raw, start, {name.strip().lower(): value.strip() for name, _, value in pairs})

    @property
    def chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def length(self) -> int | None:
        value = self.headers.get("content-length")
        return None if value is None else int(value)

    @property
    def closes(self) -> bool:
        """Whether its sender closes the connection afterwards, by its version or by its word."""
        connection = self.headers.get("connection", "").lower()
        return "close" in connection or ("HTTP/1.0" in self.start and "keep" not in connection)

    def with_close(self) -> bytes:
        return self.raw[:-2] + b"Connection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a body as they are on the wire: payload, or the framing of chunks."""

    wire: bytes
    payload: bool = True


async def request_body(head: Head, reader: asyncio.StreamReader) -> AsyncIterator[Piece]:
    pieces = _chunks(reader) if head.chunked else _exactly(reader, head.length or 0)
    async for piece in pieces:
        yield piece


async def response_body(
    head: Head, reader: asyncio.StreamReader, *, method: str
) -> AsyncIterator[Piece]:
    if method == "HEAD" or status_of(head) in _BODILESS:
        return
    if head.chunked:
        pieces = _chunks(reader)
    elif head.length is not None:
        pieces = _exactly(reader, head.length)
    else:
        pieces = _until_closed(reader)
    async for piece in pieces:
        yield piece


def status_of(head: Head) -> str:
    return head.start.split(" ", 2)[1]


def ends_with_connection(head: Head, *, method: str) -> bool:
    """Say whether only the end of the connection ends this response."""
    framed = head.chunked or head.length is not None
    return head.closes or not (framed or method == "HEAD" or status_of(head) in _BODILESS)


async def close(writer: asyncio.StreamWriter) -> None:
    """Flush and close, and give up on a peer that takes too long."""
    writer.close()
    try:
        async with asyncio.timeout(_CLOSE_WITHIN):
            await writer.wait_closed()
    except (*LOST, TimeoutError):
        writer.transport.abort()
        with suppress(*LOST):
            await writer.wait_closed()


async def _exactly(reader: asyncio.StreamReader, left: int) -> AsyncIterator[Piece]:
    while left:
        data = await reader.read(min(_PIECE, left))
        if not data:
            raise EOFError("the connection ended within a body")
        left -= len(data)
        yield Piece(data)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[Piece]:
    while True:
        line = await reader.readuntil(b"\r\n")
        yield Piece(line, payload=False)
        size = int(line.partition(b";")[0], 16)
        if not size:
            break
        async for piece in _exactly(reader, size):
            yield piece
        yield Piece(await reader.readexactly(2), payload=False)
    while line != b"\r\n":  # trailers, then an empty line
        line = await reader.readuntil(b"\r\n")
        yield Piece(line, payload=False)


async def _until_closed(reader: asyncio.StreamReader) -> AsyncIterator[Piece]:
    while data := await reader.read(_PIECE):
        yield Piece(data)
