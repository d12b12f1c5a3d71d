"""A contender at work beside others, watched, perhaps killed; with a bucket of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from tests.bench.contender import Ground
from tests.bench.tap import Counts
from tests.bench.waits import Arrived, Life

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bench.contender import Contender, Usage
    from tests.bench.tap import Tap
    from tests.servers import Server

_SETTLE_S = 60.0
_SAMPLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Toll:
    """What it took from `begin` to the end of its last chance."""

    counts: Counts
    counts_until_stopped: Counts
    cpu_s: float
    usage: Usage
    memory_mb: tuple[float, ...]  # each second; 0 where nothing ran
    arrived: Arrived
    lives: tuple[Life, ...]
    accepted_at: float  # inf where the store was never gone
    ended_at: float


class Lane:
    """One contender. Its methods are called in the order in which they stand here."""

    def __init__(self, kind: type[Contender], sessions: Path, home: Path, tap: Tap) -> None:
        self.name = kind.name
        self.contender = kind(Ground(sessions, home, tap.server))
        self._tap = tap
        self._memory_mb: list[float] = []
        self._lives: list[Life] = []
        self._started_at = inf
        self._accepted_at = inf
        self._cpu_s = 0.0
        self._counts = Counts()

    @property
    def bucket(self) -> Server:
        return self._tap.server

    def start(self) -> None:
        self._started_at = time.monotonic()
        self.contender.start()

    def settle(self) -> None:
        """Let it archive what stands there already."""
        self.contender.settle(_SETTLE_S)

    def begin(self) -> None:
        """Count from here."""
        self._cpu_s, self._counts = self.contender.usage().cpu_s, self._tap.counts()

    def live(self, over: threading.Event, lives_s: Iterator[float]) -> None:
        """Watch its memory, and kill and start it after each life, until it is over."""
        kill_at = time.monotonic() + next(lives_s)
        while not over.wait(min(_SAMPLE_S, max(0.0, kill_at - time.monotonic()))):
            if time.monotonic() < kill_at:
                self._memory_mb.append(self.contender.usage().rss_mb)
                continue
            self.contender.kill()
            self._lives.append(Life(self._started_at, time.monotonic()))
            self.start()
            kill_at = time.monotonic() + next(lives_s)

    def refuse(self) -> None:
        self._tap.refuse()

    def accept(self) -> None:
        self._accepted_at = time.monotonic()
        self._tap.accept()

    def end(self) -> Toll:
        """Give it a last chance at what stands there, and stop it."""
        self.settle()
        ended_at, usage = time.monotonic(), self.contender.usage()
        counts, arrived = self._tap.counts() - self._counts, Arrived(self._tap.arrivals())
        self.stop()
        return Toll(
            counts=counts,
            counts_until_stopped=self._tap.counts() - self._counts,
            cpu_s=usage.cpu_s - self._cpu_s,
            usage=usage,
            memory_mb=tuple(self._memory_mb),
            arrived=arrived,
            lives=(*self._lives, Life(self._started_at, ended_at)),
            accepted_at=self._accepted_at,
            ended_at=ended_at,
        )

    def stop(self) -> None:
        self.contender.stop()
