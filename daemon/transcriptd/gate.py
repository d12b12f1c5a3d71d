"""One gate per store: how many attempts are in flight, and when the next one may start.

While the store is well, up to `limit` attempts run. Where it asks for fewer, the limit is halved.
Where it is down, one attempt at a time is let through as a probe, however many sessions wait, until
one succeeds. After each failure the gate is closed for a while (exponential, full jitter, up to
what the error says).

`Pressure` decides, as a pure value; `Gate` makes callers wait.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING

from transcriptd.errors import Retry, SlowDown, StoreError, StreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

FIRST_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Pressure:
    """What the store has told us lately. Times are monotonic seconds.

    `epoch` counts failures that changed something: an attempt that began in an earlier epoch was
    already under way when the limit was cut, so how it ends says nothing new.
    """

    highest: int
    limit: float
    failures: int = 0
    not_before: float = 0.0
    epoch: int = 0
    down: bool = False

    @property
    def slots(self) -> int:
        """How many attempts may be in flight: one, as a probe, while the store is down."""
        return 1 if self.down else max(1, int(self.limit))

    def succeeded(self, epoch: int) -> Pressure:
        if epoch != self.epoch:
            return self
        limit = min(float(self.highest), self.limit + 1 / self.limit)
        return replace(self, limit=limit, failures=0, not_before=0.0, down=False)

    def failed(self, error: StoreError, epoch: int, now: float, jitter: float) -> Pressure:
        """Take a failure into account; `jitter` is a random number in [0, 1)."""
        if epoch != self.epoch:
            return self
        doublings = min(self.failures, 30)  # a float holds a thousand, an outage many more
        longest = min(error.longest_pause, FIRST_PAUSE_S * 2.0**doublings)
        pause = max(error.retry_after, longest * jitter)
        gentle = isinstance(error, SlowDown)
        return replace(
            self,
            limit=max(1.0, self.limit / 2) if gentle else 1.0,
            failures=self.failures + 1,
            not_before=now + pause,
            epoch=self.epoch + 1,
            down=self.down or not gentle,
        )


class Gate:
    """Makes attempts wait for their turn. `on_change` hears of each failure and recovery."""

    def __init__(
        self,
        highest: int,
        *,
        clock: Callable[[], float] = monotonic,
        jitter: Callable[[], float] = random.random,
        on_change: Callable[[StoreError | None], None] = lambda _: None,
    ) -> None:
        self.pressure = Pressure(highest=highest, limit=float(highest))
        self.in_flight = 0
        self.error: StoreError | None = None
        self._clock = clock
        self._jitter = jitter
        self._on_change = on_change
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._failure = asyncio.Event()

    @property
    def is_free(self) -> bool:
        """Whether an attempt would start without waiting."""
        return (
            not self._waiting
            and self.in_flight < self.pressure.slots
            and self.pressure.not_before <= self._clock()
        )

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn. What the attempt inside raises says how the store is.

        A refusal that concerns one object is an answer, too. An attempt that ends well speaks for
        the store also where it had nothing to ask of it: the next one finds out.
        """
        await self._enter()
        epoch = self.pressure.epoch
        try:
            yield
        except StoreError as error:
            if error.retry is Retry.STORE:
                self._failed(error, epoch)
            else:
                self._succeeded(epoch)
            raise
        except StreamError:
            self._succeeded(epoch)
            raise
        else:
            self._succeeded(epoch)
        finally:
            self.in_flight -= 1
            self._admit()

    def reset(self) -> None:
        """Forget the pause: the machine slept, or somebody asks for an attempt now."""
        self.pressure = replace(self.pressure, not_before=0.0)
        self._admit()

    async def hopeless(self, failures: int) -> None:
        """Return once the store is down and that many attempts in a row have failed."""
        while not (self.pressure.down and self.pressure.failures >= failures):
            self._failure.clear()
            await self._failure.wait()

    async def _enter(self) -> None:
        if self.is_free:
            self.in_flight += 1
            return
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ticket)
        self._admit()
        try:
            await ticket
        except asyncio.CancelledError:
            if ticket.done() and not ticket.cancelled():
                self.in_flight -= 1
            elif ticket in self._waiting:  # `_admit` drops those that were cancelled
                self._waiting.remove(ticket)
            self._admit()
            raise

    def _admit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and self.in_flight < self.pressure.slots:
            pause = self.pressure.not_before - self._clock()
            if pause > 0:
                self._timer = asyncio.get_running_loop().call_later(pause, self._admit)
                return
            ticket = self._waiting.popleft()
            if not ticket.done():
                self.in_flight += 1
                ticket.set_result(None)

    def _succeeded(self, epoch: int) -> None:
        was_failing = self.pressure.failures > 0
        self.pressure = self.pressure.succeeded(epoch)
        if was_failing and not self.pressure.failures:
            self.error = None
            self._on_change(None)

    def _failed(self, error: StoreError, epoch: int) -> None:
        before = self.pressure
        self.pressure = before.failed(error, epoch, self._clock(), self._jitter())
        if self.pressure is not before:
            self.error = error
            self._failure.set()
            self._on_change(error)
