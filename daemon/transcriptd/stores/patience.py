"""How long a store may take for one request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """`base_s` for anything, and the bytes of the request at the slowest rate that is put up with.

    `rate` in bytes per second.
    """

    base_s: float = 10.0
    rate: float = 256 * 1024

    def deadline(self, size: int) -> float:
        """Return the seconds a request may take that moves `size` bytes."""
        return self.base_s + size / self.rate
