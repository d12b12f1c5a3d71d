"""Puts a file where an agent looks for it: whole, at once, and nothing that stood there is lost.

The file is written under a name that nobody takes for a session, beside its place or in a directory
above it, and renamed when all of it is on the disk. Blocks; knows neither sources nor the archive.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from itertools import count
from time import time_ns
from typing import TYPE_CHECKING, BinaryIO, Self

from transcriptd import failpoint
from transcriptd.errors import Changing
from transcriptd.files import stat_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transcriptd.model import Stat

_MODE = 0o600
_DIRECTORY_MODE = 0o700
_BUFFER_BYTES = 1 << 20
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def stands(place: Path) -> Stat | None:
    """Return what tells two states of a place apart; `None` where nothing stands."""
    try:
        return stat_of(os.lstat(place))
    except (FileNotFoundError, NotADirectoryError):
        return None


class Landing:
    """One file on its way. Every method may raise `OSError`."""

    def __init__(self, place: Path, beside: Path, file: BinaryIO) -> None:
        self._place = place
        self._beside = beside
        self._file = file

    @classmethod
    def begin(cls, place: Path, beside: Path | None = None) -> Self:
        """Begin a file; what an interrupted run left of it is written over.

        `beside` is the name to which is added what is not the file itself, on the same file system;
        by default that of the place. Raises `Changing` where another process is writing it.
        """
        beside = beside or place
        for each in (place, beside):
            each.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        way = _way(beside)
        descriptor = os.open(way, _FLAGS, _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.samestat(os.lstat(way), os.fstat(descriptor))
        except (BlockingIOError, FileNotFoundError):  # the other one landed in this moment
            is_ours = False
        except BaseException:
            os.close(descriptor)
            raise
        if not is_ours:
            os.close(descriptor)
            raise Changing("another process is restoring it at this moment")
        file = os.fdopen(descriptor, "wb", _BUFFER_BYTES)
        os.fchmod(descriptor, _MODE)
        os.ftruncate(descriptor, 0)
        return cls(place, beside, file)

    @property
    def size(self) -> int:
        """How many bytes there are so far."""
        return self._file.tell()

    def write(self, piece: bytes) -> None:
        """Add bytes."""
        self._file.write(piece)

    def settle(self) -> None:
        """Bring all of it to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def land(
        self, seen: Stat | None, *, keep: bool, clock: Callable[[], int] = time_ns
    ) -> Path | None:
        """Put the file into its place, with the time of this moment, in Unix nanoseconds.

        `seen` is what the place was judged by; raises `Changing` where it is that no longer. With
        `keep`, what stands there is kept beside it; returns where.
        """
        aside = _keep_aside(self._place, self._beside) if keep else None
        now = clock()
        os.utime(self._file.fileno(), ns=(now, now))
        # A link more than a moment ago changes the time of a status change, and nothing else.
        if _content_of(stands(self._place)) != _content_of(seen):
            raise Changing("it was saved while it was being restored; restore it again")
        failpoint.reached("landing")
        _way(self._beside).replace(self._place)
        _sync_directory(self._place.parent)
        self._file.close()
        return aside

    def discard(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(OSError):
            _way(self._beside).unlink()
        with contextlib.suppress(OSError):  # what is buffered cannot be written; nobody wants it
            self._file.close()


def write_whole(place: Path, content: bytes) -> None:
    """Write a small file at once. Raises `OSError`, `Changing`."""
    landing = Landing.begin(place)
    try:
        landing.write(content)
        landing.settle()
        landing.land(stands(place), keep=False)
    except BaseException:
        landing.discard()
        raise


def _way(beside: Path) -> Path:
    """Return the name on the way: no longer than the one under which CodeTether itself saves."""
    return beside.with_name(f"{beside.name}.new")


def _keep_aside(place: Path, beside: Path) -> Path:
    """Give what stands at a place a second name, which nothing has yet."""
    for number in count(1):
        suffix = ".before-restore" if number == 1 else f".before-restore-{number}"
        aside = beside.with_name(beside.name + suffix)
        try:
            os.link(place, aside, follow_symlinks=False)
        except FileExistsError:
            if not os.path.samestat(aside.lstat(), place.lstat()):
                continue
        return aside
    raise AssertionError("there is always a next number")


def _content_of(stat: Stat | None) -> tuple[int, ...] | None:
    return stat and (stat.size, stat.mtime_ns, stat.inode, stat.device)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
