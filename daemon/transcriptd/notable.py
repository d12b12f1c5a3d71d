"""Which sessions get a row where not all do: the worst, the oldest, and those that stand out."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from transcriptd.model import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from transcriptd.model import Session
    from transcriptd.roster import Member, Roster

MOST_ROWS = 1000
"""So many sessions that are not current have a row, the worst of them."""

_MOST = 100  # sessions that stand out in one way
_SEVERITY = {
    state: place
    for place, state in enumerate(
        (
            State.QUARANTINED,
            State.CONFLICT,
            State.BEHIND,
            State.DISABLED,
            State.RETRYING,
            State.UPLOADING,
            State.PENDING,
            State.SOURCE_GONE,
            State.EXCLUDED,
            State.CURRENT,
        )
    )
}


class Notable:
    """Those among sessions that go by which are most notable."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._worst = _Least(MOST_ROWS)
        self._oldest = _Least(_MOST)
        self._first_to_go = _Least(_MOST)
        self._seen = 0

    @property
    def sessions(self) -> set[Session]:
        """Those that were noted."""
        return self._worst.sessions | self._oldest.sessions | self._first_to_go.sessions

    @property
    def left_off(self) -> int:
        """How many went by and were not noted."""
        return self._seen - len(self.sessions)

    def noting(self, members: Iterable[Member]) -> Iterator[Member]:
        """Let sessions go by."""
        for member in members:
            self._note(member)
            yield member

    def outstanding(self) -> set[Session]:
        """Return the sessions with most damaged lines, and those in which most was found."""
        journal = self._roster.journal
        records = journal.most_damaged(_MOST) + journal.most_findings(_MOST)
        return {record.session for record in records}

    def _note(self, member: Member) -> None:
        self._seen += 1
        session, standing = member.session, member.standing
        self._worst.add((_SEVERITY[standing.state], standing.since), session)
        age = self._roster.age(member)
        if age is not None:
            self._oldest.add((-age, 0.0), session)
        expires_at = self._roster.expires_at(member)
        if expires_at is not None and not self._roster.is_archived(member):
            self._first_to_go.add((expires_at, 0.0), session)


class _Least:
    """Those sessions whose rank is the least, `at_most` so many; of equal ones the first."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._added = 0
        self._heap: list[tuple[float, float, int, Session]] = []

    @property
    def sessions(self) -> set[Session]:
        return {entry[3] for entry in self._heap}

    def add(self, rank: tuple[float, float], session: Session) -> None:
        self._added += 1
        entry = (-rank[0], -rank[1], -self._added, session)
        if self._added <= self._at_most:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)
