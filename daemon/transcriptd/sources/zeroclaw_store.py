"""Reading ZeroClaw's SQLite store without leaving a trace of it.

What was found, with SQLite 3.40; a test states each:

- `mode=ro` alone makes `-wal` and `-shm` where there are none, and writes to `-shm`.
- `immutable=1` touches nothing and locks nothing, and sees nothing of `-wal`. It is right where
  `-wal` is absent or empty, or the database keeps a rollback journal, as long as the file does not
  change meanwhile: it has the same stat before and after.
- `readonly_shm=1` reads `-wal` by way of `-shm` and changes neither, also where the agent was
  killed and left both, or `-shm` holds nonsense. Its locks are shared ones: the agent writes and
  checkpoints on. It fails where there is no `-shm`, and makes an empty `-wal` where there is none.
- An agent that ends removes both, unless somebody holds a shared lock on the database. So we take
  that lock first and look whether they are there then. An agent that ends while we hold it leaves
  them, as it does when it is killed, and takes them up when it starts next.
- `-wal` without `-shm`, or a rollback journal with something to undo, needs a recovery, which
  writes: it is done on a private copy.
- Run by root, SQLite gives `-wal` the owner of the database whenever it opens it. It has that owner
  already, but its change time moves: that time is no sign of a change.
- Closing any descriptor of a file gives up all locks that the process has on it: one read at a
  time.

Two changes within one tick of the file's clock have the same time. So whoever takes a state waits
until the tick of the last change is over.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from time import sleep, time_ns
from typing import NamedTuple, TypeVar
from urllib.parse import quote
from zlib import crc32

import msgspec

from transcriptd.content import BLOCK
from transcriptd.errors import Changing, SourceError, Unreadable, Vanished
from transcriptd.files import File, open_file, stat_of
from transcriptd.model import Session, Stat

T = TypeVar("T")
Query = Callable[[sqlite3.Connection], T]

_TRIES = 3
_TICK_S = 0.02  # file times are as coarse as the kernel's clock: at most 10 ms
_LARGEST_COPY = 4 << 30  # bytes
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510  # the bytes that SQLite locks to read
_HEADER = 100
_READ_VERSION, _WAL = 19, 2  # a byte of the header, and its value in WAL mode
_JOURNAL = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"  # how a journal begins that may have to be undone
_LEAST_LIMIT = 1 << 20  # the tables' own definitions have to pass, too
_LARGEST_LIMIT = (1 << 31) - 1
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_DENIED = frozenset({sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})

_ALONE = Lock()

_SESSIONS = """
    SELECT session_key, count(*), max(id),
        sum(length(CAST(role AS BLOB))) + sum(length(CAST(content AS BLOB))),
        sum(checksum(id, CAST(role AS BLOB), CAST(content AS BLOB)))
    FROM sessions WHERE typeof(session_key) = 'text' GROUP BY session_key COLLATE BINARY
"""
_ROWS = """
    SELECT id, typeof(role) = 'text' AND typeof(content) = 'text', role, content
    FROM sessions WHERE session_key = ? COLLATE BINARY ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """What tells two states of a session apart.

    `chars` is the length of all roles and contents in bytes of UTF-8, `checksum` the sum of the
    CRC-32 of its rows: it differs where a text is replaced by one of the same length.
    """

    key: str
    rows: int
    last_id: int
    chars: int
    checksum: int


class State(NamedTuple):
    """What tells two states of the store apart without opening it."""

    database: Stat
    wal: Stat | None
    journal: Stat | None


class _Row(msgspec.Struct):
    role: str
    content: str


def state(db: Path) -> State | None:
    """Return what changes whenever the store does; `None` where there is none.

    Blocks for a moment where it has just changed. Take it before the sessions, not after. Raises
    `Unreadable` or `Changing`.
    """
    found = _look(db)
    if found is not None:
        _let_pass(found)
    return found


def sessions(db: Path) -> list[Stored]:
    """Return all sessions, sorted by key. Reads every row; blocks. Raises any `SourceError`.

    Left out are rows whose key is not text in UTF-8: the agent itself cannot load them.
    """
    return _read(db, _sessions)


def lines(db: Path, key: str, max_bytes: int) -> bytes:
    """Return a session as the lines that its JSONL file would have. Blocks.

    Raises any `SourceError`: `Vanished` where it has no rows, `Unreadable` where it makes more than
    `max_bytes`, or where a role or content is not text in UTF-8.
    """
    return _read(db, lambda connection: _lines(connection, key, max_bytes))


def _sessions(connection: sqlite3.Connection) -> list[Stored]:
    connection.create_function("checksum", 3, _checksum, deterministic=True)
    found: list[Stored] = []
    for key, rows, last_id, chars, checksum in connection.execute(_SESSIONS):
        try:
            found.append(Stored(key.decode(), rows, last_id, chars or 0, checksum))
        except UnicodeDecodeError:
            continue
    return sorted(found, key=lambda stored: stored.key)


def _checksum(row: int, role: bytes | None, content: bytes | None) -> int:
    return crc32(content or b"", crc32(b"%d %b " % (row, role or b"")))


def _lines(connection: sqlite3.Connection, key: str, max_bytes: int) -> bytes:
    limit = min(max(max_bytes, _LEAST_LIMIT), _LARGEST_LIMIT)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)
    encoder, found = msgspec.json.Encoder(), bytearray()
    for row, is_text, role, content in connection.execute(_ROWS, (key,)):
        if not is_text:
            raise Unreadable("wrong_type", f"row {row} holds something else than text")
        try:
            found += encoder.encode(_Row(role.decode(), content.decode())) + b"\n"
        except UnicodeDecodeError as error:
            raise Unreadable("invalid_utf8", f"row {row} is not UTF-8: {error.reason}") from None
        if len(found) > max_bytes:
            raise _too_large(max_bytes)
    if not found:
        raise Vanished("the session has no rows")
    return bytes(found)


