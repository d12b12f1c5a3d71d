"""The journal: what is archived of each session, and every change to the archive, durably.

Owns the tables and what they mean: a cursor and a state per session, a transaction per change,
staged before and committed or rejected after. Knows neither stores nor files of sessions.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from dataclasses import asdict
from time import time_ns
from typing import TYPE_CHECKING, Self

from transcriptd.database import RETRY_DISK_S, Database, read_only
from transcriptd.model import NO_DOCUMENT, Cursor, Guard, Session, Stat, State
from transcriptd.rows import (
    CURSOR,
    ROW,
    SCHEMA,
    STAT,
    Entry,
    Record,
    Target,
    Transaction,
    add_entry,
    encode,
    ensure_row,
    finish,
    place_of,
    prune,
    record_of,
    save_cursor,
    text_of,
    unused_txn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SCHEMA_VERSION = 1
_ARCHIVE = "archive"
_PRUNE_EVERY = 10_000
_MAX_MESSAGE = 500


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
            path, SCHEMA, _SCHEMA_VERSION, on_trouble, retry_disk_s=retry_disk_s
        )
        self._staged = 0

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        await self._database.write(prune)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._database.__aexit__()

    def record(self, session: Session) -> Record | None:
        """Return what is known of a session."""
        where = "WHERE source = ? AND root = ? AND name = ?"
        rows = self._select(where, place_of(session))
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
                f"SELECT name, state, {', '.join(STAT)} FROM sessions"  # noqa: S608 - constants
                " WHERE source = ? AND root = ? ORDER BY name",
                (source, text_of(root)),
            )
            for name, state, *stat in rows:
                yield name, None if stat[0] is None else Stat._make(stat), State(state)
        except (sqlite3.Error, ValueError):
            return  # nothing more is known then, so that the rest is looked at
        finally:
            connection.close()

    def unverified(self, before_ns: int) -> Record | None:
        """Return the session that waits longest for the scrub, of those unchanged since then."""
        where = "WHERE is_verified = 0 AND mtime_ns < ? ORDER BY mtime_ns LIMIT 1"
        return next(iter(self._select(where, (before_ns,))), None)

    def scrubbing(self) -> tuple[int, int]:
        """Return how many sessions wait for the scrub, and how many bytes they have."""
        rows = self._database.read(
            "SELECT count(*), total(length) FROM sessions WHERE is_verified = 0"
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    def damaged(self) -> dict[str, int]:
        """Return how many damaged lines the archived files have, by source."""
        rows = self._database.read(
            "SELECT source, total(damaged) FROM sessions WHERE damaged > 0 GROUP BY source"
        )
        return {source: int(lines) for source, lines in rows}

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
        unsealed, behind_bytes = tails[0] if tails else (0, 0)
        return {
            **{state: count for state, count, _, _ in rows},
            "records": int(sum(records for _, _, records, _ in rows)),
            "bytes": int(sum(length for _, _, _, length in rows)),
            "bases_behind": int(unsealed),
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
            place_of(session),
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
        detail = encode(op)
        wanted = encode({name: getattr(target, name) for name in Target.__slots__})

        def write(connection: sqlite3.Connection) -> int:
            place = place_of(session)
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
            txn = unused_txn(connection)
            seq = add_entry(connection, txn, "staged", session, detail)
            connection.execute(
                "INSERT INTO open_transactions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (txn, seq, *place, session.id, action, wanted),
            )
            return txn

        self._staged += 1
        if self._staged % _PRUNE_EVERY == 0:
            await self._database.write(prune)
        return await self._database.write(write)

    async def commit(self, txn: int, session: Session, cursor: Cursor | None) -> None:
        """Note that a transaction took effect, together with the new cursor where there is one."""

        def write(connection: sqlite3.Connection) -> None:
            finish(connection, txn, "committed", session, "")
            if cursor is not None:
                save_cursor(connection, session, cursor)

        await self._database.write(write)

    async def reject(self, txn: int, session: Session, reason: dict[str, str]) -> None:
        """Note that a transaction took no effect, and why, in CodeTether's words."""
        detail = encode(reason)
        await self._database.write(lambda c: finish(c, txn, "rejected", session, detail))

    async def refuse(self, session: Session, op: dict[str, object], reason: dict[str, str]) -> None:
        """Note something that could not even be staged: a session that cannot be read."""

        def write(connection: sqlite3.Connection) -> None:
            txn = unused_txn(connection)
            add_entry(connection, txn, "staged", session, encode(op))
            add_entry(connection, txn, "rejected", session, encode(reason))

        await self._database.write(write)

    async def save(self, session: Session, cursor: Cursor) -> None:
        """Remember a cursor that no transaction led to: an archive that was adopted."""
        await self._database.write(lambda c: save_cursor(c, session, cursor))

    async def forget(self, session: Session) -> None:
        """Forget where a session's stream is, and what of its file was dealt with."""
        columns = ", ".join(f"{column} = NULL" for column in (*STAT, *CURSOR))

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                f"UPDATE sessions SET {columns}, state = 'pending'"  # noqa: S608 - constants
                " WHERE source = ? AND root = ? AND name = ?",
                place_of(session),
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
        guard: Guard | None = None,
        is_verified: bool = True,
    ) -> None:
        """Remember how a session stands and which state of its file that is about.

        `is_verified`: all of that state was read; otherwise it waits for the scrub.
        """
        said = encode(asdict(guard)) if guard else None
        damaged = guard.damaged if guard else None
        values = (stat.size, stat.mtime_ns, stat.ctime_ns, stat.inode, stat.device) if stat else (
            None, None, None, None, None,
        )  # fmt: skip

        def write(connection: sqlite3.Connection) -> None:
            ensure_row(connection, session)
            connection.execute(
                "UPDATE sessions SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, device = ?,"
                " since_ns = CASE WHEN state = ? AND reason = ? THEN since_ns ELSE ? END,"
                " state = ?, reason = ?, message = ?, guard = ?, damaged = ?, is_verified = ?"
                " WHERE source = ? AND root = ? AND name = ?",
                (
                    *values, state, reason, time_ns(), state, reason, message[:_MAX_MESSAGE],
                    said, damaged, is_verified, *place_of(session),
                ),
            )  # fmt: skip

        await self._database.write(write)

    async def doubt(self, session: Session) -> None:
        """Forget by what a file is known again: all of it is read the next time."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE sessions SET guard = NULL, size = NULL"
                " WHERE source = ? AND root = ? AND name = ?",
                place_of(session),
            )

        await self._database.write(write)

    async def verified(self, session: Session, stat: Stat) -> None:
        """Note that all of this state of a file was read and is what is archived."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE sessions SET is_verified = 1 WHERE source = ? AND root = ? AND name = ?"
                " AND size = ? AND mtime_ns = ? AND ctime_ns = ?",
                (*place_of(session), stat.size, stat.mtime_ns, stat.ctime_ns),
            )

        await self._database.write(write)

    async def belongs_to(self, archive: str) -> bool:
        """Tie the journal to an archive; what it knows of another one is forgotten.

        Returns whether there was another one.
        """
        known = self.fact(_ARCHIVE)
        if known == archive:
            return False

        def write(connection: sqlite3.Connection) -> None:
            columns = ", ".join(f"{column} = NULL" for column in (*STAT, *CURSOR))
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
        columns = ", ".join(ROW)
        rows = self._database.read(f"SELECT {columns} FROM sessions {where}", values)  # noqa: S608 - constants
        found: list[Record] = []
        for row in rows:
            with contextlib.suppress(ValueError):  # damaged: nothing is known of it
                found.append(record_of(row))
        return found


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
