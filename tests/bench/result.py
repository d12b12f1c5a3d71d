"""What was measured: figures, each of one contender in one scenario."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import TYPE_CHECKING, Self, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Sample(TypedDict):
    """How values spread."""

    n: int
    p50: float
    p99: float
    max: float
    min: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one contender, or of a floor, in one scenario."""

    scenario: str
    contender: str
    what: str
    unit: str  # "ms", "s", "MB", "ms/s"; "" for counts and ratios
    value: float  # the median where there are several
    spread: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, scenario: str, contender: str, what: str, unit: str, values: Iterable[float]
    ) -> Self:
        """Make the figure of several values. Raises `ValueError` where there is none."""
        spread = tuple(values)
        if not spread:
            raise ValueError(f"no values: {scenario}, {contender}, {what}")
        return cls(scenario, contender, what, unit, median(spread), spread)


def sample(values: Sequence[float]) -> Sample:
    """Say how values spread; percentiles by nearest rank. Raises `ValueError` for no values."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return {
        "n": len(ordered),
        "p50": median(ordered),
        "p99": ordered[ceil(0.99 * len(ordered)) - 1],
        "max": ordered[-1],
        "min": ordered[0],
    }