def _read(db: Path, query: Query[T]) -> T:
    with _ALONE:
        for _ in range(_TRIES):
            before = _look(db)
            if before is None:
                raise Vanished("the database is gone")
            _let_pass(before)
            try:
                return _read_once(db, before, query)
            except _ChangedError:
                continue
            except sqlite3.Error as error:
                raise _translated(error) from None
            except OSError as error:
                raise Changing(f"could not be read: {error.strerror}") from None
    raise Changing("it changed each time it was read")


def _read_once(db: Path, before: State, query: Query[T]) -> T:
    descriptor = open_file(_file(db))
    try:
        if _must_recover(db, before, descriptor):
            return _read_copy(db, before, query)
        if _in_wal(before, descriptor):
            return _read_shared(db, descriptor, query)
        return _read_immutable(db, before, query)
    finally:
        os.close(descriptor)


class _ChangedError(Exception):
    """What was read is no one state of the store."""


def _must_recover(db: Path, before: State, descriptor: int) -> bool:
    if before.journal and before.journal.size >= len(_JOURNAL):
        journal = File(_file(db, "-journal"), before.journal)
        try:
            if journal.read(0, len(_JOURNAL)) == _JOURNAL:
                return True
        except (Changing, Vanished):
            raise _ChangedError from None
    if not _in_wal(before, descriptor):
        return False
    return not all(os.access(_beside(db, suffix), os.R_OK) for suffix in ("-wal", "-shm"))


def _in_wal(before: State, descriptor: int) -> bool:
    if not before.wal or not before.wal.size:
        return False
    header = os.pread(descriptor, _HEADER, 0)
    return len(header) == _HEADER and header[_READ_VERSION] == _WAL


def _read_immutable(db: Path, before: State, query: Query[T]) -> T:
    try:
        with closing(_connect(db, "mode=ro&immutable=1")) as connection:
            return query(connection)
    finally:  # an error, too, may come of two states that were mixed
        after = _look(db)
        if after is None or after.database != before.database:
            raise _ChangedError


def _read_shared(db: Path, descriptor: int, query: Query[T]) -> T:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
    except OSError as error:
        raise Changing(f"it is locked: {error.strerror}") from None
    now = _look(db)
    if now is None or not now.wal or not _beside(db, "-shm").exists():
        raise _ChangedError  # the agent has just ended
    with closing(_connect(db, "mode=ro&readonly_shm=1")) as connection:
        return query(connection)


def _read_copy(db: Path, before: State, query: Query[T]) -> T:
    parts = {"": before.database, "-wal": before.wal, "-journal": before.journal}
    there = {suffix: stat for suffix, stat in parts.items() if stat is not None}
    if sum(stat.size for stat in there.values()) > _LARGEST_COPY:
        raise _too_large(_LARGEST_COPY)
    with TemporaryDirectory(prefix="transcriptd-") as private:
        copy = Path(private, "copy.db")
        try:
            for suffix, stat in there.items():
                _copy(File(_file(db, suffix), stat), _beside(copy, suffix))
        except Vanished:
            raise _ChangedError from None
        if _look(db) != before:
            raise _ChangedError
        with closing(_connect(copy, "mode=rw")) as connection:
            return query(connection)


def _copy(file: File, target: Path) -> None:
    with target.open("wb") as copy:
        for start in range(0, file.size, BLOCK):
            copy.write(file.read(start, min(start + BLOCK, file.size)))


def _connect(db: Path, options: str) -> sqlite3.Connection:
    uri = f"file:{quote(os.fsencode(db.absolute()))}?{options}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=0)
    connection.text_factory = bytes
    return connection


def _look(db: Path) -> State | None:
    database = _stat(db)
    if database is None:
        return None
    wal = _stat(_beside(db, "-wal"))
    if wal is not None:
        wal = wal._replace(ctime_ns=0)
    return State(database, wal, _stat(_beside(db, "-journal")))


def _stat(path: Path) -> Stat | None:
    try:
        return stat_of(path.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise Unreadable("denied", "no permission to look at it") from None
    except OSError as error:
        raise Changing(f"could not be read: {error.strerror}") from None


def _let_pass(found: State) -> None:
    """Wait until any further change has another time than the last one."""
    last = max(stat.mtime_ns for stat in found if stat is not None)
    if 0 <= time_ns() - last < _TICK_S * 1e9:
        sleep(_TICK_S)


def _beside(db: Path, suffix: str) -> Path:
    return db.with_name(db.name + suffix)


def _file(db: Path, suffix: str = "") -> Session:
    return Session("zeroclaw", db.name, str(db.parent), db.name + suffix)


def _too_large(max_bytes: int) -> Unreadable:
    return Unreadable("too_large", f"more than {max_bytes} bytes")


def _translated(error: sqlite3.Error) -> SourceError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _DAMAGED:
        return Unreadable("damaged_db", str(error))
    if code in _DENIED:
        return Unreadable("denied", str(error))
    if code == sqlite3.SQLITE_TOOBIG:
        return Unreadable("too_large", str(error))
    if code == sqlite3.SQLITE_ERROR:
        return Unreadable("no_table", str(error))
    return Changing(str(error))
