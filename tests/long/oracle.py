"""What can be read of an archive: every generation of every stream, by the rules of the format.

Reads everything below a prefix and puts it together in memory; knows nothing of who writes. What
was readable once must be the beginning of what is readable later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.ledger import Base, Finished, Tail, place_of
from transcriptd.archive import open_stream, span_of
from transcriptd.digest import Digester, digest
from transcriptd.layout import Meta, SegmentMeta, tail_prefix
from transcriptd.stores import Entry
from transcriptd.tail import chain, tails_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transcriptd.stores import Store

Readable = dict[tuple[str, int], bytes]


@dataclass(frozen=True, slots=True)
class Stored:
    """One object as it was read."""

    body: bytes
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Archive:
    """Everything below a prefix at one moment."""

    prefix: str
    objects: Mapping[str, Stored]

    @property
    def streams(self) -> dict[str, Meta]:
        """The bases, each with what it says of itself."""
        found = {}
        for key, stored in self.objects.items():
            if isinstance(place_of(self.prefix, key), Base):
                meta = Meta.decode(stored.metadata)
                assert meta, f"{key} has no metadata of ours"
                told = (meta.length, meta.digest, meta.records)
                holds = (len(stored.body), digest(stored.body), stored.body.count(b"\n"))
                assert told == holds, f"{key} is not what its metadata say: {told} != {holds}"
                found[key] = meta
        return found

    def current(self, key: str, meta: Meta) -> bytes:
        """Return a base and what of its tail is content."""
        content = self.objects[key].body
        digester = Digester()
        digester.update(content)
        below = tail_prefix(self.prefix, key)
        rows = [
            Entry(k, len(o.body), "", 0.0)
            for k, o in self.objects.items()
            if k[: len(below)] == below
        ]
        tails = tails_of(self.prefix, key, rows)
        for segment in chain(tails.of(meta.generation), len(content)).content:
            stored = self.objects[segment.key]
            said = SegmentMeta.decode(stored.metadata)
            if said is None or said.pre != digester.hexdigest():
                break
            content += stored.body
            digester.update(stored.body)
        return content

    def readable(self) -> Readable:
        """Return the bytes of each generation of each stream."""
        found: Readable = {}
        for key, stored in self.objects.items():
            place = place_of(self.prefix, key)
            if isinstance(place, Finished):
                found[place.stream, place.generation] = stored.body
        for key, meta in self.streams.items():
            where = (key, meta.generation)
            # What lands behind the end of a finished generation is no content of it.
            now = self.objects[key].body if where in found else self.current(key, meta)
            kept = found.get(where, b"")
            shorter, longer = sorted((now, kept), key=len)
            assert longer.startswith(shorter), f"generation {where} has two contents"
            found[where] = longer
        return found

    def segments(self) -> list[str]:
        """Name the tail segments that hold something."""
        places = {key: place_of(self.prefix, key) for key in self.objects}
        return [k for k, p in places.items() if isinstance(p, Tail) and self.objects[k].body]


async def read_archive(store: Store, prefix: str) -> Archive:
    """List everything and read it, from a store that nobody writes to meanwhile."""
    objects = {}
    async for entry in store.list(prefix):
        async with store.read(entry.key) as reading:
            body = b"".join([chunk async for chunk in reading.chunks])
            objects[entry.key] = Stored(body, reading.head.metadata)
        assert len(body) == entry.size, f"{entry.key} is not as long as the listing says"
    return Archive(prefix, objects)


async def read_stream(store: Store, prefix: str, key: str) -> bytes:
    """Read a stream as everybody does."""
    async with open_stream(store, prefix, span_of(prefix, key)) as stream:
        content = b"".join([chunk async for chunk in stream.chunks])
        assert len(content) == stream.length or stream.faults
        return content


def must_go_on(before: Readable, after: Readable) -> None:
    """Nothing that was readable has changed or is gone."""
    for where, known in before.items():
        now = after.get(where)
        assert now is not None, f"{where} is gone, {len(known)} bytes"
        assert now.startswith(known), f"{where} had {len(known)} bytes and is another now"
