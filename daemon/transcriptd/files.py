"""Opening one file of an agent's, safely, and reading it in pieces.

Nothing here trusts the path: it may be a link, a pipe, somebody else's file, or change while it is
read. No link is followed below a root, so that nothing outside of it is ever read.
"""

from __future__ import annotations

import errno
import os
import stat as modes
from dataclasses import dataclass
from pathlib import Path
from time import sleep, time_ns
from typing import TYPE_CHECKING

from transcriptd.errors import Changing, Unreadable, Vanished
from transcriptd.model import Session, Stat

if TYPE_CHECKING:
    from collections.abc import Iterator

_OUT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})
_TICK_S = 0.02  # file times are as coarse as the kernel's clock: at most 10 ms
_SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE})
_PAUSES_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
_LARGEST_INTEGER = (1 << 63) - 1  # of the journal; some file systems number their inodes higher
UNTOLD = Stat(-1, -1, -1, -1, -1)
"""Something that may stand there, and equals nothing."""
_CLOSED = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = _CLOSED | os.O_NONBLOCK
_DIRECTORY = _CLOSED | os.O_DIRECTORY


def wait_out_the_tick(mtime_ns: int) -> None:
    """Wait a moment where a file changed in this one: another change might leave no trace."""
    if 0 <= time_ns() - mtime_ns < _TICK_S * 1e9:
        sleep(_TICK_S)


def stat_of(result: os.stat_result) -> Stat:
    """Take from a stat result what tells two states of a file apart."""
    values = (
        result.st_size,
        result.st_mtime_ns,
        result.st_ctime_ns,
        result.st_ino & _LARGEST_INTEGER,
        result.st_dev & _LARGEST_INTEGER,
    )
    return tuple.__new__(Stat, values)  # a rescan makes very many


def stat_at(path: Path) -> Stat | None:
    """Return what stands at a path, not followed if it is a link; `None` where nothing does.

    Where that cannot be told, something may stand there that equals nothing.
    """
    try:
        return stat_of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return UNTOLD


def open_file(session: Session) -> int:
    """Open a session's file; the caller closes it. Raises any `SourceError`."""
    try:
        descriptor = _open_patiently(session)
    except FileNotFoundError:
        raise Vanished("the file is gone") from None
    except NotADirectoryError:
        raise Vanished("its directory is gone, or a link") from None
    except PermissionError:
        raise Unreadable("denied", "no permission to read it") from None
    except OSError as error:
        if error.errno in _OUT_OF:  # says nothing about the file
            raise Changing(f"cannot be opened now: {error.strerror}") from None
        # ELOOP: a symbolic link; ENXIO: a socket
        raise Unreadable("not_a_file", f"not a regular file: {error.strerror}") from None
    try:
        require_acceptable(session, os.fstat(descriptor))
    except FileNotFoundError:
        os.close(descriptor)
        raise Vanished("its root is gone") from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def require_acceptable(session: Session, stat: os.stat_result) -> None:
    """Raise `Unreadable` for what is no regular file, or neither ours nor the root's owner's."""
    if not modes.S_ISREG(stat.st_mode):
        raise Unreadable("not_a_file", "not a regular file")
    if stat.st_uid != os.geteuid() and stat.st_uid != Path(session.root).stat().st_uid:
        raise Unreadable("foreign_owner", "owned neither by us nor by the owner of its directory")


def _open_patiently(session: Session) -> int:
    """Open a file; where descriptors are short, wait for those that others give back."""
    for pause_s in _PAUSES_S:
        try:
            return _open_below(session.root, session.name)
        except OSError as error:
            if error.errno not in _SHORT_OF:
                raise
        sleep(pause_s)
    return _open_below(session.root, session.name)


def _open_below(root: str, name: str) -> int:
    *directories, last = name.split("/")
    if not directories:
        return os.open(os.path.join(root, last), _FILE)  # noqa: PTH118 - one call, no object
    descriptors = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        descriptors += _entered(descriptors[0], directories)
        return os.open(last, _FILE, dir_fd=descriptors[-1])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _entered(descriptor: int, directories: list[str]) -> Iterator[int]:
    for directory in directories:
        descriptor = os.open(directory, _DIRECTORY, dir_fd=descriptor)
        yield descriptor


@dataclass(frozen=True, slots=True)
class File:
    """The first `size` bytes of a file, as it was when it had this `stat`.

    It is opened for each piece and held open for none. It may grow meanwhile; once another file
    stands there, or a shorter one, reading raises `Changing`.
    """

    session: Session
    stat: Stat

    @property
    def size(self) -> int:
        return self.stat.size

    def read(self, start: int, end: int) -> bytes:
        descriptor = open_file(self.session)
        try:
            now = os.fstat(descriptor)
            same = (self.stat.inode, self.stat.device) == stat_of(now)[3:]
            if not same or now.st_size < end:
                raise Changing("it was replaced while it was read")
            return _pread(descriptor, start, end)
        except OSError as error:
            raise Changing(f"could not be read: {error.strerror}") from None
        finally:
            os.close(descriptor)


def open_content(session: Session) -> File:
    """Return a file's content as it stands. Raises any `SourceError`."""
    descriptor = open_file(session)
    try:
        return File(session, stat_of(os.fstat(descriptor)))
    finally:
        os.close(descriptor)


def _pread(descriptor: int, start: int, end: int) -> bytes:
    pieces: list[bytes] = []
    while start < end:
        piece = os.pread(descriptor, end - start, start)
        if not piece:
            raise Changing("it became shorter while it was read")
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
