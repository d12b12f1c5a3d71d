"""The journal: what is archived of each session, and every change to the archive, durably.

Owns the tables and what they mean: a cursor and a state per session, a transaction per change,
staged before and committed or rejected after. Knows neither stores nor files of sessions.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from dataclasses import dataclass
from time import time_ns
from typing import TYPE_CHECKING, Any, Self

from transcriptd.database import RETRY_DISK_S, Database, read_only
from transcriptd.model import NO_DOCUMENT, Cursor, Session, Stat, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SCHEMA_VERSION = 1
_KEEP_NS = 30 * 24 * 3600 * 10**9
_KEEP_ENTRIES = 200_000
_ARCHIVE = "archive"
_PRUNE_EVERY = 10_000
_MAX_MESSAGE = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (
    source TEXT NOT NULL, root TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL,
    size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, inode INTEGER, device INTEGER,
    state TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL, since_ns INTEGER NOT NULL,
    key TEXT, generation INTEGER, records INTEGER, length INTEGER, digest TEXT, etag TEXT,
    writer TEXT, document_digest TEXT,
    tail_length INTEGER, segments INTEGER, behind_since REAL, sent INTEGER,
    PRIMARY KEY (source, root, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_by_id ON sessions (id);
CREATE INDEX IF NOT EXISTS sessions_totals ON sessions (state, records, length);
CREATE INDEX IF NOT EXISTS sessions_by_change ON sessions (source, mtime_ns);
CREATE INDEX IF NOT EXISTS sessions_by_root_change ON sessions (source, root, mtime_ns);
CREATE INDEX IF NOT EXISTS sessions_behind ON sessions (behind_since, tail_length)
    WHERE tail_length > 0;
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
_STAT = ("size", "mtime_ns", "ctime_ns", "inode", "device")
_CURSOR = (
    "key", "generation", "records", "length", "digest", "etag", "writer", "document_digest",
    "tail_length", "segments", "behind_since", "sent",
)  # fmt: skip
_ROW = ("source", "root", "name", "id", *_STAT, "state", "reason", "message", "since_ns", *_CURSOR)


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one session. `stat` is the state of its file that was dealt with last."""

    session: Session
    stat: Stat | None
    state: State
    reason: str
    message: str
    since_ns: int
    cursor: Cursor | None


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


