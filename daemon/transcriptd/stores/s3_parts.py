"""Of which parts an object is made: pure decisions about the limits of multipart uploads.

Knows neither requests nor servers. A part is either one run of bytes that the server copies, or
bytes that go through here, from one piece or from many.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from transcriptd.errors import Unsupported
from transcriptd.stores import Stored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transcriptd.stores import Piece

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an upload may look like; bytes, but for `parts`. The defaults are S3's, or suit it.

    `usual` is the size of a part, until so many would be needed that they have to be larger. What
    is stored and all there is, is the last part, too: it may be copied from `alone` bytes on.
    """

    whole: int = 64 * MIB
    least: int = 5 * MIB
    alone: int = 16 << 10
    most: int = 5 * GIB
    usual: int = 8 * MIB
    parts: int = 10_000

    def part_size(self, total: int) -> int:
        """Return the size of a part, such that a tenth of the parts is left for odd ones."""
        even = -(-total * 10 // (self.parts * 9))
        return max(self.usual, self.least, even)


@dataclass(frozen=True, slots=True)
class Part:
    """One part: a stored piece that the server copies, or pieces whose bytes are sent."""

    pieces: tuple[Piece, ...]
    copied: Stored | None = None

    @property
    def size(self) -> int:
        return size_of(self.pieces)


def size_of(pieces: Sequence[Piece]) -> int:
    return sum(piece.end - piece.start for piece in pieces)


def has_copies(pieces: Sequence[Piece], limits: Limits) -> bool:
    """Say whether the server could copy some of the pieces, or the one there is."""
    match pieces:
        case [Stored(start=start, end=end)]:
            return end - start >= limits.alone
    return any(_can_be_copied(piece, limits) for piece in pieces)


def parts_of(
    pieces: Sequence[Piece], limits: Limits, *, may_copy: bool, apart: bool = False
) -> tuple[Part, ...] | None:
    """Return the parts of an upload, or `None` where one PUT of the whole does.

    Raises `Unsupported` for what is too large for any upload.
    """
    pieces = [piece for piece in pieces if piece.end > piece.start]
    total = size_of(pieces)
    copying = may_copy and has_copies(pieces, limits)
    match pieces:
        case [Stored() as piece] if copying and total < limits.least:
            return (Part((piece,), copied=piece),)
    if not total or (total <= limits.whole and not copying and not apart):
        return None
    size = limits.part_size(total)
    if size > limits.most:
        raise Unsupported(f"compose: {total} bytes are too many for a multipart upload")
    parts = tuple(_parts(pieces, size, limits, copying=copying))
    if len(parts) > limits.parts:  # so many copies, and odd bytes between them
        parts = tuple(_parts(pieces, size, limits, copying=False))
    return parts


def is_md5(etag: str) -> bool:
    """Say whether an ETag can be the MD5 sum of an object that was written at once."""
    return _MD5.fullmatch(etag) is not None


def _parts(pieces: Sequence[Piece], size: int, limits: Limits, *, copying: bool) -> Iterator[Part]:
    run: list[Piece] = []
    for piece in pieces:
        left = piece
        if copying and _can_be_copied(piece, limits):
            if missing := _missing(size_of(run), size, limits.least):
                run.append(replace(piece, end=piece.start + missing))
                left = replace(piece, start=piece.start + missing)
            if isinstance(left, Stored) and _can_be_copied(left, limits):
                yield from _sent(run, size)
                run = []
                yield from _copied(left, limits.most)
                continue
        run.append(left)
    yield from _sent(run, size)


def _can_be_copied(piece: Piece, limits: Limits) -> bool:
    """Say whether a piece is stored and large enough to be a part that is not the last one."""
    return isinstance(piece, Stored) and piece.end - piece.start >= limits.least


def _missing(run: int, size: int, least: int) -> int:
    """Return how many bytes the last part of a run lacks to be followed by another part."""
    rest = run % size
    return least - rest if 0 < rest < least else 0


def _sent(run: Sequence[Piece], size: int) -> Iterator[Part]:
    part: list[Piece] = []
    room = size
    for piece in run:
        at = piece.start
        while at < piece.end:
            end = min(piece.end, at + room)
            part.append(replace(piece, start=at, end=end))
            room -= end - at
            at = end
            if not room:
                yield Part(tuple(part))
                part, room = [], size
    if part:
        yield Part(tuple(part))


def _copied(piece: Stored, most: int) -> Iterator[Part]:
    length = piece.end - piece.start
    count = -(-length // most)
    bounds = [piece.start + length * n // count for n in range(count + 1)]
    for start, end in pairwise(bounds):
        part = replace(piece, start=start, end=end)
        yield Part((part,), copied=part)
