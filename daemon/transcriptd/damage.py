"""Counts the lines of a JSONL file that are no JSON: torn, spliced, or full of NUL bytes.

They are archived as they are; the count is for people. Holds at most one line of 1 MiB: of a longer
one only its ends and its NUL bytes are looked at.
"""

from __future__ import annotations

import json

import msgspec

_LONGEST = 1 << 20
_any = msgspec.json.Decoder(msgspec.Raw)


class Damage:
    """`lines` counts on with what is fed. Where `counts` is false, nothing is looked at."""

    def __init__(self, lines: int = 0, *, counts: bool = True) -> None:
        self.lines = lines
        self._counts = counts
        self._skips = False
        self._kept: list[bytes] = []
        self._length = 0
        self._first = self._last = b""  # of what is no white space
        self._has_nul = False

    def goes_on(self, before: bytes, *, begins_a_line: bool) -> None:
        """Go on behind these bytes, whose lines are counted already but for an unfinished one.

        Where that begins before them, nothing can be said of it.
        """
        _, feed, unfinished = before.rpartition(b"\n")
        if feed or begins_a_line:
            self._add(unfinished)
        else:
            self._skips = True

    def feed(self, piece: memoryview) -> None:
        """Look at the bytes that follow."""
        if not self._counts or not piece:
            return
        *whole, rest = bytes(piece).split(b"\n")
        for line in whole:
            self._add(line)
            self._end()
        if rest:
            self._add(rest)

    def _add(self, part: bytes) -> None:
        self._first = self._first or part.lstrip()[:1]
        self._last = part.rstrip()[-1:] or self._last
        self._length += len(part)
        self._has_nul = self._has_nul or b"\0" in part
        if self._length <= _LONGEST:
            self._kept.append(part)
        else:
            self._kept.clear()

    def _end(self) -> None:
        if not self._skips and self._is_damaged():
            self.lines += 1
        self._skips = False
        self._kept, self._length, self._has_nul = [], 0, False
        self._first = self._last = b""

    def _is_damaged(self) -> bool:
        if self._length > _LONGEST:
            return self._has_nul or (self._first, self._last) != (b"{", b"}")
        line = b"".join(self._kept)
        return bool(line.strip()) and not is_json(line)


def is_json(line: bytes) -> bool:
    """Say whether this is one JSON value, and nothing else."""
    try:
        if not line.isascii():
            line.decode()
        _any.decode(line)
    except msgspec.MsgspecError:
        return _is_json_with_half_characters(line)
    except (RecursionError, UnicodeDecodeError):
        return False
    return True


def _is_json_with_half_characters(line: bytes) -> bool:
    """Decide where msgspec refuses: also lone surrogates, which JavaScript writes as escapes."""
    try:
        json.loads(line.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(constant)
