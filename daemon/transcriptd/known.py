"""What the journal knows, for those who only ask: cursors, states, sums and what is not settled.

Reading happens where it is called, also beside a running daemon; where the journal cannot be read,
nothing is known. Sums over all sessions are answered by an index alone: with 100,000 of them the
rows would take too long.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from itertools import islice
from typing import TYPE_CHECKING, Any

from transcriptd.apart import Apart, any_text
from transcriptd.model import NO_DOCUMENT, Session, Stat, State
from transcriptd.rows import (
    ARCHIVED,
    BRIEF,
    ROW,
    STAT,
    Excluded,
    Record,
    Sum,
    Target,
    Transaction,
    place_of,
    record_of,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from transcriptd.apart import Readable


_STATES = {state.value: state for state in State}
_AT_ONCE = 500  # rows: a scan that turns to the file system after each is a fifth slower
_PLACES = 300  # in one statement: older versions of SQLite take 999 values
_new = tuple.__new__  # a rescan makes a `Stat` for each session: without its constructor in Python


class Known:
    """What stands in one journal."""

    def __init__(self, database: Readable) -> None:
        self._database = database

    @contextlib.contextmanager
    def apart(self) -> Iterator[Known]:
        """Give the same through a connection of its own, for use in any one thread.

        All of it is as of the first look, `by_id` and `known_files` excepted.
        """
        with contextlib.closing(Apart(self._database)) as reader:
            yield Known(reader)

    def record(self, session: Session) -> Record | None:
        """Return what is known of a session."""
        where = "WHERE source = ? AND root = ? AND name = ?"
        rows = self._select(where, place_of(session))
        return next(iter(rows), None)

    def records_of(
        self, sessions: Iterable[Session], *, brief: bool = False
    ) -> Iterator[tuple[Session, Record | None]]:
        """Yield each of these sessions with what is known of it; a few hundred with one look.

        `brief`: without guards and screenings, which may be long.
        """
        columns = ", ".join(BRIEF if brief else ROW)
        left = iter(sessions)
        while several := list(islice(left, _PLACES)):
            places = [place_of(session) for session in several]
            rows = self._database.read(
                f"WITH wanted (s, r, n) AS (VALUES {', '.join(['(?, ?, ?)'] * len(places))})"  # noqa: S608 - constants
                f" SELECT {columns} FROM wanted"
                " CROSS JOIN sessions ON source = s AND root = r AND name = n",
                tuple(value for place in places for value in place),
            )
            found = {place_of(record.session): record for record in _records(rows)}
            for session, place in zip(several, places, strict=True):
                yield session, found.get(place)

    def records(self, source: str, session_id: str) -> list[Record]:
        """Return what is known under a session id; a copy in another root has the same one."""
        return self._select("WHERE id = ? AND source = ?", (session_id, source))

    def not_current(self) -> list[Record]:
        """Return every session that is neither `current` nor `excluded`."""
        return self._select("WHERE state <> 'current' AND state <> 'excluded'", ())

    def in_state(self, state: State) -> list[Record]:
        """Return every session in one state, other than `current`."""
        return self._select("WHERE state <> 'current' AND state = ?", (state,))

    def without_document(self, source: str) -> list[Record]:
        """Return a source's sessions whose lines are archived and whose `session.json` is not."""
        where = f"WHERE document_digest IN ('', '{NO_DOCUMENT}') AND length IS NOT NULL"
        index = "INDEXED BY sessions_without_document"
        return self._select(f"{index} {where} AND source = ?", (source,))

    def behind(self) -> list[Record]:
        """Return every session whose base has not taken in its tail."""
        return self._select("WHERE tail_length > 0", ())

    def everything(self) -> list[Record]:
        """Return every session."""
        return self._select("", ())

    def by_id(self) -> Iterator[Record]:
        """Yield every session by id, source and root; for use in any one thread."""
        columns = ", ".join(ROW)
        query = f"SELECT {columns} FROM sessions INDEXED BY sessions_by_id"  # noqa: S608 - constants
        try:
            connection = self._database.connect()
        except sqlite3.Error:
            return
        try:
            connection.text_factory = any_text
            rows = connection.execute(f"{query} ORDER BY id, source, root, name")
            while several := rows.fetchmany(_AT_ONCE):
                yield from _records(several)
        except sqlite3.Error:
            self._database.doubt()
        finally:
            connection.close()

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
            while several := rows.fetchmany(_AT_ONCE):
                for row in several:
                    stat = None if row[2] is None else _new(Stat, row[2:])
                    yield row[0], stat, _STATES[row[1]]
        except (sqlite3.Error, KeyError):
            self._database.doubt()
            return  # nothing more is known then, so that the rest is looked at
        finally:
            connection.close()

    def unverified(
        self, sources: Collection[str], after_ns: int, before_ns: int, at_most: int
    ) -> list[Record]:
        """Return sessions that wait for the scrub and changed last between then, oldest first."""
        wanted = ", ".join("?" for _ in sources)
        where = f"WHERE is_verified = 0 AND size IS NOT NULL AND source IN ({wanted})"
        between = "AND mtime_ns > ? AND mtime_ns < ? ORDER BY mtime_ns LIMIT ?"
        return self._select(f"{where} {between}", (*sources, after_ns, before_ns, at_most))

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

    def most_damaged(self, at_most: int) -> list[Record]:
        """Return the sessions with the most damaged lines."""
        return self._select("WHERE damaged > 0 ORDER BY damaged DESC LIMIT ?", (at_most,))

    def findings(self) -> dict[tuple[str, str], int]:
        """Return how often each rule found something in what is archived, by (source, rule)."""
        rows = self._database.read(
            "SELECT source, each.key, total(each.value)"
            " FROM sessions INDEXED BY sessions_found, json_each(found) AS each"
            " WHERE findings > 0 GROUP BY source, each.key"
        )
        return {(source, rule): int(count) for source, rule, count in rows}

    def with_findings(self) -> dict[str, int]:
        """Return how many sessions have findings, by source."""
        rows = self._database.read(
            "SELECT source, count(*) FROM sessions INDEXED BY sessions_found"
            " WHERE findings > 0 GROUP BY source"
        )
        return {source: int(sessions) for source, sessions in rows}

    def most_findings(self, at_most: int) -> list[Record]:
        """Return the sessions with the most findings."""
        return self._select("WHERE findings > 0 ORDER BY findings DESC LIMIT ?", (at_most,))

    def sums(self) -> list[Sum]:
        """Return how many sessions each source has in each state, and what is archived of them."""
        rows = self._database.read(
            "SELECT source, state, count(*), total(records), total(length) FROM sessions"
            " GROUP BY source, state"
        )
        return [
            Sum(source, state, count, int(records), int(length))
            for source, state, count, records, length in rows
        ]

    def excluded(self) -> list[Excluded]:
        """Return how many sessions of each source never leave, and for which reason."""
        rows = self._database.read(
            "SELECT source, reason, count(*), total(size) FROM sessions"
            " WHERE state = 'excluded' AND state <> 'current' GROUP BY source, reason"
        )
        return [Excluded(source, reason, count, int(size)) for source, reason, count, size in rows]

    def tails(self) -> tuple[int, int]:
        """Return how many bases have not taken in their tail, and how long those tails are."""
        rows = self._database.read(
            "SELECT count(*), total(tail_length) FROM sessions WHERE tail_length > 0"
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    def unchanged_since(self, source: str, before_ns: int) -> tuple[int, int]:
        """Return how many files of a source have not changed since then.

        Also how many of them are not archived as they stand. What is excluded counts in neither.
        """
        rows = self._database.read(
            "SELECT count(*), total(state NOT IN (?, ?, ?)) FROM sessions"
            " WHERE source = ? AND mtime_ns < ? AND state <> 'excluded'",
            (*ARCHIVED, source, before_ns),
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

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

    def _select(self, where: str, values: tuple[object, ...]) -> list[Record]:
        columns = ", ".join(ROW)
        rows = self._database.read(f"SELECT {columns} FROM sessions {where}", values)  # noqa: S608 - constants
        return _records(rows)


def _records(rows: Iterable[tuple[Any, ...]]) -> list[Record]:
    found: list[Record] = []
    for row in rows:
        with contextlib.suppress(ValueError):  # damaged: nothing is known of it
            found.append(record_of(row))
    return found
