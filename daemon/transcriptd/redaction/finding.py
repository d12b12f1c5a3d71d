"""A place in the bytes of a file where a secret stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Finding:
    """Bytes `[start, end)` of the file, and the name of the rule that found them."""

    start: int
    end: int
    rule: str


def joined(found: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Join what overlaps of `(start, end, rank of the rule)`; return it in order of the bytes.

    The name is that of the earliest, then the longest, then the one that stands first in the table.
    """
    result: list[tuple[int, int, int]] = []
    for start, end, rank in sorted(found, key=lambda one: (one[0], -one[1], one[2])):
        if result and start < result[-1][1]:
            first, last, named = result[-1]
            result[-1] = (first, max(last, end), named)
        else:
            result.append((start, end, rank))
    return result
