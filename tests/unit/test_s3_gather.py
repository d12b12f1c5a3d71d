"""Pieces of a content are fetched into memory, each block of it once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Never

from transcriptd.content import BLOCK
from transcriptd.stores import Fresh
from transcriptd.stores.s3_gather import gathered

DATA = bytes(range(256)) * (5 * BLOCK // 256)


@dataclass
class Asked:
    """A content that notes which of its bytes it was asked for."""

    ranges: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(DATA)

    def read(self, start: int, end: int) -> bytes:
        self.ranges.append((start, end))
        return DATA[start:end]


def nothing_stored(*_: object, **__: object) -> Never:
    raise AssertionError


async def test_a_piece_that_begins_within_a_block_asks_for_no_block_twice() -> None:
    content = Asked()
    piece = Fresh(content, 10, 3 * BLOCK + 7)
    assert (await gathered([piece], nothing_stored)).read() == DATA[10 : 3 * BLOCK + 7]
    blocks = [n for start, end in content.ranges for n in range(start // BLOCK, -(-end // BLOCK))]
    assert blocks == [0, 1, 2, 3]
