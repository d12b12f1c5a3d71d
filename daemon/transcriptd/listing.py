"""What is archived: the streams that a listing shows, each with all that belongs to it.

One listing is enough. Finished generations, tails and conflicts are listed before nearly all
sessions and remembered; a session is told as soon as its base comes by, so that what is held does
not grow with the sessions that have none of them. Asks nothing itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transcriptd.layout import closed_generation, mirrored, segment_place
from transcriptd.tail import Segment, chain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from transcriptd.layout import Meta
    from transcriptd.stores import Entry

_HISTORY = re.compile(r"([\w-]{1,128})/history\.jsonl")
_SUFFIX = re.compile(r"\.jsonl?$")
_GENERATIONS, _CONFLICTS, _TAIL = ".generations", ".conflicts", ".tail"


@dataclass(frozen=True, slots=True)
class Archived:
    """One stream.

    `name` is the session's id, of a mirrored file the key below the prefix, of a conflict its
    writer or `foreign-…`. `size` is that of the base in bytes, `None` where there is none. `closed`
    are the numbers of the finished generations, `segments` whatever lies in its tail. `modified`,
    in Unix seconds, is when the base or the tail changed last. `meta` is what the base says of
    itself, where it was asked.
    """

    key: str
    name: str
    source: str
    size: int | None
    closed: tuple[int, ...]
    closed_bytes: int
    segments: tuple[Segment, ...]
    modified: float
    conflicts: tuple[Archived, ...] = ()
    meta: Meta | None = None

    @property
    def generation(self) -> int:
        """The current generation; by the listing alone, the next one that may be there."""
        if self.meta:
            return self.meta.generation
        highest = max((s.generation for s in self.segments), default=0)
        return max(highest, *(number + 1 for number in self.closed), 0)

    @property
    def tail(self) -> int:
        """How many bytes of the current generation lie in its tail."""
        base, current = self.size or 0, self.generation
        return chain((s for s in self.segments if s.generation == current), base).end - base

    @property
    def length(self) -> int:
        """How many bytes the current generation has."""
        return (self.size or 0) + self.tail


@dataclass(slots=True)
class _Beside:
    """What lies apart from one base and belongs to it."""

    closed: list[tuple[int, int]] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    modified: float = 0.0
    conflicts: list[Entry] = field(default_factory=list)


async def streams_in(entries: AsyncIterator[Entry], prefix: str) -> AsyncIterator[Archived]:
    """Say what a listing of everything below `prefix` shows, in the order of keys.

    What has lost its base comes last.
    """
    shelf = _Shelf(prefix)
    early: list[Entry] = []  # listed before the dot: ids that begin with a dash
    async for entry in entries:
        below = entry.key.removeprefix(prefix)
        if below.startswith("."):
            shelf.put(entry, below)
        elif not _source(prefix, below):
            continue
        elif below < ".":
            early.append(entry)
        else:
            while early:
                yield shelf.take(early.pop(0))
            yield shelf.take(entry)
    while early:
        yield shelf.take(early.pop(0))
    for archived in shelf.rest():
        yield archived


class _Shelf:
    """Keeps what belongs to a base until that comes by."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._by_key: dict[str, _Beside] = {}

    def put(self, entry: Entry, below: str) -> None:
        """Keep an object whose key begins with a dot below the prefix."""
        folder, _, rest = below.partition("/")
        base, _, name = rest.rpartition("/")
        place = segment_place(name) if folder == _TAIL else None
        number = closed_generation(entry.key) if folder == _GENERATIONS else None
        if not base or (folder != _CONFLICTS and place is None and number is None):
            return  # a claim, a scratch object, or nothing of ours
        beside = self._by_key.setdefault(self._prefix + base, _Beside())
        if number is not None:
            beside.closed.append((number, entry.size))
        elif place is None:
            beside.conflicts.append(entry)
        elif entry.size:
            generation, start = place
            end = start + entry.size
            beside.segments.append(Segment(generation, start, end, entry.key, entry.etag))
            beside.modified = max(beside.modified, entry.modified)

    def take(self, base: Entry) -> Archived:
        """Return the stream of a base, and forget what belongs to it."""
        below = base.key.removeprefix(self._prefix)
        return self._taken(base.key, _name(below), _source(self._prefix, below), base)

    def rest(self) -> Iterator[Archived]:
        """Give the streams whose base never came by, but for tails that hang on nothing."""
        for key in sorted(self._by_key):
            below = key.removeprefix(self._prefix)
            source = _source(self._prefix, below)
            beside = self._by_key.get(key)
            if beside and source and (beside.closed or beside.conflicts):
                yield self._taken(key, _name(below), source, None)

    def _taken(self, key: str, name: str, source: str, base: Entry | None) -> Archived:
        beside = self._by_key.pop(key, None) or _Beside()
        return Archived(
            key=key,
            name=name,
            source=source,
            size=base.size if base else None,
            closed=tuple(number for number, _ in sorted(beside.closed)),
            closed_bytes=sum(size for _, size in beside.closed),
            segments=tuple(sorted(beside.segments)),
            modified=max(beside.modified, base.modified if base else 0.0),
            conflicts=tuple(
                self._taken(e.key, _SUFFIX.sub("", e.key.rpartition("/")[2]), source, e)
                for e in beside.conflicts
            ),
        )


def _source(prefix: str, below: str) -> str:
    """Return whose a stream is by its base key below the prefix; empty for what is no base."""
    if _HISTORY.fullmatch(below):
        return "codetether"
    file = mirrored(prefix, prefix + below)
    return file.agent if file else ""


def _name(below: str) -> str:
    history = _HISTORY.fullmatch(below)
    return history[1] if history else below