class Journal:
    """Use as `async with`. Reading happens where it is called; writing in the journal's thread."""

    def __init__(
        self,
        path: Path,
        *,
        on_trouble: Callable[[Exception | None], None] = lambda _: None,
        retry_disk_s: float = RETRY_DISK_S,
    ) -> None:
        self._database = Database(
            path, _SCHEMA, _SCHEMA_VERSION, on_trouble, retry_disk_s=retry_disk_s
        )
        self._staged = 0

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        await self._database.write(_prune)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._database.__aexit__()

    def record(self, session: Session) -> Record | None:
        """Return what is known of a session."""
        where = "WHERE source = ? AND root = ? AND name = ?"
        rows = self._select(where, _place(session))
        return next(iter(rows), None)

    def records(self, source: str, session_id: str) -> list[Record]:
        """Return what is known under a session id; a copy in another root has the same one."""
        return self._select("WHERE id = ? AND source = ?", (session_id, source))

    def not_current(self) -> list[Record]:
        """Return every session that has another state than `current`."""
        return self._select("WHERE state <> 'current'", ())

    def without_document(self) -> list[Record]:
        """Return every session whose lines are archived and whose `session.json` is not."""
        return self._select(
            "WHERE length IS NOT NULL AND document_digest IN ('', ?)", (NO_DOCUMENT,)
        )

    def behind(self) -> list[Record]:
        """Return every session whose base has not taken in its tail."""
        return self._select("WHERE tail_length > 0", ())

    def everything(self) -> list[Record]:
        """Return every session."""
        return self._select("", ())

    def known_files(self, source: str, root: str) -> Iterator[tuple[str, Stat | None, State]]:
        """Yield (name, stat, state) of a root's sessions, by name; for use in any one thread."""
        try:
            connection = self._database.connect()
        except sqlite3.Error:
            return
        try:
            rows = connection.execute(
                f"SELECT name, state, {', '.join(_STAT)} FROM sessions"  # noqa: S608 - constants
                " WHERE source = ? AND root = ? ORDER BY name",
                (source, _text(root)),
            )
            for name, state, *stat in rows:
                yield name, None if stat[0] is None else Stat._make(stat), State(state)
        except (sqlite3.Error, ValueError):
            return  # nothing more is known then, so that the rest is looked at
        finally:
            connection.close()

    def totals(self) -> dict[str, int]:
        """Return how many sessions there are by state, and the records and bytes archived.

        Also of how many bases the tail is not taken in, and how long those tails are.
        """
        # Both are answered by an index alone: with many sessions the rows would take too long.
        rows = self._database.read(
            "SELECT state, count(*), total(records), total(length) FROM sessions GROUP BY state"
        )
        tails = self._database.read(
            "SELECT count(*), total(tail_length) FROM sessions WHERE tail_length > 0"
        )
        behind, behind_bytes = tails[0] if tails else (0, 0)
        return {
            **{state: count for state, count, _, _ in rows},
            "records": int(sum(records for _, _, records, _ in rows)),
            "bytes": int(sum(length for _, _, _, length in rows)),
            "behind": int(behind),
            "behind_bytes": int(behind_bytes),
        }

    def behind_since(self) -> float | None:
        """Return since when, in Unix seconds, the base that is behind longest is; `None`: none."""
        rows = self._database.read("SELECT min(behind_since) FROM sessions WHERE tail_length > 0")
        return rows[0][0] if rows else None

    def open_transactions(self, session: Session) -> list[Transaction]:
        """Return what was staged for a session and never settled, in that order."""
        rows = self._database.read(
            "SELECT txn, action, target FROM open_transactions"
            " WHERE source = ? AND root = ? AND name = ? ORDER BY seq",
            _place(session),
        )
        found = []
        for txn, action, target in rows:
            with contextlib.suppress(ValueError, TypeError):  # damaged: nothing is known of it
                found.append(Transaction(txn, session, action, Target(**json.loads(target))))
        return found

    def unsettled(self) -> list[Session]:
        """Return the sessions with a transaction that was staged and never settled."""
        rows = self._database.read("SELECT DISTINCT source, id, root, name FROM open_transactions")
        return [
            Session(source, session_id, os.fsdecode(root), name)
            for source, session_id, root, name in rows
        ]

    def fact(self, name: str) -> str | None:
        """Return a fact that was remembered under this name."""
        rows = self._database.read("SELECT value FROM facts WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    async def stage(
        self, session: Session, action: str, op: dict[str, object], target: Target
    ) -> int:
        """Note that something is about to change; returns the transaction's number.

        An open transaction of the same kind is carried on with the new op: it took no effect, or
        the caller has settled it.
        """
        detail = _encode(op)
        wanted = _encode({name: getattr(target, name) for name in Target.__slots__})

        def write(connection: sqlite3.Connection) -> int:
            place = _place(session)
            found = connection.execute(
                "SELECT txn, seq FROM open_transactions"
                " WHERE source = ? AND root = ? AND name = ? AND action = ?",
                (*place, action),
            ).fetchone()
            if found is not None:
                txn, seq = found
                connection.execute("UPDATE entries SET detail = ? WHERE seq = ?", (detail, seq))
                connection.execute(
                    "UPDATE open_transactions SET target = ? WHERE txn = ?", (wanted, txn)
                )
                return int(txn)
            txn = _unused(connection)
            seq = _add_entry(connection, txn, "staged", session, detail)
            connection.execute(
                "INSERT INTO open_transactions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (txn, seq, *place, session.id, action, wanted),
            )
            return txn

        self._staged += 1
        if self._staged % _PRUNE_EVERY == 0:
            await self._database.write(_prune)
        return await self._database.write(write)

    async def commit(self, txn: int, session: Session, cursor: Cursor | None) -> None:
        """Note that a transaction took effect, together with the new cursor where there is one."""

        def write(connection: sqlite3.Connection) -> None:
            _finish(connection, txn, "committed", session, "")
            if cursor is not None:
                _save_cursor(connection, session, cursor)

        await self._database.write(write)

    async def reject(self, txn: int, session: Session, reason: dict[str, str]) -> None:
        """Note that a transaction took no effect, and why, in CodeTether's words."""
        detail = _encode(reason)
        await self._database.write(lambda c: _finish(c, txn, "rejected", session, detail))

    async def refuse(self, session: Session, op: dict[str, object], reason: dict[str, str]) -> None:
        """Note something that could not even be staged: a session that cannot be read."""

        def write(connection: sqlite3.Connection) -> None:
            txn = _unused(connection)
            _add_entry(connection, txn, "staged", session, _encode(op))
            _add_entry(connection, txn, "rejected", session, _encode(reason))

        await self._database.write(write)

    async def save(self, session: Session, cursor: Cursor) -> None:
        """Remember a cursor that no transaction led to: an archive that was adopted."""
        await self._database.write(lambda c: _save_cursor(c, session, cursor))

    async def forget(self, session: Session) -> None:
        """Forget where a session's stream is, and what of its file was dealt with."""
        columns = ", ".join(f"{column} = NULL" for column in (*_STAT, *_CURSOR))

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                f"UPDATE sessions SET {columns}, state = 'pending'"  # noqa: S608 - constants
                " WHERE source = ? AND root = ? AND name = ?",
                _place(session),
            )

        await self._database.write(write)

    async def note(
        self,
        session: Session,
        stat: Stat | None,
        state: State,
        *,
        reason: str = "",
        message: str = "",
    ) -> None:
        """Remember how a session stands and which state of its file that is about."""
        values = (stat.size, stat.mtime_ns, stat.ctime_ns, stat.inode, stat.device) if stat else (
            None, None, None, None, None,
        )  # fmt: skip

        def write(connection: sqlite3.Connection) -> None:
            _ensure_row(connection, session)
            connection.execute(
                "UPDATE sessions SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, device = ?,"
                " since_ns = CASE WHEN state = ? AND reason = ? THEN since_ns ELSE ? END,"
                " state = ?, reason = ?, message = ? WHERE source = ? AND root = ? AND name = ?",
                (
                    *values, state, reason, time_ns(), state, reason, message[:_MAX_MESSAGE],
                    *_place(session),
                ),
            )  # fmt: skip

        await self._database.write(write)

    async def belongs_to(self, archive: str) -> bool:
        """Tie the journal to an archive; what it knows of another one is forgotten.

        Returns whether there was another one.
        """
        known = self.fact(_ARCHIVE)
        if known == archive:
            return False

        def write(connection: sqlite3.Connection) -> None:
            columns = ", ".join(f"{column} = NULL" for column in (*_STAT, *_CURSOR))
            connection.execute(f"UPDATE sessions SET {columns}, state = 'pending'")  # noqa: S608 - constants
            connection.execute("DELETE FROM open_transactions")

        if known is not None:
            await self._database.write(write)
        await self.remember(_ARCHIVE, archive)
        return known is not None

    async def remember(self, name: str, value: str) -> None:
        """Remember a fact under a name."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO facts VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2",
                (name, value),
            )

        await self._database.write(write)

    def _select(self, where: str, values: tuple[object, ...]) -> list[Record]:
        columns = ", ".join(_ROW)
        rows = self._database.read(f"SELECT {columns} FROM sessions {where}", values)  # noqa: S608 - constants
        found: list[Record] = []
        for row in rows:
            with contextlib.suppress(ValueError):  # damaged: nothing is known of it
                found.append(_record(row))
        return found


def because(reason: str, detail: str = "") -> dict[str, str]:
    """Say why something is rejected, in CodeTether's words."""
    return {"reason": reason, "detail": detail} if detail else {"reason": reason}


