"""Which sessions somebody wants back: by name, all of them, or those of a machine or a project.

Turns what was said into what is to be restored, with one listing of the archive where names alone
do not tell. Reads the beginning of a session only where its directory matters.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from transcriptd.errors import AccessDenied, NotFound, TranscriptdError
from transcriptd.layout import history_key
from transcriptd.mirrors import find_mirrors, joined, machines, named, session_of
from transcriptd.projects import is_about
from transcriptd.wanted import (
    DOCUMENTS,
    WantedMirror,
    asked,
    listed,
    of_mirror,
    of_stream,
    wanted,
    wanted_mirror,
)
from transcriptd.whereabouts import Finder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transcriptd.mirrors import MirroredSession
    from transcriptd.stores import Store
    from transcriptd.wanted import AnyWanted

_AT_ONCE = 16


class NothingThere(TranscriptdError):
    """The archive has nothing of what was asked for; the message says what it has instead."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for. Without `names`, `every` or a machine says how far it goes.

    `machine` is whose mirrors are meant; by default those of the machine that asks. `agents` and
    `project` narrow it down.
    """

    names: tuple[str, ...] = ()
    every: bool = False
    machine: str | None = None
    agents: frozenset[str] = frozenset()
    project: str | None = None
    generation: int | None = None

    @property
    def has_documents(self) -> bool:
        """Whether sessions are meant that are no mirrors: they belong to no machine."""
        is_meant = not self.agents or DOCUMENTS in self.agents
        return is_meant and (self.every or self.machine is None)

    @property
    def has_mirrors(self) -> bool:
        return not self.agents or bool(self.agents - {DOCUMENTS})


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is to be restored, in order; why not, for each name that leads to nothing.

    `others` are the machines whose mirrors the archive has beside those that are meant.
    """

    wanted: list[AnyWanted]
    missing: dict[str, str]
    others: list[str]


class Chooser:
    """Chooses among what an archive has, on the machine of this name."""

    def __init__(self, store: Store, prefix: str, machine: str) -> None:
        self._store = store
        self._prefix = prefix
        self._machine = machine

    async def choose(self, choice: Choice) -> Chosen:
        """Say what is meant. Raises `NothingThere`, `StoreError`."""
        if choice.names:
            return await self._by_name(choice)
        machine = choice.machine or self._machine
        streams = await listed(self._store, self._prefix)
        mirrors = [m for each in streams if (m := session_of(self._prefix, each))]
        self._require(choice, mirrors)
        found: list[AnyWanted] = []
        if choice.has_documents:
            found += [w for each in streams if (w := of_stream(self._prefix, each))]
        if choice.has_mirrors:
            found += map(of_mirror, joined(self._meant(mirrors, machine, choice.agents)))
        found = await self._of_project(found, choice.project)
        others = [each for each in machines(mirrors) if each != machine]
        return Chosen(sorted(found, key=lambda each: each.modified), {}, others)

    async def of_machine(self, agents: frozenset[str]) -> list[AnyWanted]:
        """Return what the archive has of some agents on this machine. Raises `StoreError`."""
        if DOCUMENTS in agents:
            return (await self.choose(Choice(every=True, agents=agents))).wanted
        find = partial(find_mirrors, self._store, self._prefix, machine=self._machine)
        mirrors = await asked(find)
        return [of_mirror(each) for each in self._meant(mirrors, self._machine, agents)]

    async def machines(self) -> list[str]:
        """Return of which machines the archive has mirrors; none where that is not to be known.

        Raises `StoreError`.
        """
        try:
            return machines(await asked(partial(find_mirrors, self._store, self._prefix)))
        except AccessDenied:
            return []

    @staticmethod
    def _meant(
        mirrors: Iterable[MirroredSession], machine: str, agents: frozenset[str]
    ) -> list[MirroredSession]:
        return [m for m in mirrors if m.machine == machine and (not agents or m.agent in agents)]

    def _require(self, choice: Choice, mirrors: list[MirroredSession]) -> None:
        """Raise `NothingThere` where a machine was named that has stored nothing."""
        known = machines(mirrors)
        if choice.machine is None or choice.machine in known:
            return
        there = f"it has those of: {', '.join(known)}" if known else "it has none of any machine"
        raise NothingThere(
            f"The archive has no mirrored sessions of machine {choice.machine}; {there}."
        )

    async def _by_name(self, choice: Choice) -> Chosen:
        found: dict[tuple[str, int | None], AnyWanted] = {}
        missing: dict[str, str] = {}
        lookup = _Lookup(self._store, self._prefix, choice.machine or self._machine)
        for what in choice.names:
            try:
                several = await self._named(what, choice, lookup)
            except NothingThere as nothing:
                missing[what] = str(nothing)
                continue
            found |= {(each.key, each.generation): each for each in several}
        return Chosen(list(found.values()), missing, [])

    async def _named(self, what: str, choice: Choice, lookup: _Lookup) -> list[AnyWanted]:
        if mirror := wanted_mirror(self._prefix, what, choice.generation):
            return [mirror]
        document, agents = None, " or ".join(sorted(choice.agents))
        if choice.has_documents or what.startswith(self._prefix):
            with suppress(ValueError):
                document = wanted(self._prefix, what, choice.generation)
        is_key = document is not None and "/" in what
        if document and (is_key or await self._has(document.session_id)):
            return [document]
        if choice.has_mirrors and (mirrors := await lookup.named(what, choice)):
            await self._require_generation(mirrors, choice.generation)
            return [*mirrors]
        if document and choice.generation is not None:
            return [document]  # a finished generation stands, also where the current one is lost
        of_them = f" of {agents}" if agents else ""
        raise NothingThere(f"there is no session {what}{of_them} in the archive")

    async def _require_generation(
        self, files: Iterable[WantedMirror], generation: int | None
    ) -> None:
        """Raise `NothingThere` where a session has no such generation, before what belongs to it.

        What belongs to it is asked for as it is now.
        """
        for key in {each.key for each in files if each.generation is not None}:
            finder = Finder(self._store, self._prefix, key)
            try:
                await asked(partial(finder.find, generation, 0))
            except NotFound:
                message = f"the archive has no generation {generation} of it"
                raise NothingThere(message) from None

    async def _has(self, session_id: str) -> bool:
        key = history_key(self._prefix, session_id)
        return await asked(lambda: self._store.head(key)) is not None

    async def _of_project(self, found: list[AnyWanted], project: str | None) -> list[AnyWanted]:
        if project is None:
            return found
        kept: list[AnyWanted] = []
        for at in range(0, len(found), _AT_ONCE):
            batch = found[at : at + _AT_ONCE]
            about = await asyncio.gather(
                *(is_about(self._store, self._prefix, each, project) for each in batch)
            )
            kept += [each for each, is_wanted in zip(batch, about, strict=True) if is_wanted]
        return kept


