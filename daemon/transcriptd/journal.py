"""The journal: what is archived of each session, and every change to the archive, durably.

Owns what is written and when: a cursor and a state per session, a transaction per change, staged
before and committed or rejected after. Knows neither stores nor files of sessions.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from dataclasses import asdict
from time import time_ns
from typing import TYPE_CHECKING, Self

from transcriptd.database import RETRY_DISK_S, Database, read_only
from transcriptd.known import Known
from transcriptd.rows import (
    CURSOR,
    SCHEMA,
    SCREENING,
    STAT,
    Entry,
    Target,
    add_entry,
    encode,
    ensure_row,
    finish,
    place_of,
    prune,
    save_cursor,
    unused_txn,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transcriptd.model import Cursor, Guard, Screening, Session, Stat, State

_SCHEMA_VERSION = 1
_ARCHIVE = "archive"
_PRUNE_EVERY = 10_000
_MAX_MESSAGE = 500


class Journal(Known):
    """Use as `async with`. Reading happens where it is called; writing in the journal's thread."""

    _database: Database

    def __init__(
        self,
        path: Path,
        *,
        on_trouble: Callable[[Exception | None], None] = lambda _: None,
        retry_disk_s: float = RETRY_DISK_S,
    ) -> None:
        super().__init__(
            Database(path, SCHEMA, _SCHEMA_VERSION, on_trouble, retry_disk_s=retry_disk_s)
        )
        self._staged = 0

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        await self._database.write(prune)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._database.__aexit__()

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
        columns = ", ".join(f"{column} = NULL" for column in (*STAT, *CURSOR, *SCREENING))

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
        screening: Screening | None = None,
        is_verified: bool = True,
    ) -> None:
        """Remember how a session stands and which state of its file that is about.

        `is_verified`: all of that state was read; otherwise it waits for the scrub. Without a
        `screening` the one before stays: it is about what is archived, not about the file.
        """
        damaged = guard.damaged if guard else None
        counts = Counter(screening.found) + Counter(screening.in_document) if screening else None
        found, findings = (None, None) if counts is None else (encode(counts), counts.total())
        values = (stat.size, stat.mtime_ns, stat.ctime_ns, stat.inode, stat.device) if stat else (
            None, None, None, None, None,
        )  # fmt: skip

        def write(connection: sqlite3.Connection) -> None:
            # Here, in the journal's thread: there may be very many masks.
            said = encode(asdict(guard)) if guard else None
            screened = encode(asdict(screening)) if screening else None
            ensure_row(connection, session)
            connection.execute(
                "UPDATE sessions SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ?, device = ?,"
                " since_ns = CASE WHEN state = ? AND reason = ? THEN since_ns ELSE ? END,"
                " state = ?, reason = ?, message = ?, guard = ?, damaged = ?, is_verified = ?,"
                " screening = coalesce(?, screening), found = coalesce(?, found),"
                " findings = coalesce(?, findings)"
                " WHERE source = ? AND root = ? AND name = ?",
                (
                    *values, state, reason, time_ns(), state, reason, message[:_MAX_MESSAGE],
                    said, damaged, is_verified, screened, found, findings, *place_of(session),
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
            columns = ", ".join(f"{column} = NULL" for column in (*STAT, *CURSOR, *SCREENING))
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
