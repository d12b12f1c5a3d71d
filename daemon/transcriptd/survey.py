"""What stands in the archive of one stream: its base, its tail, its finished generations.

Three questions to the store, in the order that readers need: the tail is listed before the base is
looked at, so that a seal in between shows as segments that the base already holds, never as a gap.
Decides nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transcriptd.errors import AccessDenied
from transcriptd.layout import (
    Meta,
    closed_generation,
    generation_key,
    generations_prefix,
    tail_prefix,
)
from transcriptd.tail import Chain, Tails, chain, tails_of

if TYPE_CHECKING:
    from transcriptd.stores import Head, Store


@dataclass(frozen=True, slots=True)
class Survey:
    """`meta` is `None` where somebody else wrote the base, or it is not as long as it says.

    `chain` is the tail of the base's generation, `closed` the highest generation that stands under
    `.generations/`, -1 for none. Without `may_list` nothing is known of tails.
    """

    head: Head | None
    meta: Meta | None
    tails: Tails
    chain: Chain
    closed: int
    may_list: bool

    @property
    def used(self) -> int:
        """The highest generation that stands anywhere, -1 for none."""
        return max(self.closed, self.tails.highest, self.meta.generation if self.meta else -1)


async def survey(store: Store, prefix: str, key: str, *, is_absent: bool = False) -> Survey:
    """Ask how a stream stands. `is_absent`: that there is no base is known. Raises `StoreError`."""

    async def look() -> Head | None:
        return None if is_absent else await store.head(key)

    try:
        tails = await list_tails(store, prefix, key)
    except AccessDenied:
        head = await look()
        meta = trusted(head)
        closed = await _closed_without_listing(store, prefix, key, meta)
        return Survey(head, meta, Tails(), _chain(Tails(), head, meta), closed, may_list=False)
    try:
        async with asyncio.TaskGroup() as asking:
            heading = asking.create_task(look())
            listing = asking.create_task(_highest_closed(store, prefix, key))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # its type decides what follows
    head = heading.result()
    meta = trusted(head)
    return Survey(head, meta, tails, _chain(tails, head, meta), listing.result(), may_list=True)


async def list_tails(store: Store, prefix: str, key: str) -> Tails:
    """List everything below a stream's tail prefix."""
    entries = [entry async for entry in store.list(tail_prefix(prefix, key))]
    return tails_of(prefix, key, entries)


def trusted(head: Head | None) -> Meta | None:
    """Return the metadata of a base, unless the object is not as long as they say."""
    meta = Meta.decode(head.metadata) if head else None
    return meta if head and meta and meta.length == head.size else None


def _chain(tails: Tails, head: Head | None, meta: Meta | None) -> Chain:
    if head is None:
        return Chain()
    return chain(tails.of(meta.generation) if meta else (), head.size)


async def _highest_closed(store: Store, prefix: str, key: str) -> int:
    highest = -1
    async for entry in store.list(generations_prefix(prefix, key)):
        found = closed_generation(entry.key)
        highest = max(highest, -1 if found is None else found)
    return highest


async def _closed_without_listing(store: Store, prefix: str, key: str, meta: Meta | None) -> int:
    """Find the highest finished generation by asking for each that may be there."""
    generation = meta.generation if meta else 0
    while await store.head(generation_key(prefix, key, generation)) is not None:
        generation += 1
    return generation - 1
