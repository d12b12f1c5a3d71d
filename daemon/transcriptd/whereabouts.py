"""Which objects hold a generation of a stream at this moment: base and tail, or a finished one.

Asks the store and puts the answers together; the rules are those of `tail` and of the README,
"Archive format". Reads no content: whether a segment's bytes fit is found out by whoever reads them
(`archive`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transcriptd.errors import AccessDenied, Damaged, NotFound, Superseded
from transcriptd.layout import Meta, generation_key, segment_key
from transcriptd.survey import list_tails, survey
from transcriptd.tail import Chain, Segment, chain

if TYPE_CHECKING:
    from transcriptd.stores import Head, Store
    from transcriptd.tail import Tails


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `[start, end)` of a stream: an object's, from its first byte on.

    The rest says what the object must still be when it is read: a base of `generation`, or the very
    object with this `etag` where nobody says what its bytes are.
    """

    key: str
    start: int
    end: int
    generation: int | None = None
    etag: str | None = None
    is_segment: bool = False

    def is_still(self, head: Head) -> bool:
        """Say whether an object is what was found, or a longer version of it."""
        if self.is_segment:
            return head.size == self.end - self.start
        if self.etag is not None:
            return head.etag == self.etag
        meta = Meta.decode(head.metadata)
        is_same = self.generation is None or (meta and meta.generation == self.generation)
        return bool(is_same) and head.size >= self.end


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """One generation, whole: `parts` follow each other from byte 0 to `length`.

    `generation` is `None` where somebody else wrote the base and no number was asked for; `meta` is
    what our base, or the finished generation, says of itself. `astray` are segments that begin
    before what precedes them ends.
    """

    generation: int | None
    meta: Meta | None
    length: int
    parts: tuple[Part, ...]
    astray: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds the generations of the stream under a base key."""

    store: Store
    prefix: str
    key: str

    async def find(self, generation: int | None, reach: int | None) -> Whereabouts:
        """Find a generation, `None` for the current one, up to byte `reach`, `None` for its end.

        Tails are listed before the base is looked at: what a seal moves in between is then found in
        the base. Without permission to list, the base counts alone. Raises `Superseded` where the
        archive changed meanwhile or the tail has a gap before `reach`, `NotFound`, `Damaged` where
        an object is shorter than it says, and every other `StoreError`.
        """
        tails = await self._tails()
        base = await self.store.head(self.key)
        if generation is not None and (
            base is None or await self._generation_of(base) != generation
        ):
            return await self._closed(generation, base)
        if base is None:
            raise NotFound("there is no such stream")
        meta = Meta.decode(base.metadata)
        length = _length(base, meta)
        if meta:
            whole = Part(self.key, 0, length, generation=meta.generation)
        else:
            whole = Part(self.key, 0, length, etag=base.etag)
        chained = Chain(end=length)
        if tails and (meta or tails.segments):
            current = await self._generation_of(base)
            chained = await self._chained(tails.of(current), current, length, reach)
        said = meta.generation if meta else generation
        tail = (Part(s.key, s.start, s.end, is_segment=True) for s in chained.content)
        return Whereabouts(said, meta, chained.end, (whole, *tail), chained.astray)

    async def _tails(self) -> Tails | None:
        try:
            return await list_tails(self.store, self.prefix, self.key)
        except AccessDenied:
            return None

    async def _generation_of(self, base: Head) -> int:
        if meta := Meta.decode(base.metadata):
            return meta.generation
        return (await survey(self.store, self.prefix, self.key)).closed + 1

    async def _chained(
        self, segments: tuple[Segment, ...], generation: int, length: int, reach: int | None
    ) -> Chain:
        """Chain segments up to `reach`. A listing may lag: at its end it is asked what follows."""
        found = chain(segments, length)
        while reach is None or reach > found.end:
            key = segment_key(self.prefix, self.key, generation, found.end)
            head = await self.store.head(key)
            if head is None or not head.size:
                break
            following = Segment(generation, found.end, found.end + head.size, key, head.etag)
            segments = (*segments, following)
            found = chain(segments, length)
        if (reach is None or reach > found.end) and found.ahead_of(found.end):
            raise Superseded(
                f"the tail has a gap at byte {found.end}",
                hint="if it stays, the bytes before it can be read as a range that ends there",
            )
        return found

    async def _closed(self, generation: int, base: Head | None) -> Whereabouts:
        key = generation_key(self.prefix, self.key, generation)
        head = await self.store.head(key)
        if head is None:
            if _identity(await self.store.head(self.key)) != _identity(base):
                raise Superseded("the archive changed while it was looked at")
            raise NotFound("there is no such generation")
        meta = Meta.decode(head.metadata)
        length = _length(head, meta)
        return Whereabouts(generation, meta, length, (Part(key, 0, length),))


def _length(head: Head, meta: Meta | None) -> int:
    """Return how many bytes of an object are archived: what is behind them is not content."""
    if meta is None:
        return head.size
    if head.size < meta.length:
        raise Damaged(f"{head.size} bytes stand there where {meta.length} should")
    return meta.length


def _identity(head: Head | None) -> object:
    """Return what tells two bases apart: an ETag alone may come back with another generation."""
    return head and (head.etag, Meta.decode(head.metadata))
