"""Bytes between open files and contents: what an object is made of, written where it belongs.

Stored bytes are copied by the kernel, others read from their content; no more than a chunk is ever
held. Everything blocks; it raises `OSError` for the disk, and `ContentFailed` for a content.
"""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transcriptd.errors import ConditionFailed, Damaged, NotFound, RangeInvalid
from transcriptd.stores import Fresh

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transcriptd.stores import Head, Piece, Stored

CHUNK = 1 << 20
_COPIED_AT_ONCE = 64 << 20
_CANNOT_COPY = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV})


class ContentFailed(Exception):
    """Reading a content raised `reason`: no error of the disk, whatever its type."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(type(reason).__name__)
        self.reason = reason


class GivenUp(Exception):
    """Nobody waits for this write any more: it must not come late."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An object's bytes, open for reading: no later write changes them.

    `length` is what should stand there; `head.size` is less where the file was cut. `recorded`:
    whether it was written by this store.
    """

    descriptor: int
    head: Head
    length: int
    recorded: bool

    def close(self) -> None:
        os.close(self.descriptor)

    def chunk(self, start: int, size: int) -> bytes:
        return os.pread(self.descriptor, size, start)


class PieceWriter:
    """Writes pieces into an open file. Raises `GivenUp` between two chunks once `given_up` says so.

    `open_object` opens a stored one.
    """

    def __init__(self, open_object: Callable[[str], Opened], given_up: Callable[[], bool]) -> None:
        self._open = open_object
        self._given_up = given_up

    def write(self, target: int, at: int, pieces: Sequence[Piece]) -> int:
        """Write from byte `at` on; return where it ends."""
        for piece in pieces:
            if isinstance(piece, Fresh):
                self._write_fresh(target, at, piece)
            else:
                self._copy_stored(target, at, piece)
            at += piece.end - piece.start
        return at

    def must_go_on(self) -> None:
        if self._given_up():
            raise GivenUp

    def _write_fresh(self, target: int, at: int, piece: Fresh) -> None:
        for start in range(piece.start, piece.end, CHUNK):
            self.must_go_on()
            end = min(piece.end, start + CHUNK)
            try:
                chunk = piece.content.read(start, end)
            except Exception as reason:  # noqa: BLE001 - whatever it is, it is handed on
                raise ContentFailed(reason) from None
            if len(chunk) != end - start:
                raise Damaged("compose: a content gave other bytes than were asked of it")
            _write_all(target, at + start - piece.start, chunk)

    def _copy_stored(self, target: int, at: int, piece: Stored) -> None:
        try:
            opened = self._open(piece.key)
        except NotFound:
            raise ConditionFailed("compose: a stored piece is gone") from None
        try:
            if opened.head.etag != piece.etag:
                raise ConditionFailed("compose: a stored piece is not what it was")
            if not 0 <= piece.start <= piece.end <= opened.length:
                raise RangeInvalid("compose: a stored piece ends behind its object")
            if opened.head.size < piece.end:
                raise Damaged("compose: a stored object is shorter than it should be")
            start = piece.start
            while start < piece.end:
                self.must_go_on()
                copied = _copy(opened.descriptor, start, piece.end, target, at)
                if not copied:
                    raise Damaged("compose: a stored object became shorter")
                start, at = start + copied, at + copied
        finally:
            opened.close()


def _copy(source: int, start: int, end: int, target: int, at: int) -> int:
    """Copy some bytes of `[start, end)`; return how many, 0 where there are none."""
    if sys.platform == "linux":
        try:
            size = min(end - start, _COPIED_AT_ONCE)
            return os.copy_file_range(source, target, size, start, at)
        except OSError as error:
            if error.errno not in _CANNOT_COPY:
                raise
    chunk = os.pread(source, min(end - start, CHUNK), start)
    _write_all(target, at, chunk)
    return len(chunk)


def _write_all(target: int, at: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        written = os.pwrite(target, view, at)
        view, at = view[written:], at + written
