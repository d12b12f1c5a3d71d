"""Fetches pieces into memory: from this store under their ETag, or from a content in a thread."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from transcriptd.content import BLOCK
from transcriptd.errors import Changing, ConditionFailed, NotFound, RangeInvalid
from transcriptd.stores import Fresh, Stored
from transcriptd.stores.s3_parts import size_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from transcriptd.stores import Piece, Reading


class Read(Protocol):
    """Reads an object, as `Store.read` does."""

    def __call__(
        self, key: str, start: int, end: int, *, etag: str
    ) -> AbstractAsyncContextManager[Reading]: ...


@asynccontextmanager
async def together() -> AsyncIterator[asyncio.TaskGroup]:
    """Run tasks, all or none; what is raised is what the first of them failed of."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def gathered(pieces: Sequence[Piece], read: Read) -> io.BytesIO:
    """Return the bytes of all pieces; they are in memory once.

    Raises `ConditionFailed` where a stored piece is no longer what it was, and whatever reading a
    content raises.
    """
    match pieces:
        case [Fresh(content, 0, end)] if end == content.size:
            return io.BytesIO(_all(await asyncio.to_thread(content.read, 0, end), end))
    buffer = io.BytesIO()
    if size := size_of(pieces):
        buffer.seek(size - 1)
        buffer.write(b"\0")
    with buffer.getbuffer() as view:
        async with together() as group:
            at = 0
            for piece in pieces:
                end = at + piece.end - piece.start
                group.create_task(_fetch(piece, view[at:end], read), name="store.gather")
                at = end
    buffer.seek(0)
    return buffer


async def _fetch(piece: Piece, into: memoryview, read: Read) -> None:
    with into:
        match piece:
            case Fresh():
                await asyncio.to_thread(_copy, piece, into)
            case Stored(key, start, end, etag):
                try:
                    async with read(key, start, end, etag=etag) as reading:
                        at = 0
                        async for chunk in reading.chunks:
                            into[at : at + len(chunk)] = chunk
                            at += len(chunk)
                except (NotFound, RangeInvalid):
                    at = 0
                if at != len(into):
                    raise ConditionFailed("compose: a piece is not what it was")


def _copy(piece: Fresh, into: memoryview) -> None:
    # In small blocks: what a thread allocates, its share of the heap keeps for a while. Each is
    # one of the content's own, which may read all of a block to prove a part of it.
    at = piece.start
    while at < piece.end:
        end = min(at - at % BLOCK + BLOCK, piece.end)
        into[at - piece.start : end - piece.start] = _all(piece.content.read(at, end), end - at)
        at = end


def _all(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise Changing(f"{len(data)} bytes were read where there were {size}")
    return data
