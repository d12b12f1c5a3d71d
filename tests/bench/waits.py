"""What saves and arrivals say together: how long saves waited, who was behind, what came first.

Pure. All times are of one monotonic clock, in seconds; what never came, came after `inf`. A save
that took messages away and added none has the number 0: nothing of it could arrive.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.bench.agent import Save
    from tests.bench.tap import Arrival


@dataclass(frozen=True, slots=True)
class Life:
    """One process of a contender: when it was started, and when it was ended."""

    start: float
    end: float


class Arrived:
    """When the messages of each session had arrived; what arrives again is not news."""

    def __init__(self, arrivals: Iterable[Arrival]) -> None:
        self._numbers: dict[str, list[int]] = defaultdict(list)
        self._times: dict[str, list[float]] = defaultdict(list)
        self._news: list[float] = []
        for arrival in sorted(arrivals, key=attrgetter("at")):
            numbers = self._numbers[arrival.session_id]
            if not numbers or arrival.number > numbers[-1]:
                numbers.append(arrival.number)
                self._times[arrival.session_id].append(arrival.at)
                self._news.append(arrival.at)

    def when(self, save: Save) -> float:
        """Return when this save, or a later one, had arrived."""
        index = bisect_left(self._numbers[save.session_id], save.number)
        times = self._times[save.session_id]
        return times[index] if index < len(times) else inf

    def lacks(self, save: Save, now: float) -> bool:
        """Say whether this save had something that had not arrived by then."""
        return save.number > 0 and self.when(save) > now

    def first_between(self, start: float, end: float) -> float:
        """Return when something new arrived first in that time."""
        index = bisect_right(self._news, start)
        first = self._news[index] if index < len(self._news) else inf
        return first if first <= end else inf


def delays(saves: Iterable[Save], arrived: Arrived) -> list[float]:
    """Return how long each save waited."""
    return [arrived.when(save) - save.at for save in saves if save.number]


def behind(saves: Sequence[Save], arrived: Arrived, start: float, end: float) -> list[float]:
    """Count for each second the sessions whose last save had not arrived."""
    counts = []
    last: dict[str, Save] = {}
    following = iter(sorted(saves, key=attrgetter("at")))
    save = next(following, None)
    for second in range(int(end - start) + 1):
        now = start + second
        while save is not None and save.at <= now:
            last[save.session_id] = save
            save = next(following, None)
        counts.append(float(sum(arrived.lacks(each, now) for each in last.values())))
    return counts


def recoveries(saves: Iterable[Save], arrived: Arrived, accepted_at: float) -> list[float]:
    """Return how long each session that was behind when the store came back was so from then on.

    A session has caught up when the state that it had at that moment has arrived.
    """
    waiting = _waiting(saves, arrived, accepted_at)
    return [arrived.when(save) - accepted_at for save in waiting]


def first_archives(saves: Sequence[Save], arrived: Arrived, lives: Iterable[Life]) -> list[float]:
    """Return after how long each life that began with something to do archived anything new.

    Never, where it ended before it did.
    """
    busy = [life for life in lives if _waiting(saves, arrived, life.start)]
    return [arrived.first_between(life.start, life.end) - life.start for life in busy]


def _waiting(saves: Iterable[Save], arrived: Arrived, now: float) -> list[Save]:
    """Return the last save of each session that had not arrived by then."""
    then = [save for save in sorted(saves, key=attrgetter("at")) if save.at <= now]
    last = {save.session_id: save for save in then}
    return [save for save in last.values() if arrived.lacks(save, now)]