class _Lookup:
    """Finds mirrored sessions by name; lists a machine once, and all of them only in need."""

    def __init__(self, store: Store, prefix: str, machine: str) -> None:
        self._find = partial(find_mirrors, store, prefix)
        self._machine = machine
        self._here: list[MirroredSession] | None = None

    async def named(self, what: str, choice: Choice) -> list[WantedMirror]:
        """Return a session and all that belongs to it. Raises `NothingThere`, `StoreError`.

        A generation counts for the session itself.
        """
        if self._here is None:
            try:
                self._here = await asked(partial(self._find, machine=self._machine))
            except AccessDenied:  # what may not be listed can be restored by its key
                self._here = []
        here = [each for each in self._here if _is_asked_for(each, choice)]
        found = named(here, what)
        ids = sorted({(each.agent, each.session_id) for each in found})
        if len(ids) > 1:
            several = ", ".join(f"{name} ({agent})" for agent, name in ids)
            raise NothingThere(f"several sessions are meant: {several}")
        if not found:
            self._require_agent(named(self._here, what), choice)
            await self._look_elsewhere(what, choice)
        inner = [each for each in here for main in found if _belongs(each, main)]
        meant = [replace(of_mirror(each), generation=choice.generation) for each in found]
        return [*map(of_mirror, inner), *meant]

    @staticmethod
    def _require_agent(found: list[MirroredSession], choice: Choice, option: str = "") -> None:
        """Raise `NothingThere` where sessions are called so, and none is of an agent asked for."""
        if found and not any(_is_asked_for(each, choice) for each in found):
            theirs = sorted({each.agent for each in found})
            raise NothingThere(
                f"it is a session of {', '.join(theirs)}: say {option}--agent {theirs[0]}"
            )

    async def _look_elsewhere(self, what: str, choice: Choice) -> None:
        try:
            everywhere = await asked(self._find)
        except AccessDenied:
            return
        found = named(everywhere, what)
        option = f"--machine {found[0].machine} " if found else ""
        self._require_agent(found, choice, option)
        if there := machines(each for each in found if _is_asked_for(each, choice)):
            raise NothingThere(f"machine {', '.join(there)} has it: say --machine {there[0]}")


def _is_asked_for(each: MirroredSession, choice: Choice) -> bool:
    return not choice.agents or each.agent in choice.agents


def _belongs(each: MirroredSession, main: MirroredSession) -> bool:
    """Say whether a file belongs to a session: Claude Code's subagents and tool results."""
    inside = main.path.removesuffix(".jsonl") + "/"
    return each.agent == main.agent == "claude" and each.path.startswith(inside)
