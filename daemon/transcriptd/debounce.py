"""Which session is due when. Pure: time is passed in, nothing is read, nothing waits.

A session becomes due `quiet` seconds after its last change, and at most `max_wait` seconds after
its first change that is not archived. There is one entry per session, however often it changes. A
change while it is being worked on makes it due again, so that no last change is lost.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transcriptd.model import Session


_SLACK = 64


@dataclass(slots=True)
class _Entry:
    first: float  # the first change that is not archived
    due: float
    running: bool = False
    again: float | None = None  # when it first changed while it was being worked on


@dataclass(slots=True)
class Debounce:
    """Times are monotonic seconds."""

    quiet: float
    max_wait: float
    _entries: dict[Session, _Entry] = field(default_factory=dict)
    _heap: list[tuple[float, int, Session]] = field(default_factory=list)
    _counter: int = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, session: Session) -> bool:
        return session in self._entries

    def touch(self, session: Session, now: float, *, within: float | None = None) -> None:
        """Note that a session changed. `within` seconds stand in for `quiet` where given."""
        entry = self._entries.get(session)
        if entry is None:
            entry = self._entries[session] = _Entry(first=now, due=now)
        elif entry.running and entry.again is None:
            entry.again = now
        first = entry.first if entry.again is None else entry.again
        quiet = self.quiet if within is None else within
        entry.due = min(now + quiet, first + self.max_wait)
        self._push(session, entry)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._heap.clear()

    def wake(self, now: float) -> None:
        """Make everything that waits due now."""
        for session, entry in self._entries.items():
            entry.due = min(entry.due, now)
            self._push(session, entry)

    def next_due(self) -> float | None:
        """Return when the next session is due; `None` where nothing waits."""
        while self._heap and not self._valid(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, session: Session) -> float | None:
        """Return when a session that waits is due."""
        entry = self._entries.get(session)
        return None if entry is None or entry.running else entry.due

    def take(self, now: float) -> Session | None:
        """Take one session that is due; it is running until `finish`."""
        due = self.next_due()
        if due is None or due > now:
            return None
        _, _, session = heapq.heappop(self._heap)
        entry = self._entries[session]
        entry.running, entry.again = True, None
        return session

    def finish(self, session: Session, now: float) -> bool:
        """End the work on a session. True if it is done, false if it changed and is due again."""
        entry = self._entries[session]
        if entry.again is None:
            del self._entries[session]
            return True
        entry.running, entry.first, entry.again = False, entry.again, None
        entry.due = max(entry.due, now)
        self._push(session, entry)
        return False

    def waiting_since(self, session: Session) -> float | None:
        """Return when the oldest change that is not archived was seen."""
        entry = self._entries.get(session)
        return entry.first if entry else None

    def since(self) -> tuple[list[Session], list[float]]:
        """Return every session that waits or is being worked on, and `waiting_since` of each.

        Two lists: of 100,000 pairs, collecting garbage would take ten times as long as making them.
        """
        return list(self._entries), [entry.first for entry in self._entries.values()]

    def sessions(self) -> list[Session]:
        """Return every session that waits or is being worked on."""
        return list(self._entries)

    def _push(self, session: Session, entry: _Entry) -> None:
        if not entry.running:
            self._counter += 1
            heapq.heappush(self._heap, (entry.due, self._counter, session))
            if len(self._heap) > 2 * len(self._entries) + _SLACK:
                self._forget_outdated()

    def _forget_outdated(self) -> None:
        waiting = (entry for entry in self._entries.items() if not entry[1].running)
        self._heap = [(entry.due, n, session) for n, (session, entry) in enumerate(waiting)]
        heapq.heapify(self._heap)

    def _valid(self, due: float, _: int, session: Session) -> bool:
        entry = self._entries.get(session)
        return entry is not None and not entry.running and entry.due == due
