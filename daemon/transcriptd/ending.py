"""How an attempt ends: in a state that has a name, noted where it is looked up.

What is archived, what cannot be read, what is gone, excluded, or behind its archive. Says in how
many seconds of quiet there is more to do, if nothing comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transcriptd import exclude
from transcriptd.errors import Superseded
from transcriptd.logs import get_logger
from transcriptd.mirror import seconds_until_quiet
from transcriptd.model import NO_DOCUMENT, State
from transcriptd.pool import SETTLED_S
from transcriptd.rows import UNFINISHED, because
from transcriptd.sealing import seconds_left

if TYPE_CHECKING:
    from collections.abc import Callable

    from transcriptd.errors import Unreadable, Unsettled
    from transcriptd.gate import Gate
    from transcriptd.journal import Journal
    from transcriptd.model import Cursor, Session, Stat
    from transcriptd.pool import Turn
    from transcriptd.rows import Record
    from transcriptd.snapshot import Look
    from transcriptd.status import Status
    from transcriptd.streams import Streams
    from transcriptd.upload import Uploader

log = get_logger("transcriptd.ending")

_EXCLUDED = {
    exclude.PATH: "the configuration excludes its path",
    exclude.PROJECT: "the configuration excludes its project",
    exclude.OLD: "it has not changed for longer than the configuration wants",
    exclude.INDEX: "it names all sessions, and the configuration excludes some",
    exclude.UNKNOWN: "its project cannot be told yet, and the configuration excludes some",
}
_FIRST_DOCUMENT_S = 2.0  # so that the lines of a burst of new sessions come first


class Ending:
    """Ends attempts. `max_lag` in seconds, `wall_clock` gives Unix seconds."""

    def __init__(
        self,
        *,
        journal: Journal,
        status: Status,
        streams: Streams,
        uploader: Uploader,
        gate: Gate,
        max_lag: float,
        wall_clock: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._status = status
        self._streams = streams
        self._uploader = uploader
        self._gate = gate
        self._max_lag = max_lag
        self._wall_clock = wall_clock

    async def archived(
        self, turn: Turn, seen: Look, before: Record | None, cursor: Cursor | None
    ) -> float | None:
        """Note that all that was seen is archived."""
        session = turn.session
        # What is not finished is looked at again, also after a start.
        stat = None if seen.unfinished_s else seen.snapshot.stat
        if cursor is not None and self._streams.is_aside(session, cursor):
            state, reason = State.CONFLICT, "another_writer"
            message = f"its key belongs to another writer or file; archived as {cursor.key}"
        else:
            state, (reason, message) = State.CURRENT, _remark(seen)
        self._status.set(session, state, reason, message)
        if seen.begins_anew:
            log.warning("stream.begun_anew", session=session.id, reason=reason, hint=message)
        screening = seen.screened.screening if seen.screened else None
        known = before and (before.stat, before.state, before.guard)
        is_same = known == (stat, state, seen.guard)
        if not (before and is_same and screening in (None, before.screening)):
            await self._journal.note(
                session,
                stat,
                state,
                reason=reason,
                message=message,
                guard=seen.guard,
                screening=screening,
                is_verified=seen.is_verified,
            )
        return _soonest(seen.unfinished_s, self._settles_in(turn, cursor) if cursor else None)

    def _settles_in(self, turn: Turn, cursor: Cursor) -> float | None:
        """Say in how many seconds there is more to do for what is archived, if nothing comes."""
        left = seconds_left(cursor, self._wall_clock(), max_lag=self._max_lag)
        if turn.settled:
            return left
        if not self._streams.has_document(turn.session):
            return _soonest(SETTLED_S if cursor.tail_length else None, left)
        has_document = cursor.document_digest not in {"", NO_DOCUMENT}
        return _soonest(SETTLED_S if has_document else _FIRST_DOCUMENT_S, left)

    async def unsettled(self, turn: Turn, before: Record | None, error: Unsettled) -> float:
        """Say that a file is being written, and is looked at again once it is not."""
        self._status.set(turn.session, State.PENDING, error.reason, str(error))
        left = await self._keep_up(turn, before)
        return min(error.seconds, left or error.seconds)

    async def quarantined(
        self, turn: Turn, before: Record | None, stat: Stat | None, error: Unreadable
    ) -> float | None:
        """Note that a session cannot be read, and why."""
        session = turn.session
        known = before is not None and before.state is State.QUARANTINED
        if not known or before is None or before.reason != error.reason:
            reason = because("schema_mismatch", f"{error.reason}: {error}")
            await self._journal.refuse(session, {"op": "save"}, reason)
        self._status.set(session, State.QUARANTINED, error.reason, str(error))
        await self._journal.note(
            session, stat, State.QUARANTINED, reason=error.reason, message=str(error)
        )
        return await self._keep_up(turn, before)

    async def excluded(
        self, turn: Turn, before: Record | None, stat: Stat, reason: str
    ) -> float | None:
        """Note that the configuration keeps a session from leaving; what is archived stays."""
        session = turn.session
        message = _EXCLUDED[reason]
        self._status.set(session, State.EXCLUDED, reason, message)
        # What tells its project may stand in another file: it is asked again.
        noted = None if reason == exclude.UNKNOWN else stat
        known = before and (before.stat, before.state, before.reason)
        if known != (noted, State.EXCLUDED, reason):
            await self._journal.note(session, noted, State.EXCLUDED, reason=reason, message=message)
        return await self._keep_up(turn, before)

    async def gone(self, session: Session, before: Record | None) -> None:
        """Note that a session's file is gone; what is archived of it is made whole."""
        if session in self._journal.unsettled():
            async with self._gate.turn():
                await self._uploader.settle_without_source(session)
            before = self._journal.record(session)
        if before is None:
            self._status.set(session, State.CURRENT)  # it was never more than a name
            return
        if before.cursor and before.cursor.tail_length:
            await self._seal_what_is_left(session, before.cursor)
        message = "" if before.cursor else "it was gone before anything of it was archived"
        self._status.set(session, State.SOURCE_GONE, "", message)
        await self._journal.note(session, None, State.SOURCE_GONE, message=message)

    async def behind(
        self, turn: Turn, before: Record | None, stat: Stat | None, message: str
    ) -> float | None:
        """Note that the archive holds more than the file, unless that may still come."""
        session = turn.session
        grows = stat is not None and not self._streams.has_document(session)
        if stat and grows and (waits_s := seconds_until_quiet(stat, self._wall_clock())):
            # What is missing may be a last line that does not count yet.
            self._status.set(session, State.PENDING, "archive_is_longer", message)
            return waits_s
        self._status.set(session, State.BEHIND, "archive_is_longer", message)
        await self._journal.note(
            session, stat, State.BEHIND, reason="archive_is_longer", message=message
        )
        return await self._keep_up(turn, before)

    async def _keep_up(self, turn: Turn, before: Record | None) -> float | None:
        """Seal in time also what cannot be read now; say in how many seconds that will be."""
        cursor = before.cursor if before else None
        left = cursor and seconds_left(cursor, self._wall_clock(), max_lag=self._max_lag)
        if cursor and left is not None and (turn.sealing or not left):
            await self._seal_what_is_left(turn.session, cursor)
            return None
        return left or None

    async def _seal_what_is_left(self, session: Session, cursor: Cursor) -> None:
        """Let the base take in its tail although the source is gone: nothing more will come."""
        try:
            async with self._gate.turn():
                await self._uploader.seal_without_source(session, cursor)
        except Superseded as error:
            log.warning("seal.skipped", session=session.id, reason=str(error))


def _remark(seen: Look) -> tuple[str, str]:
    """Say what a person may want to know of a session that is archived: a reason, a message."""
    if seen.begins_anew:
        message = (
            "archived anew: the rules changed, and the key that proves what was masked is not in "
            "the state directory any more"
        )
        return "redaction_key_lost", message
    if seen.is_unfinished and seen.unfinished_s is None:
        return UNFINISHED, "its last line has no end yet; with masks it waits for that"
    return "", ""


def _soonest(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)
