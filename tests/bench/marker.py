"""Marks in messages, by which bytes on their way to any archive say what they hold.

Each message has one, `~~{session}:{number}~~`; numbers rise from 1 through a session's life, and
none is used twice. Knows nothing of documents and of who carries them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_MARKER = re.compile(rb"~~([A-Za-z0-9_.-]{1,64}):([0-9]{8})~~")
_LAST = re.compile(_MARKER.pattern + rb"\Z")
_WIDTH = 2 + 64 + 1 + 8 + 2


class Marker(NamedTuple):
    session_id: str
    number: int


def written(session_id: str, number: int) -> bytes:
    return b"~~%s:%08d~~" % (session_id.encode("ascii"), number)


def markers_in(data: bytes) -> set[Marker]:
    """Return all that stand in some bytes."""
    return {_of(match) for match in _MARKER.finditer(data)}


class LastMarker:
    """Finds the last marker of a body that comes in pieces, also across their borders."""

    __slots__ = ("_tail", "found")

    def __init__(self) -> None:
        self.found: Marker | None = None
        self._tail = b""

    def feed(self, piece: bytes) -> None:
        found = _last(piece) or _last(self._tail + piece[:_WIDTH])
        if found is not None:
            self.found = _of(found)
        self._tail = piece[-_WIDTH:] if len(piece) >= _WIDTH else (self._tail + piece)[-_WIDTH:]


def _last(data: bytes) -> re.Match[bytes] | None:
    # One byte is sought first: that is the C library's search, which costs next to nothing.
    end = data.rfind(b"~") + 1
    while end:
        if found := _LAST.search(data, max(0, end - _WIDTH), end):
            return found
        end = data.rfind(b"~", 0, end - 1) + 1
    return None


def _of(match: re.Match[bytes]) -> Marker:
    return Marker(match[1].decode("ascii"), int(match[2]))
