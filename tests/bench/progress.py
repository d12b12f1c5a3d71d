"""Says on standard error what is being measured, and about how long all of it still takes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Progress:
    """A line for each step.

    `guesses` are the seconds that each step may take; what the steps done took corrects them.
    """

    def __init__(self, guesses: Sequence[float]) -> None:
        self._guesses = list(guesses)
        self._done = 0
        self._began = time.monotonic()

    def begin(self, title: str) -> None:
        """Say what comes now."""
        left_s = sum(self._guesses[self._done :]) * self._pace()
        step = f"[{self._done + 1}/{len(self._guesses)}] {title}"
        print(f"{step} (about {duration(left_s)} to go)", file=sys.stderr, flush=True)

    def end(self) -> None:
        self._done += 1

    def _pace(self) -> float:
        """How much longer than guessed things take here."""
        guessed_s = sum(self._guesses[: self._done])
        return (time.monotonic() - self._began) / guessed_s if guessed_s else 1.0


def duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