def entries(
    path: Path, *, session_id: str | None = None, after: int = 0, limit: int = 1000
) -> list[Entry]:
    """Read journal entries with a higher `seq` than `after`, also beside a running daemon."""
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(read_only(path), uri=True)) as connection:
        rows = connection.execute(
            "SELECT seq, txn, phase, at_ns, session_id, detail FROM entries"
            " WHERE seq > ? AND (?2 IS NULL OR session_id = ?2) ORDER BY seq LIMIT ?3",
            (after, session_id, limit),
        )
        return [Entry(*row) for row in rows]


def _prune(connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM entries WHERE txn NOT IN (SELECT txn FROM open_transactions)"
        " AND (at_ns < ? OR seq <= (SELECT max(seq) FROM entries) - ?)"
        " AND txn < (SELECT max(txn) FROM entries)",
        (time_ns() - _KEEP_NS, _KEEP_ENTRIES),
    )


def _unused(connection: sqlite3.Connection) -> int:
    newest = connection.execute(
        "SELECT max(coalesce((SELECT max(txn) FROM entries), -1),"
        " coalesce((SELECT max(txn) FROM open_transactions), -1))"
    ).fetchone()[0]
    return int(newest) + 1


def _add_entry(
    connection: sqlite3.Connection, txn: int, phase: str, session: Session, detail: str
) -> int:
    added = connection.execute(
        "INSERT INTO entries (txn, phase, at_ns, session_id, detail) VALUES (?, ?, ?, ?, ?)",
        (txn, phase, time_ns(), session.id, detail),
    )
    return added.lastrowid or 0


def _finish(
    connection: sqlite3.Connection, txn: int, phase: str, session: Session, detail: str
) -> None:
    _add_entry(connection, txn, phase, session, detail)
    connection.execute("DELETE FROM open_transactions WHERE txn = ?", (txn,))


def _ensure_row(connection: sqlite3.Connection, session: Session) -> None:
    connection.execute(
        "INSERT INTO sessions (source, root, name, id, state, reason, message, since_ns)"
        " VALUES (?, ?, ?, ?, 'pending', '', '', ?) ON CONFLICT DO UPDATE SET id = excluded.id",
        (*_place(session), session.id, time_ns()),
    )


def _save_cursor(connection: sqlite3.Connection, session: Session, cursor: Cursor) -> None:
    _ensure_row(connection, session)
    assignments = ", ".join(f"{column} = ?" for column in _CURSOR)
    connection.execute(
        f"UPDATE sessions SET {assignments} WHERE source = ? AND root = ? AND name = ?",  # noqa: S608 - constants
        (*(getattr(cursor, column) for column in _CURSOR), *_place(session)),
    )


def _record(row: tuple[Any, ...]) -> Record:
    source, root, name, session_id = row[:4]
    stat, (state, reason, message, since_ns), cursor = row[4:9], row[9:13], row[13:]
    return Record(
        session=Session(source, session_id, os.fsdecode(root), name),
        stat=None if stat[0] is None else Stat(*stat),
        state=State(state),
        reason=reason,
        message=message,
        since_ns=since_ns,
        cursor=None if cursor[0] is None else Cursor(*cursor),
    )


def _place(session: Session) -> tuple[str, str | bytes, str]:
    return session.source, _text(session.root), session.name


def _text(path: str) -> str | bytes:
    """Give a path as SQLite can hold it: as bytes where it is not Unicode."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _encode(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
