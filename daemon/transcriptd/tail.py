"""What lies below a stream's tail prefix, and which of it is content. Pure.

Segments continue the base of their generation; claims say who writes here. A segment is content
where it begins exactly at the end of what comes before it, and its `pre` fits (README, "Archive
format"). Whoever reads a stream and whoever writes it must come to the same answer: both ask here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transcriptd.layout import claimed_by, segment_place, tail_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transcriptd.stores import Entry


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """Bytes `[start, end)` of a generation, as a listing tells it."""

    generation: int
    start: int
    end: int
    key: str
    etag: str


@dataclass(frozen=True, slots=True)
class Tails:
    """Everything below one stream's tail prefix.

    `segments` by (generation, start); `stops` are the places (generation, end) at which a
    generation was closed: an empty object where its next segment would be. `claims` are writers;
    `strangers` are keys of no such kind.
    """

    segments: tuple[Segment, ...] = ()
    stops: frozenset[tuple[int, int]] = frozenset()
    claims: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()

    @property
    def highest(self) -> int:
        """The highest generation that has a segment, -1 for none."""
        return max((segment.generation for segment in self.segments), default=-1)

    def of(self, generation: int) -> tuple[Segment, ...]:
        """Return the segments of one generation, by their start."""
        return tuple(s for s in self.segments if s.generation == generation)


@dataclass(frozen=True, slots=True)
class Chain:
    """One generation's segments beside the length of its base.

    `content` continues the base without a gap. `folded` lies wholly below the base's end: garbage
    once the base provably holds it. `astray` is neither: behind a gap, or across an end.
    """

    content: tuple[Segment, ...] = ()
    folded: tuple[Segment, ...] = ()
    astray: tuple[Segment, ...] = ()
    end: int = 0

    def ahead_of(self, end: int) -> bool:
        """Say whether something that is no content lies where the tail will go on."""
        return any(segment.start >= end for segment in self.astray)


def tails_of(prefix: str, base_key: str, entries: Iterable[Entry]) -> Tails:
    """Sort the objects below a stream's tail prefix."""
    segments: list[Segment] = []
    stops: set[tuple[int, int]] = set()
    claims: list[str] = []
    strangers: list[str] = []
    head = tail_prefix(prefix, base_key)
    for entry in entries:
        name = entry.key.removeprefix(head)
        place = segment_place(name)
        writer = claimed_by(name)
        if place and entry.size:
            generation, start = place
            segments.append(Segment(generation, start, start + entry.size, entry.key, entry.etag))
        elif place:
            stops.add(place)
        elif writer:
            claims.append(writer)
        else:
            strangers.append(entry.key)
    return Tails(tuple(sorted(segments)), frozenset(stops), tuple(sorted(claims)), tuple(strangers))


def chain(segments: Iterable[Segment], base_length: int) -> Chain:
    """Say which segments of one generation continue a base of `base_length` bytes.

    By their places alone; whether each `pre` fits is for whoever reads them.
    """
    content: list[Segment] = []
    folded: list[Segment] = []
    astray: list[Segment] = []
    end = base_length
    for segment in sorted(segments):
        if segment.start == end:
            content.append(segment)
            end = segment.end
        elif segment.end <= base_length:
            folded.append(segment)
        else:
            astray.append(segment)
    return Chain(tuple(content), tuple(folded), tuple(astray), end)
