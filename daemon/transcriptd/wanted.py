"""What is to be restored: sessions by where they lie in the archive.

Owns what a key means and how the restoring verbs ask: a few times, as readers do. Reads no lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from transcriptd.archive import ATTEMPTS, Bounded, may_pass
from transcriptd.errors import NotFound
from transcriptd.gate import Gate
from transcriptd.layout import closed_generation, conflict_key, document_key, history_key, mirrored
from transcriptd.listing import streams_in
from transcriptd.retry import until_done
from transcriptd.sources import session_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transcriptd.listing import Archived
    from transcriptd.mirrors import MirroredSession
    from transcriptd.stores import Store

T = TypeVar("T")

DOCUMENTS = "codetether"
"""The agent whose sessions are documents, and belong to no machine."""

_LINES = re.compile(r"([\w-]{1,128})/history\.jsonl")
_CLOSED = re.compile(r"\.generations/([\w-]{1,128})/history\.jsonl/(\d{6,})\.jsonl")
_CONFLICT = re.compile(r"\.conflicts/([\w-]{1,128})/history\.jsonl/([^/]+)\.jsonl")
_BESIDE = re.compile(r"(\.generations|\.conflicts)/(.+)/[^/]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A session to restore: where its lines and the rest are, and which generation of them.

    `modified` (Unix seconds) and `size` (bytes) are what a listing says of it.
    """

    session_id: str
    key: str
    document_key: str
    generation: int | None = None
    modified: float = 0.0
    size: int = 0


@dataclass(frozen=True, slots=True)
class WantedMirror:
    """A mirrored file to restore; `path` is where it stands in the agent's mirror.

    `former` are the keys of the same session under the names that it had before.
    """

    session_id: str
    machine: str
    agent: str
    path: str
    key: str
    generation: int | None = None
    is_shortened: bool = False
    former: tuple[str, ...] = ()
    modified: float = 0.0
    size: int = 0


AnyWanted = Wanted | WantedMirror


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


def wanted_mirror(prefix: str, what: str, generation: int | None = None) -> WantedMirror | None:
    """Say what the key of a mirrored file means; `None` for others."""
    below, base = what.removeprefix(prefix), what
    if match := _BESIDE.fullmatch(below):
        base = prefix + match[2]
        if match[1] == ".generations":
            number = closed_generation(what)
            if number is None:
                return None
            generation, what = number, base
    file = mirrored(prefix, base)
    if file is None:
        return None
    return WantedMirror(
        session_id(file.agent, file.path), file.machine, file.agent, file.path, what,
        generation, file.is_shortened,
    )  # fmt: skip


def of_mirror(session: MirroredSession) -> WantedMirror:
    """Return a session that a listing shows, to be restored as it is now."""
    return WantedMirror(
        session.session_id, session.machine, session.agent, session.path, session.key,
        is_shortened=session.is_shortened, former=session.former,
        modified=session.archived.modified, size=session.archived.length,
    )  # fmt: skip


def of_stream(prefix: str, archived: Archived) -> Wanted | None:
    """Return the session of a history that a listing shows; `None` for other streams."""
    if archived.size is None or archived.key != history_key(prefix, archived.name):
        return None
    current = _current(prefix, archived.name)
    return replace(current, modified=archived.modified, size=archived.length)


async def listed(store: Store, prefix: str) -> list[Archived]:
    """List every stream that has a base, at once. Raises `StoreError`."""

    async def attempt() -> list[Archived]:
        return [each async for each in streams_in(store.list(prefix), prefix)]

    return [each for each in await asked(attempt) if each.size is not None]


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
