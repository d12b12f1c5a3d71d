"""When a base takes in its tail. Pure.

Sealing too seldom leaves readers that know only the base behind; too often sends a session again
and again. The bound: over its life a session costs no more than a few times its bytes (README,
"Archive format").
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transcriptd.model import Cursor

MANY_SEGMENTS = 900
_MOST_SENT = 3  # times the length, with this seal and a last one


class Occasion(Enum):
    """What is a reason to think of a seal."""

    WRITTEN = "written"  # something was just archived; more may follow at once
    QUIET = "quiet"  # nothing came for a minute
    NOW = "now"  # a drain, or somebody asked


def is_due(cursor: Cursor, occasion: Occasion, now: float, *, max_lag: float, copies: bool) -> bool:
    """Say whether the base takes in its tail now.

    `now` in Unix seconds, `max_lag` in seconds. `copies`: the store copies this base when it is
    sealed (`write` knows). A base that is due where it is sent again is due where it is copied:
    whoever has to find that out need not, unless the two answers differ.
    """
    if not cursor.tail_length:
        return False
    if occasion is Occasion.NOW or not 0 <= now - cursor.behind_since < max_lag:
        return True
    if occasion is Occasion.QUIET:
        # What the store copies, a last seal does not send again.
        last = 0 if copies else cursor.length
        return cursor.sent + cost(cursor, copies=copies) + last <= _MOST_SENT * cursor.length
    if cursor.segments < MANY_SEGMENTS:
        return False
    return cursor.tail_length >= cursor.base_length or copies


def cost(cursor: Cursor, *, copies: bool) -> int:
    """Return how many bytes a seal sends; `copies` as in `is_due`."""
    return cursor.tail_length if copies else cursor.length


def seconds_left(cursor: Cursor, now: float, *, max_lag: float) -> float | None:
    """Return in how many seconds the base has been behind for too long; `None`: it is not."""
    if not cursor.tail_length:
        return None
    return min(max_lag, max(0.0, cursor.behind_since + max_lag - now))
