"""Gives a machine that starts empty its newest sessions back, within bounds.

What stands on the machine already is left alone, whatever it holds: there it is the agent's. What
is newest is fetched first, so that it is there if the time does not suffice. Knows no terminal.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum, auto
from time import time_ns
from typing import TYPE_CHECKING

from transcriptd.choice import Chooser
from transcriptd.errors import TranscriptdError
from transcriptd.layout import Meta, SegmentMeta, machine_of
from transcriptd.projects import KNOWN, is_about
from transcriptd.wanted import DOCUMENTS, Wanted, asked
from transcriptd.whereabouts import Finder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from transcriptd.restore import Outcome, Restorer
    from transcriptd.stores import Store
    from transcriptd.wanted import AnyWanted

_AT_ONCE = 16
_STEP_NS = 1_000_000


class Earlier:
    """Nanoseconds since 1970 that go back: what is written later is older, as its agent sees it."""

    def __init__(self, start: int | None = None) -> None:
        self._next = time_ns() if start is None else start

    def __call__(self) -> int:
        self._next -= _STEP_NS
        return self._next


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is fetched at most: `sessions`, and bytes as the archive counts them."""

    sessions: int
    size: int


@dataclass(slots=True)
class Found:
    """What there is of an agent and a workspace: `there` already, `left` for want of room.

    `elsewhere` are sessions about other directories. `strangers` are the machines that the archive
    has sessions of, where it has none of this one.
    """

    wanted: list[AnyWanted]
    there: int = 0
    left: int = 0
    elsewhere: list[AnyWanted] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)


class _State(Enum):
    """What a session is to this machine."""

    MISSING = auto()
    THERE = auto()
    ELSEWHERE = auto()
    NOT_OURS = auto()  # another machine's, or nothing that can be restored


class Hydrator:
    """Finds what is missing on this machine, and restores it."""

    def __init__(self, store: Store, prefix: str, machine: str, restorer: Restorer) -> None:
        self._store = store
        self._prefix = prefix
        self._machine = machine
        self._chooser = Chooser(store, prefix, machine)
        self._restorer = restorer
        self._writers: set[str] = set()

    async def find(self, agents: frozenset[str], workspace: str, bounds: Bounds) -> Found:
        """Find the newest sessions that are missing, the newest first. Raises `StoreError`.

        Those of this machine: mirrors under its name, others that it wrote last. Agents whose
        sessions say no directory have no workspace: all of theirs count.
        """
        found, room = Found([]), bounds
        newest = sorted(
            sessions(await self._chooser.of_machine(agents)),
            key=lambda files: max(each.modified for each in files),
            reverse=True,
        )
        for at in range(0, len(newest), _AT_ONCE):
            batch = newest[at : at + _AT_ONCE]
            asked = (self._missing(files, workspace) for files in batch)
            for files, (missing, state) in zip(batch, await asyncio.gather(*asked), strict=True):
                size = sum(each.size for each in missing)
                found.there += state is _State.THERE
                if state is _State.ELSEWHERE:
                    found.elsewhere.append(files[0])
                elif missing and (not room.sessions or size > room.size):
                    found.left += 1
                elif missing:
                    found.wanted += missing
                    room = Bounds(room.sessions - 1, room.size - size)
            if not room.sessions:
                states = [(await self._standing(files))[1] for files in newest[at + _AT_ONCE :]]
                found.there += states.count(_State.THERE)
                found.left += states.count(_State.MISSING)
                break
        if not (found.wanted or found.there or found.left):
            found.strangers = await self._strangers(found.elsewhere)
        return found

    async def restore(self, wanted: Iterable[AnyWanted], report: Callable[[Outcome], None]) -> None:
        """Restore what was found."""
        await self._restorer.restore(wanted, report)

    async def _missing(
        self, files: Sequence[AnyWanted], workspace: str
    ) -> tuple[list[AnyWanted], _State]:
        """Return what of a session is missing here and wanted, and what the session is."""
        missing, state = await self._standing(files)
        if not missing:
            return [], state
        first = files[0]
        agent = DOCUMENTS if isinstance(first, Wanted) else first.agent
        if agent in KNOWN and not await is_about(self._store, self._prefix, first, workspace):
            return [], _State.ELSEWHERE
        if isinstance(first, Wanted) and not await self._is_ours(first):
            return [], _State.NOT_OURS
        return missing, state

    async def _standing(self, files: Sequence[AnyWanted]) -> tuple[list[AnyWanted], _State]:
        """Return what of a session is missing on this disk, whoever's it is."""
        there = [await asyncio.to_thread(self._is_there, each) for each in files]
        missing = [each for each, is_there in zip(files, there, strict=True) if is_there is False]
        if missing:
            return missing, _State.MISSING
        return [], _State.THERE if True in there else _State.NOT_OURS

    async def _strangers(self, elsewhere: Sequence[AnyWanted]) -> list[str]:
        """Return the machines that the archive has sessions of; none where this is one of them."""
        self._writers.update(await self._chooser.machines())
        for each in elsewhere:
            if self._machine in self._writers:
                break
            if isinstance(each, Wanted):
                await self._is_ours(each)
        return [] if self._machine in self._writers else sorted(self._writers)

    async def _is_ours(self, each: Wanted) -> bool:
        """Say whether a session that belongs to no machine was last written by this one.

        What another machine is at work on stays its own; what nobody signed may be anybody's.
        """
        finder = Finder(self._store, self._prefix, each.key)
        last = (await asked(lambda: finder.find(None, None))).parts[-1]
        head = await asked(lambda: self._store.head(last.key))
        decode = SegmentMeta.decode if last.is_segment else Meta.decode
        said = decode(head.metadata) if head else None
        if said is None:
            return True
        self._writers.add(machine_of(said.writer))
        return machine_of(said.writer) == self._machine

    def _is_there(self, each: AnyWanted) -> bool | None:
        """Say whether a file stands; `None` for what cannot be restored at all."""
        try:
            return self._restorer.stands(each) is not None
        except TranscriptdError:
            return None


def sessions(found: Iterable[AnyWanted]) -> list[list[AnyWanted]]:
    """Put what belongs to one session together: of Claude Code a file and a directory of its name.

    The session's own file comes first, where there is one.
    """
    together: dict[tuple[str, str], list[AnyWanted]] = {}
    for each in sorted(found, key=lambda each: each.key.count("/")):
        name = (each.key, "")
        if not isinstance(each, Wanted) and each.agent == "claude":
            project, _, rest = each.path.partition("/")
            name = (project, rest.partition("/")[0].removesuffix(".jsonl"))
        together.setdefault(name, []).append(each)
    return list(together.values())
