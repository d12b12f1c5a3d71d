"""What a session's file said over its life, what the daemon said is archived, and what is missing.

The file's content is kept in runs, in each of which it only grew: an undo begins the next. When
the daemon says that so many bytes of a generation are archived, the run that has an end of a line
there is meant, and these bytes are promised. Knows the format's rules, neither files nor stores.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def lines_of(content: bytes) -> list[bytes]:
    """Split what ends in a line feed into lines; what stands behind the last one is left out."""
    return re.findall(rb"[^\n]*\n", content)


@dataclass(slots=True)
class Run:
    """Lines that only became more; `ends` says where each ends."""

    lines: list[bytes] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        return self.ends[-1] if self.ends else 0

    def add(self, lines: list[bytes]) -> None:
        for line in lines:
            self.ends.append(self.length + len(line))
            self.lines.append(line)

    def upto(self, length: int) -> list[bytes] | None:
        """Return the lines that make just so many bytes; `None` where no line ends there."""
        if not length:
            return []
        at = bisect_left(self.ends, length)
        is_end = at < len(self.ends) and self.ends[at] == length
        return self.lines[: at + 1] if is_end else None

    @property
    def content(self) -> bytes:
        return b"".join(self.lines)


@dataclass(frozen=True, slots=True)
class Promise:
    """So many bytes of a run are archived."""

    run: int
    length: int


@dataclass(slots=True)
class Account:
    """One session. `id` is what the daemon's log calls it, and its keys end in `suffix`.

    `is_gone`: its agent deleted it.
    """

    id: str
    suffix: str
    runs: list[Run] = field(default_factory=lambda: [Run()])
    promises: dict[int, Promise] = field(default_factory=dict)
    is_gone: bool = False
    unclear: int = 0  # what was archived is one of several contents of the same length

    @property
    def length(self) -> int:
        return self.runs[-1].length

    @property
    def is_archived(self) -> bool:
        """Whether the daemon has said so of the file as it is now."""
        return Promise(len(self.runs) - 1, self.length) in self.promises.values()

    def grows(self, lines: list[bytes]) -> None:
        self.runs[-1].add(lines)

    def becomes(self, lines: list[bytes]) -> None:
        """Take in a file that was rewritten."""
        before = self.runs[-1].lines
        if lines[: len(before)] == before:
            self.grows(lines[len(before) :])
            return
        run = Run()
        run.add(lines)
        self.runs.append(run)

    def archived(self, generation: int, length: int) -> None:
        """Hear that so many bytes are archived."""
        meant = [(at, lines) for at, run in enumerate(self.runs) if (lines := run.upto(length))]
        if not meant:
            return  # a part of a line, or nothing
        at, lines = meant[-1]
        if any(others != lines for _, others in meant):
            self.unclear += 1
            return
        known = self.promises.get(generation)
        if known is None or known.length <= length:
            self.promises[generation] = Promise(at, length)

    def faults(self, streams: Mapping[str, Mapping[int, bytes]]) -> Iterator[str]:
        """Say in sentences what is wrong with what is archived, by key and generation.

        A file that was moved has a stream under each of its names: one of them has all.
        """
        found = [of for key, of in streams.items() if key.endswith(self.suffix)]
        yield from self._broken(found)
        yield from self._strange(found)
        yield from self._behind(found)

    def _broken(self, found: Sequence[Mapping[int, bytes]]) -> Iterator[str]:
        for generation, promise in self.promises.items():
            promised = b"".join(self.runs[promise.run].upto(promise.length) or ())
            same = _most_alike(promised, [of.get(generation, b"") for of in found])
            if same < promise.length:
                yield (
                    f"{self.id}: {promise.length} bytes of generation {generation} were archived, "
                    f"of which the first {same} are there"
                )

    def _strange(self, found: Sequence[Mapping[int, bytes]]) -> Iterator[str]:
        said = [run.content for run in self.runs]
        for generation, held in (row for of in found for row in of.items()):
            if not any(content.startswith(held) for content in said):
                same = _most_alike(held, said)
                yield (
                    f"{self.id}: no file ever said the {len(held)} bytes of generation "
                    f"{generation}, the first {same} at most"
                )

    def _behind(self, found: Sequence[Mapping[int, bytes]]) -> Iterator[str]:
        if not self.length or (self.is_gone and not self.is_archived):
            return
        last = self.runs[-1].content
        current = [of[max(of)] for of in found if of]
        if last not in current:
            yield (
                f"{self.id}: its file said {len(last)} bytes at last, of which the first "
                f"{_most_alike(last, current)} are archived, in {list(map(len, current))}"
            )


def _most_alike(one: bytes, others: Sequence[bytes]) -> int:
    """Return how many bytes a content has at most in common with others from its beginning."""
    return max((_alike(one, other) for other in others), default=0)


def _alike(one: bytes, other: bytes) -> int:
    """Return how many bytes two contents have in common from their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
