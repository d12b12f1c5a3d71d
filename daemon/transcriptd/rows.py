"""The rows of the journal: its tables, what a row means, and the statements that write one.

Owns the spelling in SQL of what `journal` says in its methods. Every statement runs inside a
transaction of the journal's thread.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from time import time_ns
from typing import TYPE_CHECKING, Any

from transcriptd.model import Cursor, Guard, Mask, Screening, Session, Stat, State

if TYPE_CHECKING:
    import sqlite3

_KEEP_NS = 30 * 24 * 3600 * 10**9
_KEEP_ENTRIES = 200_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    source TEXT NOT NULL, root TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL,
    size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, inode INTEGER, device INTEGER,
    state TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL, since_ns INTEGER NOT NULL,
    key TEXT, generation INTEGER, records INTEGER, length INTEGER, digest TEXT, etag TEXT,
    writer TEXT, document_digest TEXT,
    tail_length INTEGER, segments INTEGER, behind_since REAL, sent INTEGER,
    guard TEXT, damaged INTEGER, is_verified INTEGER, screening TEXT, found TEXT,
    findings INTEGER,
    PRIMARY KEY (source, root, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_by_id ON sessions (id);
CREATE INDEX IF NOT EXISTS sessions_sums ON sessions (source, state, records, length);
CREATE INDEX IF NOT EXISTS sessions_by_change ON sessions (source, mtime_ns, state);
CREATE INDEX IF NOT EXISTS sessions_by_root_change ON sessions (source, root, mtime_ns);
CREATE INDEX IF NOT EXISTS sessions_behind ON sessions (behind_since, tail_length)
    WHERE tail_length > 0;
CREATE INDEX IF NOT EXISTS sessions_unverified ON sessions (is_verified, mtime_ns, length)
    WHERE is_verified = 0;
CREATE INDEX IF NOT EXISTS sessions_damaged ON sessions (source, damaged) WHERE damaged > 0;
CREATE INDEX IF NOT EXISTS sessions_found ON sessions (findings) WHERE findings > 0;
CREATE INDEX IF NOT EXISTS sessions_without_document ON sessions (source)
    WHERE document_digest IN ('', 'none');
CREATE INDEX IF NOT EXISTS sessions_not_current ON sessions (state) WHERE state <> 'current';
CREATE TABLE IF NOT EXISTS entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, txn INTEGER NOT NULL, phase TEXT NOT NULL,
    at_ns INTEGER NOT NULL, session_id TEXT NOT NULL, detail TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_by_session ON entries (session_id, seq);
CREATE INDEX IF NOT EXISTS entries_by_txn ON entries (txn);
CREATE TABLE IF NOT EXISTS open_transactions (
    txn INTEGER PRIMARY KEY, seq INTEGER NOT NULL,
    source TEXT NOT NULL, root TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL,
    action TEXT NOT NULL, target TEXT NOT NULL,
    UNIQUE (source, root, name, action)
);
"""
STAT = ("size", "mtime_ns", "ctime_ns", "inode", "device")
CURSOR = (
    "key", "generation", "records", "length", "digest", "etag", "writer", "document_digest",
    "tail_length", "segments", "behind_since", "sent",
)  # fmt: skip
SCREENING = ("screening", "found", "findings")
ROW = (
    "source", "root", "name", "id", *STAT,
    "state", "reason", "message", "since_ns", "guard", "screening", *CURSOR,
)  # fmt: skip
BRIEF = tuple("NULL" if column in {"guard", "screening"} else column for column in ROW)
"""The same without what may be long."""
ARCHIVED = (State.CURRENT, State.CONFLICT, State.BEHIND)
"""The states in which all that stood in a file is archived, if the file is still the same."""


UNFINISHED = "unfinished_line"
"""The reason where a last line without its end has to wait for that."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one session.

    `stat` is the state of its file that was dealt with last, `guard` what tells that it grew,
    `screening` what the rules found in what is archived.
    """

    session: Session
    stat: Stat | None
    state: State
    reason: str
    message: str
    since_ns: int
    cursor: Cursor | None
    guard: Guard | None = None
    screening: Screening | None = None

    @property
    def is_archived(self) -> bool:
        """Whether all that stood in its file is archived; what is not finished yet is not."""
        if self.state is State.SOURCE_GONE:
            return self.cursor is not None
        if self.reason == UNFINISHED:
            return False
        return self.state in ARCHIVED and self.stat is not None


@dataclass(frozen=True, slots=True)
class Sum:
    """All sessions of one source in one state. `records` and `length` are what is archived."""

    source: str
    state: str
    sessions: int
    records: int
    length: int


