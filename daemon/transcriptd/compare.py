"""What stands in the archive beside what stands at the source, byte by byte where it must be.

The base is compared by its digest, the tail by reading it: each segment proves with its `pre` what
it hangs on. Reads both and decides nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transcriptd.content import Records, count_lines
from transcriptd.digest import Digester, digests
from transcriptd.errors import ConditionFailed, NotFound, Superseded
from transcriptd.layout import SegmentMeta
from transcriptd.plan import Relation, Remote, TailSays

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from transcriptd.content import Content
    from transcriptd.layout import Meta
    from transcriptd.model import Cursor
    from transcriptd.snapshot import Look
    from transcriptd.stores import Head, Reading, Store
    from transcriptd.survey import Survey
    from transcriptd.tail import Segment, Tails


@dataclass(frozen=True, slots=True)
class Whole:
    """One generation as it stands in pieces: the base and the segments that continue it."""

    records: int
    length: int
    digest: str
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class _Walked:
    """How far the tail agrees: up to `end`, in `segments` segments; what came then."""

    end: int
    segments: int = 0
    relation: Relation = Relation.EXTENDS
    writer: str = ""
    fits: bool = True


class Comparison:
    """Compares one look at a source with its archive."""

    def __init__(self, store: Store, look: Look) -> None:
        self._store = store
        self._content: Content = look.snapshot.content

    async def with_archive(self, key: str, found: Survey, known: Cursor | None) -> Remote | None:
        """Find out how the two stand to each other.

        `known` is a cursor that the archive and the source both begin with: nothing of that is
        read again.
        """
        head, meta = found.head, found.meta
        if head is None:
            return None
        base = await self._compare_base(key, head, meta, known)
        if meta is None:
            return replace(base, tail_says=await self._tail_says(found.tails, found.closed))
        if base.relation is not Relation.EXTENDS:
            return base
        content = found.chain.content
        walked = await self._walk(content, head.size, known.length if known else 0)
        last = walked.writer or base.writer
        if walked.relation is not Relation.EXTENDS:
            return replace(base, relation=walked.relation, writer=last)
        ahead = [s.end for s in (*content, *found.chain.astray) if s.start >= walked.end]
        records = base.records
        digest = base.digest
        if known and known.length == walked.end:
            records, digest = known.records, known.digest
        elif walked.end != base.length:
            records = await asyncio.to_thread(count_lines, self._content, walked.end)
            digest = await self._digest(walked.end)
        return replace(
            base,
            writer=last,
            records=records,
            length=walked.end,
            digest=digest,
            segments=walked.segments,
            blocked_to=max(ahead, default=None),
            is_stopped=(meta.generation, walked.end) in found.tails.stops,
        )

    async def _compare_base(
        self, key: str, head: Head, meta: Meta | None, known: Cursor | None
    ) -> Remote:
        size, length = self._content.size, head.size
        if known and meta:
            relation, digest = Relation.EXTENDS, meta.digest
        elif meta is not None and length <= size:
            digest = await self._digest(length)
            relation = Relation.EXTENDS if digest == meta.digest else Relation.DIFFERS
        else:
            shared = min(length, size)
            digest = await self._digest(shared)
            same = not shared or digest == await digest_of(self._store, key, shared, head.etag)
            grown = Relation.EXTENDS if length <= size else Relation.BEHIND
            relation = grown if same else Relation.DIFFERS
        if meta is not None:
            records, writer = meta.records, meta.writer
        else:
            shared = min(length, size)
            records, writer = await asyncio.to_thread(count_lines, self._content, shared), ""
        return Remote(head.etag, meta, relation, writer, records, length, digest, length)

    async def _walk(self, segments: Iterable[Segment], end: int, known_to: int) -> _Walked:
        """Go from segment to segment as long as they are what the source is."""
        walked = _Walked(end)
        size = self._content.size
        todo = [s for s in segments if s.end > known_to]
        walked = replace(
            walked,
            end=max(end, known_to),
            segments=sum(s.end <= known_to for s in segments),
        )
        starts = [s.start for s in todo if s.start <= size]
        before = dict(
            zip(starts, await asyncio.to_thread(digests, self._content, starts), strict=True)
        )
        for segment in todo:
            if segment.start > size:
                return replace(walked, relation=Relation.BEHIND)
            async with open_segment(self._store, segment) as (meta, chunks):
                if meta is None or meta.pre != before[segment.start]:
                    return replace(walked, fits=False)
                if not await self._equals(chunks, segment.start):
                    return replace(walked, relation=Relation.DIFFERS, writer=meta.writer)
            if segment.end > size:
                return replace(walked, relation=Relation.BEHIND, writer=meta.writer)
            walked = replace(
                walked, end=segment.end, segments=walked.segments + 1, writer=meta.writer
            )
        return walked

    async def _equals(self, chunks: AsyncIterator[bytes], at: int) -> bool:
        """Whether what comes is what the source has from byte `at` on, as far as that goes."""
        size, same = self._content.size, True
        async for chunk in chunks:  # to its end also where it differs: it has to be whole
            shared = chunk[: max(0, size - at)]
            ours = await asyncio.to_thread(self._content.read, at, at + len(shared))
            same = same and ours == shared
            at += len(chunk)
        return same

    async def _tail_says(self, tails: Tails, closed: int) -> TailSays:
        """Say what the newest tail proves about the source when its base is somebody else's."""
        segments = tails.of(tails.highest)
        if not segments or tails.highest <= closed:
            return TailSays.NOTHING
        walked = await self._walk(segments, segments[0].start, 0)
        whole = walked.end == segments[-1].end
        return TailSays.AGREES if whole else TailSays.CONTRADICTS

    async def _digest(self, length: int) -> str:
        return (await asyncio.to_thread(digests, self._content, [length]))[0]


@asynccontextmanager
async def open_segment(
    store: Store, segment: Segment
) -> AsyncIterator[tuple[SegmentMeta | None, AsyncIterator[bytes]]]:
    """Open a segment. Raises `Superseded`, also while reading, if it is not what was listed."""
    length = segment.end - segment.start

    async def chunks(reading: Reading) -> AsyncIterator[bytes]:
        if reading.head.size != length:
            raise Superseded("a segment is no longer what was listed")
        async for chunk in reading.chunks:
            yield chunk

    try:
        async with store.read(segment.key) as reading:
            yield SegmentMeta.decode(reading.head.metadata), chunks(reading)
    except NotFound:
        raise Superseded("a segment went while it was read") from None


async def read_whole(store: Store, key: str, head: Head, segments: Iterable[Segment]) -> Whole:
    """Read a base and the segments behind it, as far as each fits what comes before it."""
    digester, records = Digester(), Records()
    async with store.read(key, etag=head.etag) as reading:
        async for chunk in reading.chunks:
            digester.update(chunk)
            records.update(chunk)
    fitting: list[Segment] = []
    for segment in segments:
        async with open_segment(store, segment) as (meta, chunks):
            if meta is None or meta.pre != digester.hexdigest():
                break  # no content: it stays where it is
            async for chunk in chunks:
                digester.update(chunk)
                records.update(chunk)
            fitting.append(segment)
    return Whole(records.count, digester.length, digester.hexdigest(), tuple(fitting))


async def digest_of(store: Store, key: str, length: int | None, etag: str) -> str:
    """Read the first `length` bytes of an object, or all, and return their digest."""
    digester = Digester()
    try:
        async with store.read(key, 0, length, etag=etag) as reading:
            async for chunk in reading.chunks:
                digester.update(chunk)
    except (NotFound, ConditionFailed):
        raise Superseded("the archive changed while it was read") from None
    return digester.hexdigest()
