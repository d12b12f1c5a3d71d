"""What stands in the archive of one stream: its base, its tail, its finished generations.

Three questions to the store, in the order that readers need: the tail is listed before the base is
looked at, so that a seal in between shows as segments that the base already holds, never as a gap.
Decides nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

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
    from collections.abc import Coroutine

    from transcriptd.stores import Head, Store

A = TypeVar("A")
B = TypeVar("B")


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


async def survey(store: Store, prefix: str, key: str) -> Survey:
    """Ask how a stream stands. Raises `StoreError`."""
    try:
        tails = await list_tails(store, prefix, key)
    except AccessDenied:
        return await _without_listing(store, prefix, key)
    head, closed = await _both(store.head(key), _highest_closed(store, prefix, key))
    meta = trusted(head)
    return Survey(head, meta, tails, _chain(tails, head, meta), closed, may_list=True)


async def _both(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Ask two questions at once."""
    try:
        async with asyncio.TaskGroup() as asking:
            one, other = asking.create_task(first), asking.create_task(second)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # its type decides what follows
    return one.result(), other.result()


async def _without_listing(store: Store, prefix: str, key: str) -> Survey:
    """Ask for each object that may be there: what may not be listed may still be read."""

    async def head(name: str) -> Head | None:
        try:
            return await store.head(name)
        except AccessDenied:  # who may not list is told so of what is absent, too
            return None

    base = await head(key)
    meta = trusted(base)
    generation = meta.generation if meta else 0
    while await head(generation_key(prefix, key, generation)) is not None:
        generation += 1
    return Survey(base, meta, Tails(), _chain(Tails(), base, meta), generation - 1, may_list=False)


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
