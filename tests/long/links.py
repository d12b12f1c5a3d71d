"""One machine's way to the archive, and what befalls its requests, each at a `Moment`.

Knows neither what a request is for nor what follows from its fate.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from tests.exchange import SERVER_ERROR, Drip, Fault, Hold, LoseAnswer, Reset
from tests.proxy import Rule
from transcriptd.errors import ServerError, Unreachable
from transcriptd.stores.local import LocalStore

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from tests.exchange import Seen
    from tests.proxy import FaultProxy
    from transcriptd.stores import Store

T = TypeVar("T")

WRITES = "PUT|POST|DELETE"
TROUBLES = ("error", "reset", "answer lost", "answer cut")


@dataclass(frozen=True, slots=True)
class Moment:
    """The request that follows so many others, among all or among those that `write` something."""

    others: int
    write: bool = False

    def __str__(self) -> str:
        return f"{'write' if self.write else 'request'} {self.others}"


class Fate(asyncio.Event):
    """What a held request waits for: that it is let go, or dropped as if it had never been sent."""

    dropped = False

    async def wait(self) -> bool:  # type: ignore[override]  # the type is the same: Literal[True]
        await super().wait()
        if self.dropped:
            raise ConnectionResetError
        return True

    def drop(self) -> None:
        self.dropped = True
        self.set()


@dataclass(slots=True)
class Held:
    """A request that hangs, before its effect or (`answer`) after it."""

    answer: bool
    fate: Fate = field(default_factory=Fate)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    seen: Seen | None = None

    @property
    def completes(self) -> bool:
        """Whether it ends an upload in parts."""
        seen = self.seen
        return seen is not None and seen.method == "POST" and "uploadId=" in seen.query

    @property
    def may_land_late(self) -> bool:
        """Whether it is a whole request that would still do something."""
        seen = self.seen
        if self.answer or seen is None:
            return False
        removes = seen.method == "POST" and seen.query.startswith("delete")
        return seen.method in {"PUT", "DELETE"} or removes or self.completes


class Link(Protocol):
    """How a process reaches its archive."""

    @property
    def store(self) -> Store:
        """The store of the process that lives now."""

    def asked(self) -> int:
        """How many requests were sent so far."""

    def trouble(self, kind: str, at: Moment) -> None:
        """Let one of `TROUBLES` befall a request."""

    def hold(self, held: Held, at: Moment) -> None:
        """Let a request hang."""

    def cut_off(self) -> None:
        """Let nothing arrive any more: the process is dying."""

    def recover(self) -> None:
        """Forget all faults."""

    async def revive(self) -> None:
        """Forget all faults, and give a new process its store."""

    async def landed(self, held: Held) -> None:
        """Let a held request go on, and wait for its end."""


class Cut(Drip):
    """Pass so many bytes of the answer on, then close the connection."""

    def __init__(self, size: int) -> None:
        object.__setattr__(self, "pause", 0.0)
        object.__setattr__(self, "_left", [size])

    def __getattribute__(self, name: str) -> object:
        # The proxy asks for the pause after each byte.
        if name == "pause":
            left = object.__getattribute__(self, "_left")
            left[0] -= 1
            if left[0] < 0:
                raise ConnectionResetError
        return object.__getattribute__(self, name)


@dataclass(slots=True)
class After(Rule):
    """Befalls one request, when so many others have passed."""

    others: int = 0
    held: Held | None = None

    @staticmethod
    def at(moment: Moment, fault: Fault, held: Held | None = None) -> After:
        method = WRITES if moment.write else ".*"
        return After(fault, method, times=1, others=moment.others, held=held)

    def befalls(self, seen: Seen, chance: random.Random) -> bool:
        # Without the zero arguments of `super`: a slotted dataclass is another class than this.
        if not Rule.befalls(self, seen, chance):
            return False
        if self.others:
            self.others -= 1
            return False
        if self.held:
            self.held.seen = seen
            self.held.arrived.set()
        return True


class ServerLink:
    """Over a proxy of its own; `connect` gives a store that goes through it."""

    def __init__(self, proxy: FaultProxy, connect: Callable[[], Store]) -> None:
        self._proxy = proxy
        self._connect = connect
        self._before = len(proxy.requests)
        self._store = connect()

    @property
    def store(self) -> Store:
        return self._store

    def asked(self) -> int:
        return len(self._proxy.requests) - self._before

    def trouble(self, kind: str, at: Moment) -> None:
        faults: dict[str, Fault] = {
            "error": SERVER_ERROR,
            "reset": Reset(),
            "answer lost": LoseAnswer(),
            "answer cut": Cut(600),
        }
        self._proxy.rules.append(After.at(at, faults[kind]))

    def hold(self, held: Held, at: Moment) -> None:
        self._proxy.rules.append(After.at(at, Hold(held.fate, answer=held.answer), held))

    def cut_off(self) -> None:
        self._proxy.rules.insert(0, Rule(Reset()))

    def recover(self) -> None:
        self._proxy.rules.clear()

    async def revive(self) -> None:
        self.recover()
        await self._store.close()
        self._store = self._connect()

    async def landed(self, held: Held) -> None:
        held.fate.set()
        await self._proxy.until(lambda: held.seen is None or held.seen.ended is not None)


class DirectoryLink:
    """To a directory: what befalls a request befalls an operation of the store."""

    def __init__(self, path: Path, prefix: str) -> None:
        self._path, self._prefix = path, prefix
        self._store = Troubled(path, prefix=prefix)

    @property
    def store(self) -> Store:
        return self._store

    def asked(self) -> int:
        return self._store.asked

    def trouble(self, kind: str, at: Moment) -> None:
        self._store.next_trouble = (at, kind, None)

    def hold(self, held: Held, at: Moment) -> None:
        self._store.next_trouble = (at, "hold", held)

    def cut_off(self) -> None:
        self._store.is_cut_off = True

    def recover(self) -> None:
        self._store.next_trouble = None

    async def revive(self) -> None:
        asked = self._store.asked
        self._store = Troubled(self._path, prefix=self._prefix)
        self._store.asked = asked

    async def landed(self, held: Held) -> None:
        held.fate.set()


class Troubled(LocalStore):
    """A local store whose operations fail when they are told to."""

    asked = 0
    is_cut_off = False
    next_trouble: tuple[Moment, str, Held | None] | None = None

    async def _run(self, operation: str, work: Callable[[], T], *, size: int = 0) -> T:
        self.asked += 1
        if self.is_cut_off:
            raise Unreachable("the process is dying")
        kind, held = self._what_befalls(operation)
        if kind in {"error", "reset"}:
            raise ServerError("injected")
        if held and not held.answer:
            held.arrived.set()
            await held.fate.wait()
        result = await super()._run(operation, work, size=size)
        if held and held.answer:
            held.arrived.set()
            await held.fate.wait()
        if kind in {"answer lost", "answer cut"}:
            raise Unreachable("the answer was lost")
        return result

    def _what_befalls(self, operation: str) -> tuple[str, Held | None]:
        if self.next_trouble is None:
            return "", None
        moment, kind, held = self.next_trouble
        if moment.write and operation not in {"put", "compose", "delete"}:
            return "", None
        if moment.others:
            self.next_trouble = replace(moment, others=moment.others - 1), kind, held
            return "", None
        self.next_trouble = None
        return kind, held
