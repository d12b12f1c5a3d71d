"""When agents delete sessions that do not change any more, by their own settings.

Only reads those, and only when somebody asks: an agent's setting is looked up once a minute at
most.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING

from transcriptd.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transcriptd.sources import Source

SOON_S = 7 * 86_400.0
"""What counts as soon where nothing else is said, in seconds."""

_REMEMBER_S = 60.0
_NEVER_S = 100 * 365 * 86_400.0


class Expiry:
    """The deadlines of some sources. `clock` gives monotonic seconds."""

    def __init__(
        self, sources: Mapping[str, Source], *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._trees = {name: each for name, each in sources.items() if isinstance(each, Tree)}
        self._clock = clock
        self._known: dict[str, tuple[float, float | None]] = {}

    def after(self, source: str) -> float | None:
        """Return after how many seconds without a change a session is deleted, if ever."""
        tree = self._trees.get(source)
        if tree is None:
            return None
        read_at, seconds = self._known.get(source, (-math.inf, None))
        if self._clock() - read_at >= _REMEMBER_S:
            seconds = _sound(tree.expires_after())
            self._known[source] = self._clock(), seconds
        return seconds

    def at(self, source: str, changed_at: float) -> float | None:
        """Return when a session that changed last at this time is deleted, both Unix seconds."""
        after = self.after(source)
        return None if after is None else changed_at + after


def _sound(seconds: float | None) -> float | None:
    """Return seconds that one can count with: a setting may be any number."""
    return None if seconds is None or not seconds < _NEVER_S else max(0.0, seconds)
