"""What stands of one stream at this moment: places, sizes and metadata, never content."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from transcriptd.errors import Superseded
from transcriptd.layout import Meta, SegmentMeta, closed_generation, generations_prefix, machine_of
from transcriptd.survey import list_tails
from transcriptd.tail import Chain, Tails, chain
from transcriptd.verify.inventory import Has

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from transcriptd.stores import Head, Store

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Found:
    """One look at a stream.

    `closed` are its finished generations by number, `segments` what the store says of those that
    continue the base, by key; `keys` says where each finished generation lies.
    """

    key: str
    has: Has
    head: Head | None = None
    tails: Tails = field(default_factory=Tails)
    closed: Mapping[int, Head] = field(default_factory=dict)
    keys: Mapping[int, str] = field(default_factory=dict)
    segments: Mapping[str, Head] = field(default_factory=dict)

    @property
    def meta(self) -> Meta | None:
        return Meta.decode(self.head.metadata) if self.head else None

    @property
    def generation(self) -> int | None:
        """The current generation; without our metadata, the one that would come next."""
        if self.head is None:
            return None
        return self.meta.generation if self.meta else max(self.closed, default=-1) + 1

    @property
    def base_length(self) -> int:
        """How many bytes the base should have."""
        if self.meta:
            return self.meta.length
        return self.head.size if self.head else 0

    @property
    def is_short(self) -> bool:
        return self.head is not None and self.head.size < self.base_length

    @property
    def chain(self) -> Chain:
        if self.generation is None:
            return Chain()
        return chain(self.tails.of(self.generation), self.base_length)

    @property
    def said_of_source(self) -> str:
        """The keyed digest of what the source had up to the end, where something may be masked."""
        if not self.chain.content:
            return self.meta.redaction.plain if self.meta and not self.is_short else ""
        head = self.segments.get(self.chain.content[-1].key)
        said = SegmentMeta.decode(head.metadata) if head else None
        return said.redaction.plain if said else ""

    @property
    def machine(self) -> str:
        """The machine that wrote last, as far as the objects say; empty where none does."""
        heads = [self.segments[s.key] for s in self.chain.content if s.key in self.segments]
        said = [SegmentMeta.decode(head.metadata) for head in reversed(heads)]
        bases = [self.head, *(self.closed[number] for number in sorted(self.closed, reverse=True))]
        told = [Meta.decode(head.metadata) for head in bases if head]
        return next((machine_of(each.writer) for each in (*said, *told) if each), "")

    def digests(self) -> dict[int, str]:
        """Return what metadata say of the current generation's digest, by length."""
        known: dict[int, str] = {}
        for segment in self.chain.content:
            head = self.segments.get(segment.key)
            if head and (said := SegmentMeta.decode(head.metadata)):
                known[segment.start] = said.pre
        return known | ({self.meta.length: self.meta.digest} if self.meta else {})


async def look(store: Store, prefix: str, key: str, has: Has) -> Found:
    """Ask what stands of a stream: its base, and of the other kinds those that it `has`.

    The tail is listed before the base is looked at, and the finished generations after it: what
    moves meanwhile is then seen twice, never not at all. Raises `StoreError`, and `Superseded`
    where something went.
    """
    tails = await list_tails(store, prefix, key) if has & Has.SEGMENTS else Tails()
    head = await store.head(key)
    keys: dict[int, str] = {}
    if has & Has.GENERATIONS:
        async for entry in store.list(generations_prefix(prefix, key)):
            if (number := closed_generation(entry.key)) is not None:
                keys[number] = entry.key
    heads = await _heads(store, keys.values())
    closed = {number: heads[where] for number, where in keys.items()}
    found = Found(key, has, head, tails, closed, keys)
    content = (segment.key for segment in found.chain.content)
    return replace(found, segments=await _heads(store, content))


async def _heads(store: Store, keys: Iterable[str]) -> dict[str, Head]:
    asking = asyncio.Semaphore(_AT_ONCE)

    async def ask(key: str) -> Head:
        async with asking:
            head = await store.head(key)
        if head is None:
            raise Superseded("an object went while it was looked at")
        return head

    try:
        async with asyncio.TaskGroup() as tasks:
            asked = {key: tasks.create_task(ask(key)) for key in keys}
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # its type decides what follows
    return {key: task.result() for key, task in asked.items()}
