"""Lines of a stream that arrives in pieces. A line ends at a line feed, and at nothing else.

Never more than the piece at hand is held, and the line at hand where whole lines are wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_END = b"\n"


async def split(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield each line with its line feed; the last one may have none."""
    begun: list[bytes] = []
    async for chunk in chunks:
        start = 0
        while end := chunk.find(_END, start) + 1:
            begun.append(chunk[start:end])
            yield b"".join(begun)
            begun, start = [], end
        if start < len(chunk):
            begun.append(chunk[start:])
    if begun:
        yield b"".join(begun)


async def between(
    chunks: AsyncIterator[bytes], first: int, last: int | None
) -> AsyncIterator[bytes]:
    """Yield the bytes of lines `[first, last)`, from 0, as they come; then ask for no more."""
    ended = 0
    async for chunk in chunks:
        start, found = _behind(chunk, 0, first - ended)
        ended += found
        if ended < first:
            continue
        end = len(chunk)
        if last is not None:
            end, found = _behind(chunk, start, last - ended)
            ended += found
        if start < end:
            yield chunk[start:end]
        if ended == last:
            return


def _behind(chunk: bytes, start: int, lines: int) -> tuple[int, int]:
    """Return where so many lines end, or the chunk does, and how many of them ended."""
    if (there := chunk.count(_END, start)) < lines:
        return len(chunk), there
    for _ in range(lines):
        start = chunk.index(_END, start) + 1
    return start, max(0, lines)
