"""How many sessions are worked on at once, when each one's turn comes, and what waits.

Owns the queue (two `Debounce`s: changes, and what is left to do once a session is quiet) and the
slots. What is done in a turn is the `attempt` it was given (`worker`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from transcriptd.debounce import Debounce
from transcriptd.retry import until_done

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from transcriptd.model import Session


@dataclass(frozen=True, slots=True)
class Turn:
    """A session's turn. `since`: when its oldest unarchived change was seen (monotonic seconds).

    `settled`: it has been quiet, so that what besides the lines has changed is archived, too.
    `quiet`: nothing came for a minute. `sealing`: somebody asked that its base takes in its tail.
    """

    session: Session
    since: float
    settled: bool
    sealing: bool = False
    quiet: bool = False


@dataclass(eq=False, slots=True)
class _Awaited:
    """Somebody waits until these sessions' changes up to a moment have had their turn."""

    sessions: set[Session]
    asked: float
    done: asyncio.Event = field(default_factory=asyncio.Event)


SETTLED_S = 60.0


class Pool:
    """`run` works until it is cancelled; everything else says what there is to do, or asks.

    `attempt` does a turn's work and returns in how many seconds of quiet it wants a settled turn,
    or `None`. Whatever it raises is tried again with back-off; `on_failure` hears it.
    """

    def __init__(
        self,
        attempt: Callable[[Turn], Awaitable[float | None]],
        *,
        workers: int,
        debounce: Debounce,
        on_failure: Callable[[Session, BaseException, float], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._attempt = attempt
        self._debounce = debounce
        self._settling = Debounce(quiet=SETTLED_S, max_wait=float("inf"))
        self._settled: set[Session] = set()
        self._sealing: set[Session] = set()
        self._quiet: set[Session] = set()
        self._on_failure = on_failure
        self._clock = clock
        self._slots = asyncio.Semaphore(workers)
        self._changed = asyncio.Event()
        self._awaited: list[_Awaited] = []
        self._hurried = asyncio.Event()
        self.working_since: dict[Session, float] = {}

    def touch(self, session: Session, *, at_once: bool = False) -> None:
        """Note that a session may have changed."""
        self._debounce.touch(session, self._clock(), within=0.0 if at_once else None)
        self._changed.set()

    def settle(self, session: Session, *, within: float = 0.0) -> None:
        """Give a session a settled turn in so many seconds at most: its last may not have come."""
        now = self._clock()
        due = self._settling.due(session)
        if due is None or now + within < due:
            self._settling.touch(session, now, within=within)
            self._changed.set()

    def hurry(self, *, seal: bool = False) -> None:
        """Make everything due now: what waits, what is settling, what rests after a failure.

        `seal`: their bases take in their tails, too.
        """
        now = self._clock()
        for session in {*self._settling.sessions(), *self._debounce.sessions()}:
            self._settled.add(session)
            if seal:
                self._sealing.add(session)
            self._debounce.touch(session, now, within=0.0)
        self._settling.clear()
        self._debounce.wake(now)
        self._changed.set()
        self._hurried.set()
        self._hurried.clear()

    def waiting(self, *, for_s: float = 0.0) -> dict[Session, float]:
        """Return the sessions that wait or are being worked on, and since how many seconds.

        `for_s` leaves out those whose oldest change was seen later than that long ago.
        """
        waits = zip(*self.waits(), strict=True)
        return {session: age for session, age in waits if age >= for_s}

    @property
    def backlog(self) -> int:
        """How many there are."""
        return len(self._debounce)

    def waits(self) -> tuple[list[Session], list[float]]:
        """Return the same sessions, and their seconds: of very many in a tenth of the time."""
        now = self._clock()
        sessions, since = self._debounce.since()
        return sessions, [now - each for each in since]

    async def worked_off(self) -> None:
        """Wait until every change that is known now has had its turn, or was given up."""
        awaited = _Awaited(set(self._debounce.sessions()), self._clock())
        if not awaited.sessions:
            return
        self._awaited.append(awaited)
        try:
            await awaited.done.wait()
        finally:
            self._awaited.remove(awaited)

    def _tell_waiters(self, session: Session) -> None:
        since = self._debounce.waiting_since(session)
        for awaited in self._awaited:
            if since is None or since > awaited.asked:
                awaited.sessions.discard(session)
                if not awaited.sessions:
                    awaited.done.set()

    async def run(self) -> None:
        """Work on what is due, as much at once as there are slots, until cancelled."""
        async with asyncio.TaskGroup() as turns:
            while True:
                await self._until_due()
                # Only now: whoever rests wants the last slot back, too.
                await self._slots.acquire()
                session = self._debounce.take(self._clock())
                if session is None:  # it changed again while no slot was free
                    self._slots.release()
                    continue
                turns.create_task(self._take_turn(session), name=f"archive {session.id}")

    async def _until_due(self) -> None:
        while True:
            self._changed.clear()
            now = self._clock()
            while (quiet := self._settling.take(now)) is not None:
                self._settling.finish(quiet, now)
                self._settled.add(quiet)
                self._quiet.add(quiet)
                self._debounce.touch(quiet, now, within=0.0)
            both = (self._debounce.next_due(), self._settling.next_due())
            due = min((due for due in both if due is not None), default=None)
            if due is not None and due <= now:
                return
            try:
                async with asyncio.timeout(None if due is None else due - now):
                    await self._changed.wait()
            except TimeoutError:
                continue  # something is due

    async def _take_turn(self, session: Session) -> None:
        since = self._debounce.waiting_since(session) or self._clock()
        self.working_since[session] = self._clock()
        asked_for = (self._settled, self._sealing, self._quiet)
        turn = Turn(session, since, *(session in each for each in asked_for))
        for each in asked_for:
            each.discard(session)  # what is asked for from now on is for the next turn
        try:
            settle_in = await until_done(
                lambda: self._attempt(turn),
                worth_it=lambda error: isinstance(error, Exception),
                before_pause=lambda error, pause_s: self._on_failure(session, error, pause_s),
                sleep=lambda pause_s: self._rest(session, pause_s),
            )
            if settle_in is not None:
                self._settle_later(session, settle_in)
        finally:
            self.working_since.pop(session, None)
            self._debounce.finish(session, self._clock())
            self._slots.release()
            self._changed.set()
            self._tell_waiters(session)

    async def _rest(self, session: Session, pause_s: float) -> None:
        """Wait for the next attempt without holding a slot: others go on meanwhile."""
        if pause_s == 0.0:
            return
        self.working_since.pop(session, None)
        self._slots.release()
        try:
            async with asyncio.timeout(pause_s):
                await self._hurried.wait()
        except TimeoutError:
            pass  # the pause is over
        finally:
            await self._slots.acquire()
            self.working_since[session] = self._clock()

    def _settle_later(self, session: Session, quiet_s: float) -> None:
        if quiet_s >= SETTLED_S:  # every change puts it off
            self._settling.touch(session, self._clock(), within=quiet_s)
        else:
            self.settle(session, within=quiet_s)
