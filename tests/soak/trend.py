"""Whether something creeps: a pure judgement over samples of one life of a process.

The slope is Theil and Sen's: the median of the slopes between all pairs, which no outlier moves.
It is taken over the medians of short stretches, so that hours of samples stay few pairs. Knows
nothing of what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HOUR_S = 3600.0
SHORTEST_S = 300.0
_STRETCHES = 200
_FEWEST = 8


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of something may creep, in `unit`.

    It creeps where it gains more than `per_hour` and, from the first quarter to the last, more than
    `slack`: a steep slope over little is noise, and so is a step that is not gone on with. What
    was watched for less than `SHORTEST_S` is not judged: a process that has just begun grows.
    Nor is what has no limit per hour.
    """

    what: str
    unit: str
    per_hour: float | None
    slack: float = 0.0


@dataclass(frozen=True, slots=True)
class Trend:
    """How something went: medians of the first and the last quarter, and the slope."""

    limit: Limit
    first: float
    last: float
    per_hour: float
    hours: float

    @property
    def creeps(self) -> bool:
        limit = self.limit
        if limit.per_hour is None or self.hours * HOUR_S < SHORTEST_S:
            return False
        return self.per_hour > limit.per_hour and self.last - self.first > limit.slack

    def __str__(self) -> str:
        limit = self.limit
        unit = limit.unit and f" {limit.unit}"
        return (
            f"{limit.what} grew from {self.first:.4g} to {self.last:.4g}{unit} within "
            f"{60 * self.hours:.0f} minutes, {self.per_hour:.4g} an hour: "
            f"{limit.per_hour:.4g} is the limit"
        )


def trend(limit: Limit, series: Sequence[tuple[float, float]]) -> Trend | None:
    """Judge what was measured; `None` where that is too little to say anything."""
    if len(series) < _FEWEST:
        return None
    quarter = len(series) // 4
    return Trend(
        limit=limit,
        first=median(value for _, value in series[:quarter]),
        last=median(value for _, value in series[-quarter:]),
        per_hour=slope(_stretches(series)) * HOUR_S,
        hours=(series[-1][0] - series[0][0]) / HOUR_S,
    )


def slope(series: Sequence[tuple[float, float]]) -> float:
    """Return the median slope between two points, in what is measured per second."""
    slopes = [(b - a) / (then - when) for (when, a), (then, b) in combinations(series, 2)]
    return median(slopes) if slopes else 0.0


def _stretches(series: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the medians of equally many samples in a row, at most so many."""
    length = -(-len(series) // _STRETCHES)
    pieces = [series[start : start + length] for start in range(0, len(series), length)]
    return [(median(when for when, _ in p), median(value for _, value in p)) for p in pieces]
