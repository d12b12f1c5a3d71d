"""What people and their agents do in a mixed day, from a seed. Carries nothing out.

Forty sessions are active at any time. An agent saves its session several times in a turn, then
somebody reads and thinks. Before the next turn something is now and then undone, the session is
compacted, or left for a new one; some of those that were left are deleted.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from math import inf, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSIONS = 40
PAUSE = (10.0, 90.0)  # seconds between two turns
CHANCE_S = 30.0  # what is taken out of a file has stood there for so long: all had a chance at it
LIFE = (4.0, 9.0)  # seconds from a start to a kill
OUTAGE_S = 60.0

_SAVES = (3, 15)  # in a turn
_BETWEEN = (0.3, 3.0)  # seconds, from save to save
_MESSAGE = (300, 2_000, 30_000)  # bytes: smallest, median, largest
_START = (5_000, 100_000, 2_000_000)
_TOOL_RESULT = 200_000
_TOOL_RESULTS = 0.01  # of all messages
_UNDONE = 4  # at most so many messages
_COMPACTED = 20  # no fewer messages
_UNDO, _COMPACT, _LEAVE = 0.08, 0.06, 0.06  # of all turns
_DELETED = 0.5  # of the sessions that were left


class Deed(Enum):
    GROW = "grow"  # a session that is not there yet begins with it
    UNDO = "undo"
    COMPACT = "compact"  # and go on in the same save, as agents do
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that is done to a session, in seconds from the beginning of the day."""

    at: float
    session_id: str
    deed: Deed
    sizes: tuple[int, ...] = ()  # bytes of the messages that are added
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """What stands at the beginning, and what comes, in its order."""

    first: tuple[Event, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds from the beginning of the day."""

    start: float
    end: float

    def holds(self, at: float) -> bool:
        return self.start <= at < self.end


NEVER = Span(inf, inf)


def schedule(
    seed: int,
    seconds: float,
    *,
    sessions: int = SESSIONS,
    pause: tuple[float, float] = PAUSE,
    calm: Span = NEVER,
) -> Schedule:
    """Plan a day. While it is calm nothing is taken out of a file, the rest of it is the same."""
    seats = [
        _Seat(random.Random(f"{seed}/{seat}"), seat, seconds, pause, calm)
        for seat in range(sessions)
    ]
    first = tuple(seat.first() for seat in seats)
    events = sorted(chain.from_iterable(seat.events() for seat in seats), key=lambda e: e.at)
    return Schedule(first, tuple(events))


def outage_in(seconds: float) -> Span:
    """Say when the store is gone: in the middle of the day, for a third of it at most."""
    length = min(OUTAGE_S, seconds / 3)
    return Span((seconds - length) / 2, (seconds + length) / 2)


def lives(seed: int, name: str, life: tuple[float, float] = LIFE) -> Iterator[float]:
    """Yield for how many seconds each process of a contender lives, each contender its own."""
    chance = random.Random(f"{seed}/{name}")
    while True:
        yield chance.uniform(*life)


class _Seat:
    """Somebody with one active session at a time."""

    def __init__(
        self,
        chance: random.Random,
        seat: int,
        seconds: float,
        pause: tuple[float, float],
        calm: Span,
    ) -> None:
        self._chance = chance
        self._seat = seat
        self._seconds = seconds
        self._pause = pause
        self._calm = calm
        self._begun = 0
        self._session_id = self._next_id()
        self._messages = 0
        self._saved_at = -inf  # what stands at the beginning has stood for ever

    def first(self) -> Event:
        sizes: list[int] = []
        wanted = _spread(self._chance, _START)
        while sum(sizes) < wanted:
            sizes.append(min(_spread(self._chance, _MESSAGE), wanted))
        self._messages = len(sizes)
        return Event(0, self._session_id, Deed.GROW, tuple(sizes))

    def events(self) -> Iterator[Event]:
        at = self._chance.uniform(0, sum(self._pause) / 2)
        while at < self._seconds:
            yield from self._before_a_turn(at)
            for _ in range(self._chance.randint(*_SAVES)):
                at += self._chance.uniform(*_BETWEEN)
                if at >= self._seconds:
                    return
                yield self._grown(at, Deed.GROW)
            at += self._chance.uniform(*self._pause)

    def _before_a_turn(self, at: float) -> Iterator[Event]:
        draw, count = self._chance.random(), self._chance.randint(1, _UNDONE)
        quiet_s = at - self._saved_at
        takes_away = quiet_s >= CHANCE_S and not self._calm.holds(at)
        if draw < _UNDO:
            if takes_away and self._messages > count:
                self._messages -= count
                yield Event(at, self._session_id, Deed.UNDO, dropped=count)
        elif draw < _UNDO + _COMPACT:
            if takes_away and self._messages >= _COMPACTED:
                self._messages -= self._messages // 2 - 1
                yield self._grown(at, Deed.COMPACT)
        elif draw < _UNDO + _COMPACT + _LEAVE:
            yield from self._left(at)

    def _left(self, at: float) -> Iterator[Event]:
        gone_at = max(at, self._saved_at + CHANCE_S) + self._chance.uniform(0, CHANCE_S)
        deleted = self._chance.random() < _DELETED
        if deleted and gone_at < self._seconds and not self._calm.holds(gone_at):
            yield Event(gone_at, self._session_id, Deed.DELETE)
        self._session_id = self._next_id()
        self._messages = 0

    def _grown(self, at: float, deed: Deed) -> Event:
        sizes = tuple(self._size() for _ in range(self._chance.randint(1, 3)))
        self._messages += len(sizes)
        self._saved_at = at
        return Event(at, self._session_id, deed, sizes)

    def _size(self) -> int:
        if self._chance.random() < _TOOL_RESULTS:
            return _TOOL_RESULT
        return _spread(self._chance, _MESSAGE)

    def _next_id(self) -> str:
        self._begun += 1
        return f"day-{self._seat:03}-{self._begun:03}"


def _spread(chance: random.Random, sizes: tuple[int, int, int]) -> int:
    """Draw from a log-normal distribution; what lies beyond the ends is at the ends."""
    smallest, median, largest = sizes
    sigma = log(largest / smallest) / 4  # 95 of 100 lie within, where the median is in the middle
    return round(min(max(chance.lognormvariate(log(median), sigma), smallest), largest))
