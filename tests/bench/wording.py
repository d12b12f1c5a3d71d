"""Says values and ratios as people read them."""

from __future__ import annotations

import math

TIMES = "\N{MULTIPLICATION SIGN}"
_SAME = 1.1  # closer than this is noise on a busy machine


def number(value: float) -> str:
    """Say a number with the two or three digits that matter."""
    if not math.isfinite(value):
        return "never"
    if value >= 10 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2g}" if value < 1 else f"{value:.1f}"


def measured(value: float, unit: str) -> str:
    """Say a value with its unit, which becomes s or GB where that is shorter."""
    if not math.isfinite(value):
        return "never"
    if unit == "ms" and value >= 1000:
        value, unit = value / 1000, "s"
    if unit == "MB" and value >= 1000:
        value, unit = value / 1000, "GB"
    return f"{number(value)} {unit}".strip()


def is_base(value: float) -> bool:
    """Say whether something can be so many times of it."""
    return 0 < value < math.inf


def ratio(value: float, base: float) -> str:
    """Say how many times `base` a value is."""
    times = value / base
    if 1 / _SAME < times < _SAME:
        return "same"
    return f"{number(times)} {TIMES}" if math.isfinite(times) else "never"
