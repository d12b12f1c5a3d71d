"""Claims: who writes to a stream, since when, and whom it replaces.

No fencing: a claim makes a second writer visible, so that each looks twice (README, "Archive
format", "Who may write"). A claim is one small object beside the stream's tail segments.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the types of a claim
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from transcriptd.errors import ConditionFailed, NotFound, Superseded
from transcriptd.layout import FORMAT, META_PREFIX, claim_key
from transcriptd.stores import Absent, Matches
from transcriptd.survey import Survey, list_tails, survey
from transcriptd.tail import Chain, Tails

if TYPE_CHECKING:
    from transcriptd.layout import Names
    from transcriptd.stores import Store

ASSUMED = 128 << 10
"""Up to so many bytes a base is put where nothing stands, without asking first whether it does."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`replaces`: the writers whose stream this one goes on with.

    `takes_over`: the writers whose history gives way to ours where the two differ, each up to a
    generation: somebody said so in so many words, of what stood there then.
    """

    writer: str
    since: str
    replaces: tuple[str, ...] = ()
    takes_over: Mapping[str, int] = field(default_factory=dict)
    format: int = FORMAT


async def put_claim(
    store: Store,
    names: Names,
    key: str,
    *,
    replaces: frozenset[str] = frozenset(),
    takes_over: Mapping[str, int] | None = None,
) -> bool:
    """Claim the stream under a base key for this writer.

    What an earlier claim of ours says stays said. Returns whether there was none.
    """
    where = claim_key(names.prefix, key, names.writer)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    taken = dict(sorted((takes_over or {}).items()))
    fresh = Claim(names.writer, now, tuple(sorted(replaces)), taken)
    try:
        await _put(store, where, fresh, Absent())
    except ConditionFailed:
        if not replaces and not taken:
            return False
        etag, known = await _read(store, where)
        known = known or fresh
        merged = replace(
            known,
            replaces=tuple(sorted({*known.replaces, *replaces})),
            takes_over={
                writer: max(known.takes_over.get(writer, -1), taken.get(writer, -1))
                for writer in sorted({*known.takes_over, *taken})
            },
        )
        if merged != known or known is fresh:
            await _put(store, where, merged, Matches(etag))
        return False
    return True


async def claim_untouched(store: Store, names: Names, key: str, size: int) -> Survey | None:
    """Claim a stream that nobody has, of which `size` bytes would be sent.

    Returns what stands there since then; `None` where somebody has it, or had it. Whoever closes a
    generation has a claim, and claims stay: where there is none, nothing was ever closed. Raises
    `StoreError`.
    """
    if size > ASSUMED and await store.head(key) is not None:
        return None
    tails = await list_tails(store, names.prefix, key)
    if tails != Tails() or not await put_claim(store, names, key):
        return None
    return Survey(None, None, Tails(claims=(names.writer,)), Chain(), -1, may_list=True)


async def claim_found(
    store: Store, names: Names, key: str, found: Survey, replaces: str = ""
) -> Survey:
    """Claim a stream before anything is written to it: whoever claims later sees it.

    Returns what stands there since then. Raises `Superseded` where that changed meanwhile.
    """
    if store.appends or names.writer in found.tails.claims:
        return found
    replaced = frozenset({replaces} - {names.writer, ""})
    await put_claim(store, names, key, replaces=replaced)
    again = await survey(store, names.prefix, key)
    if not _is_same(found, again):
        raise Superseded("the archive changed while it was claimed")
    return again


async def taken_over(store: Store, names: Names, key: str, generation: int) -> frozenset[str]:
    """Return the writers whose history in a generation gives way to ours, by our own claim."""
    try:
        _, known = await _read(store, claim_key(names.prefix, key, names.writer))
    except NotFound:
        return frozenset()
    taken = known.takes_over.items() if known else ()
    return frozenset(writer for writer, last in taken if generation <= last)


async def _put(store: Store, where: str, claim: Claim, condition: Absent | Matches) -> None:
    metadata = {f"{META_PREFIX}format": str(FORMAT), f"{META_PREFIX}writer": claim.writer}
    await store.put(where, msgspec.json.encode(claim), metadata, condition)


async def _read(store: Store, where: str) -> tuple[str, Claim | None]:
    async with store.read(where) as reading:
        body = b"".join([chunk async for chunk in reading.chunks])
        etag = reading.head.etag
    try:
        return etag, msgspec.json.decode(body, type=Claim)
    except msgspec.MsgspecError:
        return etag, None


def _is_same(before: Survey, after: Survey) -> bool:
    """Whether nothing but claims came in between."""
    tags = tuple(found.head.etag if found.head else "" for found in (before, after))
    segments = before.tails.segments == after.tails.segments
    return tags[0] == tags[1] and segments and before.closed == after.closed
