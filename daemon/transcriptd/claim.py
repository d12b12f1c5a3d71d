"""Claims: who writes to a stream, since when, and whom it replaces.

No fencing: a claim makes a second writer visible, so that each looks twice (README, "Archive
format", "Who may write"). A claim is one small object beside the stream's tail segments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from transcriptd.errors import ConditionFailed, NotFound
from transcriptd.layout import FORMAT, META_PREFIX, claim_key
from transcriptd.stores import Absent, Matches

if TYPE_CHECKING:
    from transcriptd.layout import Names
    from transcriptd.stores import Store


@dataclass(frozen=True, slots=True)
class Claim:
    """`replaces`: the writers whose stream this one goes on with.

    `takes_over`: the writers whose history gives way to ours where the two differ; somebody said
    so in so many words.
    """

    writer: str
    since: str
    replaces: tuple[str, ...] = ()
    takes_over: tuple[str, ...] = ()
    format: int = FORMAT


async def put_claim(
    store: Store,
    names: Names,
    key: str,
    *,
    replaces: frozenset[str] = frozenset(),
    takes_over: frozenset[str] = frozenset(),
) -> None:
    """Claim the stream under a base key for this writer.

    What an earlier claim of ours says stays said.
    """
    where = claim_key(names.prefix, key, names.writer)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    fresh = Claim(names.writer, now, tuple(sorted(replaces)), tuple(sorted(takes_over)))
    try:
        await _put(store, where, fresh, Absent())
    except ConditionFailed:
        if not replaces and not takes_over:
            return
        etag, known = await _read(store, where)
        known = known or fresh
        merged = replace(
            known,
            replaces=tuple(sorted({*known.replaces, *replaces})),
            takes_over=tuple(sorted({*known.takes_over, *takes_over})),
        )
        if merged != known or known is fresh:
            await _put(store, where, merged, Matches(etag))


async def taken_over(store: Store, names: Names, key: str) -> frozenset[str]:
    """Return the writers whose history gives way to ours, by our own claim."""
    try:
        _, known = await _read(store, claim_key(names.prefix, key, names.writer))
    except NotFound:
        return frozenset()
    return frozenset(known.takes_over) if known else frozenset()


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