@dataclass(frozen=True, slots=True)
class Excluded:
    """All sessions of one source that never leave for one reason; `size` is that of their files."""

    source: str
    reason: str
    sessions: int
    size: int


@dataclass(frozen=True, slots=True)
class Target:
    """What an upload was about to leave under a key."""

    key: str
    generation: int
    records: int
    length: int
    digest: str
    writer: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """A change to the archive that was staged and neither committed nor rejected."""

    txn: int
    session: Session
    action: str
    target: Target


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal. `detail` is an op (staged) or a reason (rejected), or empty."""

    seq: int
    txn: int
    phase: str
    at_ns: int
    session_id: str
    detail: str


def because(reason: str, detail: str = "") -> dict[str, str]:
    """Say why something is rejected, in CodeTether's words."""
    return {"reason": reason, "detail": detail} if detail else {"reason": reason}


def prune(connection: sqlite3.Connection) -> None:
    """Forget what is old, and what there is too much of. Looks at nothing else."""
    newest, kept = connection.execute(
        "SELECT max(seq), (SELECT seq FROM entries WHERE at_ns >= ? ORDER BY seq LIMIT 1)"
        " FROM entries",
        (time_ns() - _KEEP_NS,),
    ).fetchone()
    if newest is None:
        return
    connection.execute(
        "DELETE FROM entries WHERE seq < ? AND txn NOT IN (SELECT txn FROM open_transactions)"
        " AND txn < (SELECT max(txn) FROM entries)",
        (max(newest - _KEEP_ENTRIES, newest if kept is None else kept - 1) + 1,),
    )


def unused_txn(connection: sqlite3.Connection) -> int:
    newest = connection.execute(
        "SELECT max(coalesce((SELECT max(txn) FROM entries), -1),"
        " coalesce((SELECT max(txn) FROM open_transactions), -1))"
    ).fetchone()[0]
    return int(newest) + 1


def add_entry(
    connection: sqlite3.Connection, txn: int, phase: str, session: Session, detail: str
) -> int:
    added = connection.execute(
        "INSERT INTO entries (txn, phase, at_ns, session_id, detail) VALUES (?, ?, ?, ?, ?)",
        (txn, phase, time_ns(), session.id, detail),
    )
    return added.lastrowid or 0


def finish(
    connection: sqlite3.Connection, txn: int, phase: str, session: Session, detail: str
) -> None:
    add_entry(connection, txn, phase, session, detail)
    connection.execute("DELETE FROM open_transactions WHERE txn = ?", (txn,))


def ensure_row(connection: sqlite3.Connection, session: Session) -> None:
    connection.execute(
        "INSERT INTO sessions (source, root, name, id, state, reason, message, since_ns)"
        " VALUES (?, ?, ?, ?, 'pending', '', '', ?) ON CONFLICT DO UPDATE SET id = excluded.id",
        (*place_of(session), session.id, time_ns()),
    )


def save_cursor(connection: sqlite3.Connection, session: Session, cursor: Cursor) -> None:
    ensure_row(connection, session)
    assignments = ", ".join(f"{column} = ?" for column in CURSOR)
    connection.execute(
        f"UPDATE sessions SET {assignments} WHERE source = ? AND root = ? AND name = ?",  # noqa: S608 - constants
        (*(getattr(cursor, column) for column in CURSOR), *place_of(session)),
    )


def record_of(row: tuple[Any, ...]) -> Record:
    source, root, name, session_id = row[:4]
    stat, (state, reason, message, since_ns, guard, screening), cursor = (
        row[4:9], row[9:15], row[15:],
    )  # fmt: skip
    return Record(
        session=Session(source, session_id, os.fsdecode(root), name),
        stat=None if stat[0] is None else Stat(*stat),
        state=State(state),
        reason=reason,
        message=message,
        since_ns=since_ns,
        cursor=None if cursor[0] is None else Cursor(*cursor),
        guard=_guard_of(guard),
        screening=_screening_of(screening),
    )


def _guard_of(said: str | None) -> Guard | None:
    try:
        return Guard(**json.loads(said)) if said else None
    except (ValueError, TypeError):  # damaged: all of the file is read then
        return None


def _screening_of(said: str | None) -> Screening | None:
    try:
        if not said:
            return None
        fields = json.loads(said)
        masks = tuple(Mask(int(start), str(text)) for start, text in fields.pop("masks"))
        return Screening(**fields, masks=masks)
    except (ValueError, TypeError, KeyError):  # damaged: the rules look at all of it again
        return None


def place_of(session: Session) -> tuple[str, str | bytes, str]:
    return session.source, text_of(session.root), session.name


def text_of(path: str) -> str | bytes:
    """Give a path as SQLite can hold it: as bytes where it is not Unicode."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def encode(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
