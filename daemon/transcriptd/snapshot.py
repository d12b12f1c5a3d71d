"""A safe, consistent read of one session file, and what it means against the cursor.

Nothing here trusts the path: it may be a link, a pipe, somebody else's file, or change while it is
read. Runs in a thread; knows neither the store nor the journal.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as modes
from dataclasses import dataclass
from pathlib import Path
from time import sleep, time_ns
from typing import TYPE_CHECKING

from transcriptd.content import Held
from transcriptd.digest import digests
from transcriptd.errors import Changing, Unreadable, Vanished
from transcriptd.model import Cursor, Session, Snapshot, Stat

if TYPE_CHECKING:
    from transcriptd.sources import Lines, Source

_TRIES = 5
_TICK_S = 0.02  # file times are as coarse as the kernel's clock: at most 10 ms
_OUT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})
_LARGEST_INTEGER = (1 << 63) - 1  # of the journal; some file systems number their inodes higher
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Look:
    """A snapshot beside what is archived of it.

    `digest` is that of the whole content; `extends` says whether the content begins with all that
    the cursor holds (true where nothing is archived yet).
    """

    snapshot: Snapshot
    digest: str
    extends: bool


def look(
    source: Source,
    session: Session,
    cursor: Cursor | None,
    *,
    max_bytes: int,
    with_document: bool = False,
) -> Look:
    """Read a session and compare it with its cursor. Raises any `SourceError`."""
    data, stat = read(session, max_bytes)
    known = cursor.records if cursor else 0
    lines = source.lines(session, data, known)
    digest, extends = _compare(lines, cursor)
    if known and not extends:
        # What was archived before is not what stands there now: nothing of it is known any more.
        lines = source.lines(session, data)
        digest, extends = _compare(lines, cursor)
    document = None
    if with_document:
        with contextlib.suppress(Unreadable):  # the lines can be read, and they come first
            document = source.document(session, data)
    snapshot = Snapshot(session, stat, Held(lines.content), lines.records, document)
    return Look(snapshot, digest, extends)


def _compare(lines: Lines, cursor: Cursor | None) -> tuple[str, bool]:
    content, size = Held(lines.content), len(lines.content)
    if cursor is None:
        return digests(content, [size])[0], True
    if cursor.length > size:
        return digests(content, [size])[0], False
    before, whole = digests(content, [cursor.length, size])
    return whole, before == cursor.digest


def read(session: Session, max_bytes: int) -> tuple[bytes, Stat]:
    """Read a file that holds still: `fstat` before and after agree.

    Raises `Vanished`, `Changing`, or `Unreadable` for what is no regular file, not owned by us or
    by the owner of its directory, larger than `max_bytes`, or not permitted.
    """
    descriptor = _open(session)
    try:
        for _ in range(_TRIES):
            before = os.fstat(descriptor)
            _require_acceptable(session, before, max_bytes)
            if 0 <= time_ns() - before.st_mtime_ns < _TICK_S * 1e9:
                sleep(_TICK_S)  # another change in this tick of its clock would leave no trace
            data = _read_all(descriptor, before.st_size)
            after = stat_of(os.fstat(descriptor))
            if len(data) == after.size and stat_of(before) == after:
                return data, after
    except OSError as error:
        raise Changing(f"could not be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    raise Changing("it changed each time it was read")


def stat_of(result: os.stat_result) -> Stat:
    """Take from a stat result what tells two states of a file apart."""
    return Stat(
        result.st_size,
        result.st_mtime_ns,
        result.st_ctime_ns,
        result.st_ino & _LARGEST_INTEGER,
        result.st_dev & _LARGEST_INTEGER,
    )


def _open(session: Session) -> int:
    try:
        return os.open(session.path, _FLAGS)
    except FileNotFoundError:
        raise Vanished("the file is gone") from None
    except NotADirectoryError:
        raise Vanished("its directory is gone") from None
    except PermissionError:
        raise Unreadable("denied", "no permission to read it") from None
    except OSError as error:
        if error.errno in _OUT_OF:  # says nothing about the file
            raise Changing(f"cannot be opened now: {error.strerror}") from None
        # ELOOP: a symbolic link; ENXIO: a socket
        raise Unreadable("not_a_file", f"not a regular file: {error.strerror}") from None


def _require_acceptable(session: Session, stat: os.stat_result, max_bytes: int) -> None:
    if not modes.S_ISREG(stat.st_mode):
        raise Unreadable("not_a_file", "not a regular file")
    if stat.st_uid != os.geteuid() and stat.st_uid != Path(session.root).stat().st_uid:
        raise Unreadable("foreign_owner", "owned neither by us nor by the owner of its directory")
    if stat.st_size > max_bytes:
        raise Unreadable(
            "too_large", f"{stat.st_size} bytes; max_document allows {max_bytes} bytes"
        )


def _read_all(descriptor: int, size: int) -> bytes:
    """Read from the start; one byte more than `size` is asked for, so that growth is noticed."""
    pieces: list[bytes] = []
    offset, wanted = 0, size + 1
    while wanted > 0 and (piece := os.pread(descriptor, wanted, offset)):
        pieces.append(piece)
        offset += len(piece)
        wanted -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
