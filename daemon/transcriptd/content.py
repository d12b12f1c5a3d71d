"""The bytes of a stream as they stand at its source, read in pieces of any size.

Whoever uploads or digests a stream asks for the piece at hand and holds no more than that, so that
a stream may be larger than memory.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK = 1 << 20
_LINE_FEED = b"\n"


class Content(Protocol):
    """Bytes `[0, size)`. They stay what they are, or `read` raises `Changing`."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    def read(self, start: int, end: int) -> bytes:
        """Return bytes `[start, end)`, all of them. Blocks; any thread may call it."""


@dataclass(frozen=True, slots=True)
class Held:
    """Content that is held in memory: a document that had to be read whole anyway."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, end: int) -> bytes:
        return self.data if (start, end) == (0, len(self.data)) else self.data[start:end]


class Joined:
    """Lines that are held in memory one by one, each without its line feed.

    A read puts together what it returns. Once all is asked for at once, that alone is held.
    """

    def __init__(self, lines: Sequence[bytes | memoryview]) -> None:
        self._lines = lines
        self._ends = [*accumulate(len(memoryview(line)) + 1 for line in lines)]
        self._whole: Held | None = None

    @property
    def size(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, start: int, end: int) -> bytes:
        lines, whole = self._lines, self._whole
        if whole:
            return whole.read(start, end)
        end = min(end, self.size)
        if start >= end:
            return b""
        first, last = bisect_right(self._ends, start), bisect_left(self._ends, end)
        pieces: list[bytes | memoryview] = [*lines[first : last + 1], b""]
        if end < self._ends[last]:
            pieces[-2:] = [memoryview(lines[last])[: end - self._start(last)]]
        pieces[0] = memoryview(pieces[0])[start - self._start(first) :]
        joined = b"\n".join(pieces)
        if len(joined) == self.size:
            self._whole, self._lines = Held(joined), ()
        return joined

    def _start(self, number: int) -> int:
        return self._ends[number - 1] if number else 0


@dataclass(slots=True)
class Records:
    """How many records a stream has that arrives in pieces: its lines, and a rest without its end.

    `feeds` counts line feeds.
    """

    feeds: int = 0
    ends_a_line: bool = True

    def update(self, piece: bytes) -> None:
        if piece:
            self.feeds += piece.count(_LINE_FEED)
            self.ends_a_line = piece.endswith(_LINE_FEED)

    @property
    def count(self) -> int:
        return self.feeds + (not self.ends_a_line)


def end_of_lines(content: Content, end: int) -> int:
    """Return where the last line feed within the first `end` bytes ends, 0 for none. Blocks."""
    while end:
        start = (end - 1) // BLOCK * BLOCK
        found = content.read(start, end).rfind(_LINE_FEED)
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def count_lines(content: Content, end: int) -> int:
    """Return how many records the first `end` bytes are. Blocks."""
    records = Records()
    for at in range(0, end, BLOCK):
        records.update(content.read(at, min(at + BLOCK, end)))
    return records.count


def _conforms(held: Held, joined: Joined) -> tuple[Content, ...]:
    return held, joined
