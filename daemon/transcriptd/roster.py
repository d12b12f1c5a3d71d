"""Which sessions there are, how each stands, and the row that says so. No text of messages.

What is known comes from the journal and from what the stages told `status`; a file is asked only
for when it changed last, and only where its agent deletes files for that.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Any

from transcriptd.model import State
from transcriptd.status import Standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from transcriptd.expiry import Expiry
    from transcriptd.model import Session
    from transcriptd.rows import Record

_UNARCHIVED = {State.PENDING, State.UPLOADING, State.RETRYING, State.QUARANTINED}
_NEVER_EXPIRING = {State.SOURCE_GONE, State.EXCLUDED}  # what is deleted is not missed


@dataclass(frozen=True, slots=True)
class Roster:
    """Sessions by how they stand.

    `live` are those that are not current, `waiting` those with something to do and since how many
    seconds, `records` what the journal knows of sessions, of those that are live at least.
    """

    live: Mapping[Session, Standing]
    waiting: Mapping[Session, float]
    records: Mapping[Session, Record]
    expiry: Expiry

    def everyone(self) -> dict[Session, Standing]:
        """Return how each session stands, of those that are live and those that are known."""
        return {**standings(self.records.values()), **self.live}

    def age(self, session: Session, standing: Standing) -> float | None:
        """Return since how many seconds a session has something that is not archived."""
        ages = []
        if session in self.waiting:
            ages.append(self.waiting[session])
        if standing.state in _UNARCHIVED:
            ages.append(time() - self._since(session, standing))
        return round(max(0.0, *ages), 3) if ages else None

    def is_archived(self, session: Session, standing: Standing) -> bool:
        """Whether all that stands in a session is archived."""
        record = self.records.get(session)
        if record is None or session in self.waiting or standing.state in _UNARCHIVED:
            return False
        return record.is_archived and standing.state is not State.DISABLED

    def expires_at(self, session: Session, standing: Standing) -> float | None:
        """Return when the agent deletes a session, in Unix seconds; `None` where it does not."""
        if standing.state in _NEVER_EXPIRING or self.expiry.after(session.source) is None:
            return None
        record = self.records.get(session)
        if record and record.stat and standing.state not in _UNARCHIVED:
            changed_at: float | None = record.stat.mtime_ns / 1e9
        else:
            changed_at = _changed_at(session)
        return None if changed_at is None else self.expiry.at(session.source, changed_at)

    def row(self, session: Session, standing: Standing) -> dict[str, Any]:
        """Say how one session stands, in the words of `report`."""
        record = self.records.get(session)
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
            "since": round(self._since(session, standing), 3),
            "is_archived": self.is_archived(session, standing),
            "expires_at": _rounded(self.expires_at(session, standing)),
            "records": cursor.records if cursor else 0,
            "bytes": cursor.length if cursor else 0,
            "damaged_lines": guard.damaged if guard else 0,
            "findings": findings_of(record),
            "generation": cursor.generation if cursor else 0,
            "key": cursor.key if cursor else None,
            "sent_bytes": cursor.sent if cursor else 0,
            "behind_bytes": cursor.tail_length if cursor else 0,
            "behind_since": _rounded(behind_since),
            "oldest_unarchived_s": self.age(session, standing),
        }

    def _since(self, session: Session, standing: Standing) -> float:
        """Return since when a session stands like that; a restart does not begin it anew."""
        record = self.records.get(session)
        if record and (record.state, record.reason) == (standing.state, standing.reason):
            return min(standing.since, record.since_ns / 1e9)
        return standing.since


def standings(records: Iterable[Record]) -> dict[Session, Standing]:
    """Say how each session stands by the journal. What it left unfinished, a scan looks at."""
    return {r.session: Standing(r.state, r.since_ns / 1e9, r.reason, r.message) for r in records}


def findings_of(record: Record | None) -> dict[str, int]:
    """Count by rule what was found in what is archived of a session, in its lines and beside."""
    if record is None or record.screening is None:
        return {}
    counts = Counter(record.screening.found)
    counts.update(record.screening.in_document)
    return dict(sorted(counts.items()))


def by_id(row: tuple[Session, Standing]) -> tuple[str, str, str]:
    """Return by what rows are sorted."""
    return row[0].id, row[0].source, row[0].root


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
