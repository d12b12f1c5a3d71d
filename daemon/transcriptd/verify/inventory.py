"""What there is, from one listing: the streams, which kinds of objects each has, and strangers.

A stream's objects lie far from each other in a listing, its tail and its finished generations
before all bases. So nothing is kept of them but which kinds there are: memory grows with the number
of streams, not of objects. Whoever looks at a stream asks for its few objects again, and gets
what is there then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag
from typing import TYPE_CHECKING

from transcriptd.verify.places import Kind, place_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transcriptd.stores import Store


class Has(IntFlag):
    """Which objects a stream has. A claim alone makes no stream."""

    NOTHING = 0
    BASE = 1
    DOCUMENT = 2
    GENERATIONS = 4
    SEGMENTS = 8
    EVERYTHING = 15


_KINDS = {
    Kind.BASE: Has.BASE,
    Kind.DOCUMENT: Has.DOCUMENT,
    Kind.GENERATION: Has.GENERATIONS,
    Kind.SEGMENT: Has.SEGMENTS,
}


@dataclass(slots=True)
class Inventory:
    """`streams` by their base keys, `strangers` the keys that are none of ours."""

    streams: dict[str, Has] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)


async def take(store: Store, prefix: str, below: Iterable[str]) -> Inventory:
    """List what lies below these prefixes of an archive. Raises `StoreError`."""
    found = Inventory()
    for each in below:
        async for entry in store.list(each):
            place = place_of(prefix, entry.key, entry.size)
            if place.kind is Kind.STRANGER:
                found.strangers.append(entry.key)
            elif kind := _KINDS.get(place.kind):
                has = found.streams.get(place.stream, Has.NOTHING)
                found.streams[place.stream] = has | kind
    _join_documents(found.streams)
    return found


def _join_documents(streams: dict[str, Has]) -> None:
    """Let go of documents whose lines are those of a copy: copies of one writer shared theirs."""
    alone = [key for key, has in streams.items() if has is Has.DOCUMENT and "/.conflicts/" in key]
    for key in alone:
        stem = f"{key.removesuffix('.jsonl')}~"
        if any(other.startswith(stem) for other in streams):
            del streams[key]
