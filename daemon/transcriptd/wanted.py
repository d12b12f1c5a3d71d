"""Which sessions there are in the archive, and which of them somebody means.

Owns how the restoring verbs ask: a few times, as readers do. Reads no lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from transcriptd.archive import ATTEMPTS, Bounded, may_pass
from transcriptd.errors import NotFound
from transcriptd.gate import Gate
from transcriptd.layout import conflict_key, document_key, history_key
from transcriptd.listing import streams_in
from transcriptd.retry import until_done

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transcriptd.listing import Archived
    from transcriptd.stores import Store

T = TypeVar("T")

_LINES = re.compile(r"([\w-]{1,128})/history\.jsonl")
_CLOSED = re.compile(r"\.generations/([\w-]{1,128})/history\.jsonl/(\d{6,})\.jsonl")
_CONFLICT = re.compile(r"\.conflicts/([\w-]{1,128})/history\.jsonl/([^/]+)\.jsonl")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A session to restore: where its lines and the rest are, and which generation of them."""

    session_id: str
    key: str
    document_key: str
    generation: int | None = None


def wanted(prefix: str, what: str, generation: int | None = None) -> Wanted:
    """Say what a session id or a key of the archive means. Raises `ValueError` for others."""
    below = what.removeprefix(prefix)
    if match := _LINES.fullmatch(below) or _LINES.fullmatch(f"{what}/history.jsonl"):
        return _current(prefix, match[1], generation)
    if match := _CLOSED.fullmatch(below):
        return _current(prefix, match[1], int(match[2]))
    if match := _CONFLICT.fullmatch(below):
        rest = conflict_key(prefix, document_key(prefix, match[1]), match[2])
        return Wanted(match[1], what, rest, generation)
    raise ValueError(f"neither a session id nor the key of a session: {what!r}")


async def everything(store: Store, prefix: str) -> list[Wanted]:
    """Find every session in the archive, in one listing; what was archived last comes last.

    Second writers' streams are not among them. Raises `StoreError`.
    """

    async def attempt() -> list[Archived]:
        return [each async for each in streams_in(store.list(prefix), prefix)]

    found = [each for each in await asked(attempt) if each.size is not None]
    sessions = [each for each in found if each.key == history_key(prefix, each.name)]
    return [_current(prefix, each.name) for each in sorted(sessions, key=lambda e: e.modified)]


async def asked(attempt: Callable[[], Awaitable[T]]) -> T:
    """Ask the store, again a few times where that may help. Raises the last error."""
    gate = Gate(1)

    async def once() -> T:
        async with gate.turn():
            return await attempt()

    return await until_done(once, worth_it=may_pass, stop=Bounded(ATTEMPTS))


async def read_small(store: Store, key: str) -> bytes | None:
    """Read an object that fits into memory; `None` where there is none. Raises `StoreError`."""

    async def attempt() -> bytes:
        async with store.read(key) as reading:
            return b"".join([chunk async for chunk in reading.chunks])

    try:
        return await asked(attempt)
    except NotFound:
        return None


def _current(prefix: str, session_id: str, generation: int | None = None) -> Wanted:
    lines, rest = history_key(prefix, session_id), document_key(prefix, session_id)
    return Wanted(session_id, lines, rest, generation)
