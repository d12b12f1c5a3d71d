"""Where the JSON strings of a piece of a line are, told by its quotes alone."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUOTE = re.compile(b'"')
_STRUCTURE = b" \t\r\n[]{},:0123456789+-.eE"
_LITERALS = (b"true", b"false", b"null", b"NaN", b"Infinity")  # the last two by many readers
_IN_LITERALS = bytes(set(b"".join(_LITERALS)))
_MARK = b"\xef\xbb\xbf"  # of byte order, which some editors put before a file


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a line, cut outside of escapes. Its edges are those of the line, or cuts."""

    raw: bytes
    begins_in_string: bool = False
    begins: bool = True
    ends: bool = True


class Strings:
    """The strings of a piece, by their number. One that a cut goes through is a part of one."""

    def __init__(self, piece: Piece) -> None:
        bare = bare_quotes(piece.raw)
        self._raw = piece.raw
        self._quotes = array("l", (-1,) if piece.begins_in_string else ())
        self._quotes.extend(match.start() for match in _QUOTE.finditer(bare))
        unended = len(self._quotes) % 2 == 1
        if unended:
            self._quotes.append(len(bare))
        self.count = len(self._quotes) // 2
        # Whether what stands outside of them is what JSON has there.
        self.structured = not (unended and piece.ends) and _is_structure(bare, piece)

    def content(self, number: int) -> tuple[int, int]:
        """Return from where to where a string's content goes."""
        return self._quotes[2 * number] + 1, self._quotes[2 * number + 1]

    def reach(self, first: int, last: int) -> bytes:
        """Return strings `[first, last)` and the one before, with what is between them."""
        start = self._quotes[2 * max(0, first - 1)]
        return self._raw[max(0, start) : self._quotes[2 * last - 1] + 1]

    def is_key(self, number: int) -> bool:
        """Say whether a string is the key of a member."""
        return self._gap(number + 1).lstrip().startswith(b":") and (
            self._gap(number).rstrip()[-1:] in {b"", b"{", b","}
        )

    def key_of(self, number: int) -> int | None:
        """Return where the key of a string's member begins, with its quote, if it is in one."""
        if number and self._gap(number).strip() == b":" and self.is_key(number - 1):
            return max(0, self._quotes[2 * number - 2])
        return None

    def without_quotes(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield what is left of a span without the quotes in it."""
        at = bisect_left(self._quotes, start)
        while at < len(self._quotes) and (quote := self._quotes[at]) < end:
            if start < quote:
                yield start, quote
            start = quote + 1
            at += 1
        if start < end:
            yield start, end

    def _gap(self, number: int) -> bytes:
        """Return what stands before a string, or behind the last one."""
        first = self._quotes[2 * number - 1] + 1 if number else 0
        return self._raw[first : self._quotes[2 * number] if number < self.count else None]


def bare_quotes(raw: bytes) -> bytes:
    """Return as many bytes, in which every quote begins or ends a string."""
    return raw.replace(b"\\\\", b"__").replace(b'\\"', b"__")


def _is_structure(bare: bytes, piece: Piece) -> bool:
    gaps = bare.split(b'"')[int(piece.begins_in_string) :: 2]
    if gaps and piece.begins:
        gaps[0] = gaps[0].removeprefix(_MARK)
    elif gaps and not piece.begins_in_string:
        gaps[0] = gaps[0].lstrip(_IN_LITERALS)
    if gaps and not piece.ends:
        gaps[-1] = gaps[-1].rstrip(_IN_LITERALS)
    between = b" ".join(gaps)
    for literal in _LITERALS:
        between = between.replace(literal, b" ")
    return not between.translate(None, _STRUCTURE)
