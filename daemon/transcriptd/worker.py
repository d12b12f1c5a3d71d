"""The way of a save, from "this session may have changed" to "it is archived".

    look (safe read, lines, digest) → plan → upload (stage, write, prove, commit) → seal? → note

`Worker._archive` is one session's whole way. An error ends in a state that has a name, in another
attempt, or in both, and never in another session's way. Knows nothing of when (`pool`).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING

from transcriptd import failpoint
from transcriptd.content import BLOCK
from transcriptd.ending import Ending
from transcriptd.errors import (
    Behind,
    Changing,
    Resting,
    Rewritten,
    StoreError,
    Superseded,
    Unreadable,
    Unsettled,
    Vanished,
)
from transcriptd.layout import document_digest
from transcriptd.logs import get_logger
from transcriptd.model import State
from transcriptd.sealing import Occasion, is_due
from transcriptd.stores import on_account
from transcriptd.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transcriptd.budget import Budget
    from transcriptd.gate import Gate
    from transcriptd.journal import Journal
    from transcriptd.layout import Names
    from transcriptd.model import Cursor, Session, Stat
    from transcriptd.pool import Turn
    from transcriptd.rows import Record
    from transcriptd.screen import Screen
    from transcriptd.snapshot import Look
    from transcriptd.sources import Source
    from transcriptd.status import Status
    from transcriptd.upload import Uploader

log = get_logger("transcriptd.worker")

_MOST_OF_A_MIRROR = 64 << 20  # of what is new, one request or the parts of one upload


class Worker:
    """Does one turn.

    `screens` are the rules for each source. `excluded` gives, for the sources of which anything is,
    the reason why a session never leaves, or nothing, and blocks.
    `max_document` in bytes, `max_lag` how many seconds a base may be behind, `clock` in monotonic
    and `wall_clock` in Unix seconds.
    """

    def __init__(
        self,
        *,
        sources: dict[str, Source],
        screens: Mapping[str, Screen],
        excluded: Mapping[str, Callable[[Session, Stat], str]],
        journal: Journal,
        uploader: Uploader,
        gate: Gate,
        budget: Budget,
        status: Status,
        names: Names,
        max_document: int,
        max_lag: float,
        clock: Callable[[], float] = monotonic,
        wall_clock: Callable[[], float] = time,
    ) -> None:
        self._sources = sources
        self._screens = screens
        self._excluded = excluded
        self._journal = journal
        self._uploader = uploader
        self._gate = gate
        self._budget = budget
        self._status = status
        self._streams = Streams(sources, journal, names)
        self._ending = Ending(
            journal=journal,
            status=status,
            streams=self._streams,
            uploader=uploader,
            gate=gate,
            max_lag=max_lag,
            wall_clock=wall_clock,
        )
        self._max_document = max_document
        self._max_lag = max_lag
        self._clock = clock
        self._wall_clock = wall_clock

    async def attempt(self, turn: Turn) -> float | None:
        """Make one attempt; what another one cannot mend ends in a state, not in an error.

        Returns in how many seconds of quiet there is more to do, or `None`.
        """
        before = self._journal.record(turn.session)
        # Taken before the file is read: a save that comes later differs from it, and is found.
        stat = await self._streams.stat(turn.session)
        try:
            with on_account() as account:
                try:
                    return await self._archive(turn, before, stat)
                finally:
                    if account.requests:
                        self._status.requests[turn.session] += account.requests
        except Rewritten:
            await self._journal.doubt(turn.session)
            raise
        except Unsettled as error:
            return await self._ending.unsettled(turn, before, error)
        except Unreadable as error:
            return await self._ending.quarantined(turn, before, stat, error)
        except Vanished:
            await self._ending.gone(turn.session, before)
        except Behind as error:
            return await self._ending.behind(turn, before, stat, str(error))
        except Resting as error:
            self._status.set(turn.session, State.RETRYING, "foreign_writer", str(error))
            return error.seconds
        return None

    async def _archive(self, turn: Turn, before: Record | None, stat: Stat | None) -> float | None:
        """Take one save its whole way."""
        session, cursor = turn.session, before.cursor if before else None
        only_changes = not (turn.settled or turn.sealing)
        if before and only_changes and _is_dealt_with(before, stat):
            self._status.set(session, before.state, before.reason, before.message)
            return None
        if stat and (why := self._excluded.get(session.source)):
            reason = await asyncio.to_thread(why, session, stat)
            if reason:
                return await self._ending.excluded(turn, before, stat, reason)
        size = self._size(session, stat, cursor)
        async with self._streams.hold(session) as key, self._budget.borrow(size):
            if cursor and self._streams.changes(session, cursor, key):
                cursor = None  # the first file is gone, or back
            known = before if cursor else None
            first = await self._look(turn, cursor, known)
            failpoint.reached("looked")
            if not (cursor and cursor.tail_length) and not self._has_news(first, cursor):
                return await self._ending.archived(turn, first, before, cursor)
            # Nothing is held in memory while the store is down.
            held = first if self._gate.is_free else None
            del first
            async with self._gate.turn():
                seen = held or await self._look(turn, cursor, known)
                # Asked of what was seen last: it may have grown while others had their turn.
                if not self._has_news(seen, cursor) and not await self._is_seal_due(turn, cursor):
                    return await self._ending.archived(turn, seen, before, cursor)
                self._status.set(session, State.UPLOADING)
                if cursor is None:
                    seen = await self._after_a_move(seen, key)
                seen, cursor = await self._upload(seen, cursor, key)
                if cursor and await self._is_seal_due(turn, cursor):
                    cursor = await self._uploader.seal(seen, cursor)
        if cursor is not None and _advanced(before, cursor):
            waited_s = self._clock() - turn.since
            self._status.archived(session, waited_s, cursor.length, cursor.generation)
        return await self._ending.archived(turn, seen, before, cursor)

    async def _is_seal_due(self, turn: Turn, cursor: Cursor | None) -> bool:
        if cursor is None or not cursor.tail_length:
            return False
        quiet = Occasion.QUIET if turn.quiet else Occasion.WRITTEN
        occasion = Occasion.NOW if turn.sealing else quiet
        due = partial(is_due, cursor, occasion, self._wall_clock(), max_lag=self._max_lag)
        # Whether the store copies may have to be probed: it is asked only where that decides.
        return due(copies=False) or (due(copies=True) and await self._uploader.copies(cursor))

    async def _look(self, turn: Turn, cursor: Cursor | None, known: Record | None) -> Look:
        return await asyncio.to_thread(
            self._screens[turn.session.source].look,
            self._sources[turn.session.source],
            turn.session,
            cursor,
            known.guard if known else None,
            known.screening if known else None,
            max_bytes=self._max_document,
            with_document=turn.settled,
        )

    async def _after_a_move(self, seen: Look, key: str) -> Look:
        """Finish the stream that a session had under a former name, so that it can be copied.

        Readers that know the former name find the end there, too.
        """
        former = await self._streams.former(seen.snapshot, key)
        if former is None:
            return seen
        session, cursor = former
        there = replace(seen, extends=True, snapshot=replace(seen.snapshot, session=session))
        try:
            there, moved = await self._uploader.archive(there, cursor, cursor.key)
        except Behind:
            return seen  # it holds more than the file: left as it is, and nothing is copied
        if moved is not None and moved.tail_length:
            moved = await self._uploader.seal(there, moved)
        return replace(seen, origin=moved)

    async def _upload(
        self, seen: Look, cursor: Cursor | None, key: str
    ) -> tuple[Look, Cursor | None]:
        session = seen.snapshot.session
        seen, cursor = await self._uploader.archive(seen, cursor, key)
        document = seen.snapshot.document
        if cursor is not None and document is not None:
            where = self._streams.document_key(session, cursor)
            if where is not None:
                cursor = await self._uploader.archive_document(session, document, cursor, where)
        return seen, cursor

    async def take_over(self, session: Session, machine: str | None) -> tuple[str, ...]:
        """Let a session's history stand under its own key, where another writer's stands now.

        Returns the writers whose history gives way; with `machine`, only that machine's does.
        """
        async with self._streams.hold(session) as key, self._gate.turn():
            return await self._uploader.take_over(session, key, machine)

    def failed(self, session: Session, error: BaseException, pause_s: float) -> None:
        """Say that an attempt failed and another follows in `pause_s` seconds, or at its turn."""
        if isinstance(error, StoreError):
            reason = error.degraded or "store_refused"
        elif isinstance(error, Changing | Superseded):
            reason = "moved_on"
        else:
            reason = "internal_error"
        outage = self._gate.error.degraded if self._gate.error else ""
        if reason != outage:  # an outage is logged once, for all sessions
            say = log.debug if reason == "moved_on" and not pause_s else log.warning
            say(
                "session.attempt_failed",
                session=session.id,
                reason=reason,
                error=str(error),
                retry_in_s=round(pause_s, 1),
                exc_info=error if reason == "internal_error" else None,
            )
        self._status.events["failed"] += 1
        self._status.set(session, State.RETRYING, reason, str(error))

    def _has_news(self, seen: Look, cursor: Cursor | None) -> bool:
        """Whether anything of a session is not archived yet, or an outcome is not known."""
        snapshot = seen.snapshot
        if snapshot.session in self._journal.unsettled():
            return True
        if cursor is None:
            return snapshot.records > 0
        if not seen.extends or snapshot.content.size > cursor.length:
            return True
        return (
            snapshot.document is not None
            and document_digest(snapshot.document) != cursor.document_digest
        )

    def _size(self, session: Session, stat: Stat | None, cursor: Cursor | None) -> int:
        """Return how many bytes an attempt holds in memory at most."""
        if stat is None:
            return 0
        if self._streams.is_held_whole(session):
            return max(0, min(stat.size, self._max_document))
        return min(max(BLOCK, stat.size - (cursor.length if cursor else 0)), _MOST_OF_A_MIRROR)


def _advanced(before: Record | None, after: Cursor) -> bool:
    known = before.cursor if before else None
    return known is None or (known.generation, known.length) != (after.generation, after.length)


def _is_dealt_with(before: Record, stat: Stat | None) -> bool:
    """Whether the file still is what it was when it was last archived."""
    well = before.state in {State.CURRENT, State.CONFLICT}
    return well and before.stat is not None and before.stat == stat
