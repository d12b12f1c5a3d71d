"""The reading side: the bytes of a stream, of the current generation or of a finished one.

Owns where a stream's bytes are and how reading goes on after a failure. A byte at (stream,
generation, offset) never changes, so a reader that was cut off goes on at its offset in the same
generation, wherever that is by then. Writes nothing; knows no source and no journal.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tenacity.stop import stop_base

from transcriptd.errors import (
    AccessDenied,
    AuthFailed,
    BucketMissing,
    ConditionFailed,
    Damaged,
    NotFound,
    Superseded,
)
from transcriptd.gate import Gate
from transcriptd.layout import (
    Meta,
    closed_generation,
    generation_key,
    generations_prefix,
    history_key,
)
from transcriptd.pointer import PointerHandle
from transcriptd.retry import is_worth_a_retry, until_done

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tenacity import RetryCallState

    from transcriptd.stores import Head, Store

ATTEMPTS = 5
_ATTEMPTS_AT_CREDENTIALS = 2
_SESSION_ID = re.compile(r"[\w-]{1,128}")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `[start, end)` of the stream under a base key.

    `end` is `None` for all there is, `generation` for the current one.
    """

    key: str
    start: int = 0
    end: int | None = None
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream being read.

    `generation` is `None` where somebody else wrote the object; `length` is that of the whole
    generation, in bytes; `chunks` gives what was asked for, as it comes.
    """

    generation: int | None
    length: int
    chunks: AsyncIterator[bytes]


def span_of(prefix: str, what: str | PointerHandle) -> Span:
    """Say which bytes a session id, a key or a handle means. Raises `ValueError` for others."""
    if isinstance(what, PointerHandle):
        start, end = what.byte_range or (0, None)
        return Span(what.key, start, end, what.generation)
    if "/" in what:
        return Span(what)
    if not _SESSION_ID.fullmatch(what):
        raise ValueError(f"neither a session id nor a key: {what!r}")
    return Span(history_key(prefix, what))


class Bounded(stop_base):
    """Gives up after `attempts`; refused credentials are looked up anew once, no more."""

    def __init__(self, attempts: int) -> None:
        self._attempts = attempts

    def __call__(self, retry_state: RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        refused = isinstance(error, AuthFailed)
        limit = min(self._attempts, _ATTEMPTS_AT_CREDENTIALS) if refused else self._attempts
        return retry_state.attempt_number >= limit


def may_pass(error: BaseException) -> bool:
    """Whether somebody who waits for an answer should wait for this to be over."""
    return is_worth_a_retry(error) and not isinstance(error, AccessDenied | BucketMissing)


@asynccontextmanager
async def open_stream(
    store: Store,
    prefix: str,
    span: Span,
    *,
    attempts: int = ATTEMPTS,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[Stream]:
    """Open a stream. `attempts` is how often in a row it is tried to get one more byte.

    Raises, here or at any chunk, `NotFound`, `RangeInvalid` (`start` at or behind the end) and
    every other `StoreError`, `Superseded` where the archive changes too fast, `ValueError` for a
    key that cannot be.
    """
    reader = _Reader(store, prefix, span, attempts, sleep)
    try:
        await reader.open()
        yield Stream(reader.generation, reader.length, reader.chunks())
    finally:
        await reader.close()


class _Reader:
    """Reads a span piece by piece. What it pinned at first it stays with."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        span: Span,
        attempts: int,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.generation = span.generation
        self.length = 0
        self._store = store
        self._prefix = prefix
        self._key = span.key
        self._offset = span.start
        self._end = span.end
        self._pinned: Head | None = None
        self._base_seen: str | None = None
        self._persist = partial(until_done, worth_it=may_pass, stop=Bounded(attempts), sleep=sleep)
        self._gate = Gate(1)
        self._opened = AsyncExitStack()
        self._pieces: AsyncIterator[bytes] | None = None

    async def open(self) -> None:
        await self._persist(self._attempt_open)

    async def chunks(self) -> AsyncIterator[bytes]:
        while chunk := await self._persist(self._attempt_chunk):
            yield chunk

    async def close(self) -> None:
        self._pieces = None
        await self._opened.aclose()

    async def _attempt_open(self) -> None:
        async with self._gate.turn():
            await self._reopen()

    async def _attempt_chunk(self) -> bytes:
        async with self._gate.turn():
            try:
                pieces = self._pieces or await self._reopen()
                chunk = await anext(pieces, b"")
                self._take(chunk)
            except BaseException:
                await self.close()
                raise
            return chunk

    def _take(self, chunk: bytes) -> None:
        self._offset += len(chunk)
        if not chunk and self._offset != self._end:
            raise Damaged(f"the body ended at {self._offset} instead of {self._end}")

    async def _reopen(self) -> AsyncIterator[bytes]:
        key, etag = await self._locate()
        opening = self._store.read(key, self._offset, self._end, etag=etag)
        try:
            reading = await self._opened.enter_async_context(opening)
        except ConditionFailed:
            if self._pinned and self.generation is None:
                raise  # somebody else's object: nothing says where its bytes are now
            raise Superseded("the archive changed while it was read") from None
        except NotFound:
            if key != self._key and await self._has_moved():
                raise Superseded("the archive changed while it was read") from None
            raise
        if self._pinned is None:
            self._pin(reading.head)
        self._pieces = reading.chunks
        return reading.chunks

    def _pin(self, head: Head) -> None:
        self._pinned, self.length = head, head.size
        self._end = head.size if self._end is None else min(self._end, head.size)
        if self.generation is None and (meta := Meta.decode(head.metadata)):
            self.generation = meta.generation

    async def _locate(self) -> tuple[str, str | None]:
        """Return under which key the wanted generation is, and the ETag it must have there."""
        if self.generation is None:
            return self._key, self._pinned.etag if self._pinned else None
        head = await self._store.head(self._key)
        self._base_seen = head.etag if head else None
        if head is not None and await self._generation_of(head) == self.generation:
            return self._key, head.etag
        return generation_key(self._prefix, self._key, self.generation), None

    async def _generation_of(self, head: Head) -> int:
        if meta := Meta.decode(head.metadata):
            return meta.generation
        highest = -1
        async for entry in self._store.list(generations_prefix(self._prefix, self._key)):
            highest = max(highest, closed_generation(entry.key) or 0)
        return highest + 1

    async def _has_moved(self) -> bool:
        """Whether the base is another one now than when the generation was looked for."""
        head = await self._store.head(self._key)
        return (head.etag if head else None) != self._base_seen
