"""Which sessions there are, how each stands, and the row that says so. No text of messages.

What is known comes from the journal and from what the stages told `status`; a file is asked only
for when it changed last, and only where its agent deletes files for that. There may be very many
sessions: they are gone through one by one, and only those that are shown are held.
"""

from __future__ import annotations

import heapq
import os
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from transcriptd.model import Session, State
from transcriptd.rows import text_of
from transcriptd.status import Standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from transcriptd.expiry import Expiry
    from transcriptd.known import Known
    from transcriptd.rows import Record

_UNARCHIVED = {State.PENDING, State.UPLOADING, State.RETRYING, State.QUARANTINED}
_NEVER_EXPIRING = {State.SOURCE_GONE, State.EXCLUDED}  # what is deleted is not missed


class Member(NamedTuple):
    """A session, how it stands, and what the journal knows of it."""

    session: Session
    standing: Standing
    record: Record | None


@dataclass(frozen=True, slots=True)
class Roster:
    """Sessions by how they stand.

    `told` are those of which the stages said how they stand, `waiting` those with something to do
    and since how many seconds; both at `now`, in Unix seconds. `journal` knows the others. Nothing
    is archived where `disabled_since` then.
    """

    told: Mapping[Session, Standing]
    waiting: Mapping[Session, float]
    now: float
    journal: Known
    expiry: Expiry
    disabled_since: float | None = None

    def live(self) -> Iterator[Member]:
        """Yield the sessions that are not current, also those that were never looked at.

        What is known of them is brief.
        """
        if self.disabled_since is not None:
            yield from self.everyone()
            return
        for session, record in self.journal.records_of(self._live(), brief=True):
            yield Member(session, self._standing(session), record)

    def everyone(self) -> Iterator[Member]:
        """Yield those that are live and those that are known, sorted as rows are."""
        live = ((each, None) for each in sorted(self._live(), key=_key))
        known = ((each.session, each) for each in self.journal.by_id())
        for _, same in groupby(heapq.merge(live, known, key=_by_key), key=_by_key):
            *_, (session, record) = same  # of both the one that is known
            yield Member(session, self._standing(session, record), record)

    def members(self, sessions: Iterable[Session]) -> list[Member]:
        """Return some of them, sorted as rows are."""
        wanted = sorted(sessions, key=_key)
        return [
            Member(session, self._standing(session, record), record)
            for session, record in self.journal.records_of(wanted)
        ]

    def age(self, member: Member) -> float | None:
        """Return since how many seconds a session has something that is not archived."""
        waits = self.waiting.get(member.session)
        ages = [] if waits is None else [waits]
        if member.standing.state in _UNARCHIVED:
            ages.append(self.now - _since(member))
        return round(max(0.0, *ages), 3) if ages else None

    def is_archived(self, member: Member) -> bool:
        """Whether all that stands in a session is archived."""
        state, record = member.standing.state, member.record
        if record is None or state in _UNARCHIVED or member.session in self.waiting:
            return False
        return record.is_archived and state is not State.DISABLED

    def expires_at(self, member: Member) -> float | None:
        """Return when the agent deletes a session, in Unix seconds; `None` where it does not."""
        session, standing, record = member
        if standing.state in _NEVER_EXPIRING or self.expiry.after(session.source) is None:
            return None
        if record and record.stat and standing.state not in _UNARCHIVED:
            changed_at: float | None = record.stat.mtime_ns / 1e9
        else:
            changed_at = _changed_at(session)
        return None if changed_at is None else self.expiry.at(session.source, changed_at)

    def row(self, member: Member) -> dict[str, Any]:
        """Say how one session stands, in the words of `report`."""
        session, standing, record = member
        cursor = record.cursor if record else None
        guard = record.guard if record else None
        behind_since = cursor.behind_since if cursor and cursor.tail_length else None
        return {
            "id": printable(session.id),
            "source": session.source,
            "path": printable(session.path),
            "state": standing.state.value,
            "reason": standing.reason,
            "message": standing.message,
            "since": round(_since(member), 3),
            "is_archived": self.is_archived(member),
            "expires_at": _rounded(self.expires_at(member)),
            "records": cursor.records if cursor else 0,
            "bytes": cursor.length if cursor else 0,
            "damaged_lines": guard.damaged if guard else 0,
            "findings": findings_of(record),
            "generation": cursor.generation if cursor else 0,
            "key": cursor.key if cursor else None,
            "sent_bytes": cursor.sent if cursor else 0,
            "behind_bytes": cursor.tail_length if cursor else 0,
            "behind_since": _rounded(behind_since),
            "oldest_unarchived_s": self.age(member),
        }

    def _live(self) -> Iterator[Session]:
        yield from self.told
        yield from (session for session in self.waiting if session not in self.told)

    def _standing(self, session: Session, record: Record | None = None) -> Standing:
        if self.disabled_since is not None:
            return Standing(State.DISABLED, self.disabled_since)
        if told := self.told.get(session):
            return told
        waits = self.waiting.get(session)
        if waits is not None:
            return Standing(State.PENDING, self.now - waits)
        assert record is not None
        return standing_of(record)


def standing_of(record: Record) -> Standing:
    """Say how a session stands by the journal. What it left unfinished, a scan looks at."""
    return Standing(record.state, record.since_ns / 1e9, record.reason, record.message)


def _since(member: Member) -> float:
    """Return since when a session stands like that; a restart does not begin it anew."""
    standing, record = member.standing, member.record
    if record and (record.state, record.reason) == (standing.state, standing.reason):
        return min(standing.since, record.since_ns / 1e9)
    return standing.since


def _key(session: Session) -> str:
    """Return by what rows are sorted: as SQLite does, which has bytes behind text.

    Text, because of 100,000 tuples collecting garbage would take longer than sorting them.
    """
    root = text_of(session.root)
    root = f"\x7f{root.hex()}" if isinstance(root, bytes) else root
    return f"{session.id}\0{session.source}\0{root}\0{session.name}"


def _by_key(found: tuple[Session, Record | None]) -> str:
    return _key(found[0])


def findings_of(record: Record | None) -> dict[str, int]:
    """Count by rule what was found in what is archived of a session, in its lines and beside."""
    if record is None or record.screening is None:
        return {}
    counts = Counter(record.screening.found)
    counts.update(record.screening.in_document)
    return dict(sorted(counts.items()))


def printable(path: os.PathLike[str] | str) -> str:
    """Return a path as text that can be encoded, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "replace")


def _changed_at(session: Session) -> float | None:
    """Ask a file: one that is not archived may have changed since the journal knew it."""
    try:
        return os.lstat(os.path.join(session.root, session.name)).st_mtime  # noqa: PTH118 - many
    except OSError:
        return None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
