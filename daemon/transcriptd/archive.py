"""The reading side: the bytes of a stream, of the current generation or of a finished one.

Owns where a stream's bytes are and how reading goes on after a failure. A byte at (stream,
generation, offset) never changes, so a reader that was cut off goes on at its offset in the same
generation, wherever that is by then: in a tail segment, in the base that took it in, under
`.generations/`. Writes nothing; knows no source and no journal.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tenacity.stop import stop_base

from transcriptd import lines
from transcriptd.digest import Digester
from transcriptd.errors import (
    AccessDenied,
    AuthFailed,
    BucketMissing,
    ConditionFailed,
    Damaged,
    NotFound,
    RangeInvalid,
    Superseded,
)
from transcriptd.gate import Gate
from transcriptd.layout import SegmentMeta, history_key
from transcriptd.pointer import PointerHandle
from transcriptd.retry import is_worth_a_retry, until_done
from transcriptd.stores.keys import check_key
from transcriptd.whereabouts import Finder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tenacity import RetryCallState

    from transcriptd.layout import Meta
    from transcriptd.stores import Head, Store
    from transcriptd.whereabouts import Part, Whereabouts

ATTEMPTS = 5
_ATTEMPTS_AT_CREDENTIALS = 2
_SESSION_ID = re.compile(r"[\w-]{1,128}")
_OVERLAPS, _UNKNOWN, _OTHER_BYTES = "overlaps", "unknown_format", "other_bytes_before_it"
_NOT_AS_SAID = "other_bytes_than_it_says"


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
class Stray:
    """An object that lies in the way of a stream and is no content of it.

    `reason`: `overlaps` (it begins before what precedes it ends), `other_bytes_before_it` (its
    `pre` does not fit), `unknown_format`. Behind one of the last two nothing is read.
    """

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream being read.

    `generation` is `None` where somebody else wrote the object. `length`, in bytes, is that of the
    whole generation, tail included. `chunks` gives what was asked for, as it comes; `faults` grows
    meanwhile.
    """

    generation: int | None
    length: int
    chunks: AsyncIterator[bytes]
    faults: list[Stray]

    def lines(self) -> AsyncIterator[bytes]:
        """Give what was asked for line by line, each with its line feed."""
        return lines.split(self.chunks)


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

    Read from its first byte on, each tail segment is held against the digest of everything before
    it. Behind that nothing is read that was not asked for, and only this is held: that the segments
    follow each other without a gap, that each is of a format we know, and that the first one hangs
    on the base as the base describes itself. Without permission to list, the base is all there is.

    Raises, here or at any chunk, `NotFound`, `RangeInvalid` (`start` at or behind the end) and
    every other `StoreError`, `Superseded` where the archive changes too fast or its tail has a gap,
    `ValueError` for a key that cannot be.
    """
    check_key(span.key)
    reader = _Reader(store, prefix, span, attempts, sleep)
    try:
        await reader.open()
        yield Stream(reader.generation, reader.length, reader.chunks(), reader.faults)
    finally:
        await reader.close()


class _Reader:
    """Reads a span part by part. What it pinned at first it stays with."""

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
        self.faults: list[Stray] = []
        self._store = store
        self._finder = Finder(store, prefix, span.key)
        self._offset = span.start
        self._end = span.end
        self._pinned: Whereabouts | None = None
        self._base: Meta | None = None
        self._parts: list[Part] = []
        self._digester = Digester() if span.start == 0 else None
        self._persist = partial(until_done, worth_it=may_pass, stop=Bounded(attempts), sleep=sleep)
        self._gate = Gate(1)
        self._opened = AsyncExitStack()
        self._pieces: AsyncIterator[bytes] | None = None

    async def open(self) -> None:
        found = await self._persist(self._attempt_open)
        self._pinned = found
        self.generation, self.length = found.generation, found.length
        self._end = found.length if self._end is None else min(self._end, found.length)

    async def chunks(self) -> AsyncIterator[bytes]:
        while chunk := await self._persist(self._attempt_chunk):
            yield chunk

    async def close(self) -> None:
        self._pieces = None
        await self._opened.aclose()

    async def _attempt_open(self) -> Whereabouts:
        async with self._attempt():
            found = await self._look()
            if self._parts:
                await self._open_part(self._parts[0])
            return found

    async def _attempt_chunk(self) -> bytes:
        async with self._attempt():
            while self._offset != self._end:
                if not self._parts:
                    await self._look()
                pieces = self._pieces or await self._open_part(self._parts[0])
                if pieces is None:
                    self._end = self._offset
                elif chunk := await self._piece(pieces):
                    return chunk
            if self._parts:  # the last one; its end was asked for, not met
                self._hold_against_metadata(self._parts[0])
            await self.close()
            return b""

    @asynccontextmanager
    async def _attempt(self) -> AsyncIterator[None]:
        async with self._gate.turn():
            try:
                yield
            except BaseException:
                self._parts = []
                await self.close()
                raise

    async def _look(self) -> Whereabouts:
        """Find out where the bytes are that are still to come."""
        found = await self._finder.find(self.generation, self._end)
        if self._pinned is None:
            if self._offset and self._offset >= found.length:
                raise RangeInvalid("the stream ends before that")
        else:
            was, now = self._pinned.parts[0].etag, found.parts[0].etag
            if was and was != now:  # somebody else's: nothing says where its bytes are now
                raise ConditionFailed("the object is not what it was")
            if was != now or (self._end is not None and self._end > found.length):
                raise Superseded("the archive shows less than before")
        end = self._limit(found.length)
        self._base = found.meta
        self._parts = [part for part in found.parts if self._offset < part.end]
        for segment in found.astray:
            if segment.start < end:
                self._report(segment.key, _OVERLAPS)
        return found

    async def _open_part(self, part: Part) -> AsyncIterator[bytes] | None:
        """Open the object at our offset; `None` where it turns out to be no content."""
        start, end = self._offset - part.start, self._limit(part.end) - part.start
        is_whole = (start, end) == (0, part.end - part.start)
        opening = self._store.read(part.key, start, None if is_whole else end)
        try:
            reading = await self._opened.enter_async_context(opening)
        except (NotFound, RangeInvalid):
            raise Superseded("the archive changed while it was read") from None
        if not part.is_still(reading.head):
            raise Superseded("the archive changed while it was read")
        if part.is_segment and (reason := self._why_not(part, reading.head)):
            self._report(part.key, reason)
            return None
        self._pieces = reading.chunks
        return reading.chunks

    async def _piece(self, pieces: AsyncIterator[bytes]) -> bytes:
        """Take what comes next of a part; nothing where it is through."""
        end = self._limit(self._parts[0].end)
        chunk = (await anext(pieces, b""))[: end - self._offset]
        if chunk:
            self._offset += len(chunk)
            if self._digester:
                self._digester.update(chunk)
        elif self._offset == end:
            await self.close()
            self._hold_against_metadata(self._parts[0])
            self._parts = self._parts[1:]
        else:
            raise Damaged(f"the body ended at {self._offset} instead of {end}")
        return chunk

    def _hold_against_metadata(self, part: Part) -> None:
        """Report a base, or a finished generation, that was read whole and is not what it says."""
        meta, digester = self._base, self._digester
        if meta is None or digester is None or digester.length != meta.length != 0:
            return
        if not part.is_segment and digester.hexdigest() != meta.digest:
            self._report(part.key, _NOT_AS_SAID)

    def _why_not(self, part: Part, head: Head) -> str | None:
        """Say why a segment is no content, as far as what was read so far can tell."""
        said = SegmentMeta.decode(head.metadata)
        if said is None:
            return _UNKNOWN
        before = None
        if self._digester and self._digester.length == part.start:
            before = self._digester.hexdigest()
        elif self._base and self._base.length == part.start:
            before = self._base.digest
        return None if before in {None, said.pre} else _OTHER_BYTES

    def _limit(self, end: int) -> int:
        return end if self._end is None else min(self._end, end)

    def _report(self, key: str, reason: str) -> None:
        stray = Stray(key, reason)
        if stray not in self.faults:
            self.faults.append(stray)
