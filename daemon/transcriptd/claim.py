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

from transcriptd.errors import ConditionFailed, NotFound
from transcriptd.layout import FORMAT, META_PREFIX, claim_key
from transcriptd.stores import Absent, Matches

if TYPE_CHECKING:
    from transcriptd.layout import Names
    from transcriptd.stores import Store


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
