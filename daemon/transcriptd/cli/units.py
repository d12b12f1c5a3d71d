"""Numbers as a person reads them: durations, sizes, and how many there are of something."""

from __future__ import annotations

_KIB = 1024


def many(count: int, one: str, several: str) -> str:
    """Say how many there are."""
    return f"{count:,} {one if count == 1 else several}"


def duration(seconds: float) -> str:
    """Say a duration in its two largest units."""
    whole = max(0, round(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def size(count: float) -> str:
    """Say a number of bytes in the unit that fits."""
    if count < _KIB:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= _KIB
        if count < _KIB:
            return f"{count:.1f} {unit}"
    return f"{count / _KIB:.1f} TiB"
