"""How a daemon's sessions stood at one moment: taken in the event loop, told of in any thread.

There may be very many sessions, and the loop must not wait for them: taking the moment copies what
the loop changes. The rest reads that, and the journal through a connection of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple

from transcriptd.expiry import SOON_S
from transcriptd.notable import Notable
from transcriptd.roster import Roster, standing_of
from transcriptd.totals import Tally, of_all, of_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from transcriptd.config.kinds import Redaction
    from transcriptd.expiry import Expiry
    from transcriptd.known import Known
    from transcriptd.model import Session
    from transcriptd.roster import Member
    from transcriptd.status import Standing
    from transcriptd.totals import Archived, OfSource


class Sums(NamedTuple):
    """Sums over all sessions. `scrubbing`: how many wait for the scrub, and their bytes."""

    archived: Archived
    sources: list[OfSource]
    backlog: int
    oldest_unarchived_s: float | None
    scrubbing: tuple[int, int]


class Told(NamedTuple):
    """Sums and rows. `left_off`: how many sessions that are not current have no row."""

    sums: Sums
    rows: Iterator[dict[str, Any]]
    left_off: int


@dataclass(frozen=True, slots=True)
class Moment:
    """What the stages said, by session, and what there is to ask about the rest.

    `waits`: who has something to do, and since how many seconds. `requests`: to the store; `None`
    where nobody counts. `disabled_since`: nothing is archived since then; like `now` in Unix
    seconds.
    """

    standings: Mapping[Session, Standing]
    waits: tuple[Sequence[Session], Sequence[float]]
    requests: Mapping[Session, int] | None
    disabled_since: float | None
    now: float
    sources: Iterable[str]
    journal: Known
    expiry: Expiry
    redaction_of: Callable[[str], Redaction]

    def sums(self, within_s: float = SOON_S) -> Sums:
        """Return the sums; what its agent deletes within `within_s` seconds counts as expiring."""
        with self.journal.apart() as journal:
            roster = self._roster(journal)
            return self._sums(roster, roster.live(), within_s)

    def tell(self, *, everything: bool, within_s: float) -> Told:
        """Return the sums and the rows: of all sessions, or of those that are notable.

        The rows of all are made as they are taken.
        """
        with self.journal.apart() as journal:
            roster = self._roster(journal)
            if everything:
                sums = self._sums(roster, roster.live(), within_s)
                everyone = self._roster(self.journal).everyone()
                return Told(sums, self._rows(roster, everyone), 0)
            notable = Notable(roster)
            sums = self._sums(roster, notable.noting(roster.live()), within_s)
            left_off = notable.left_off
            members = roster.members({*notable.sessions, *notable.outstanding()})
            return Told(sums, iter([*self._rows(roster, members)]), left_off)

    def _roster(self, journal: Known) -> Roster:
        waiting = dict(zip(*self.waits, strict=True))
        return Roster(self.standings, waiting, self.now, journal, self.expiry, self.disabled_since)

    def _sums(self, roster: Roster, live: Iterable[Member], within_s: float) -> Sums:
        tally = Tally(roster, within_s)
        for member in live:
            tally.add(member)
        journal = roster.journal
        sources = of_sources(self.sources, tally, journal, redaction_of=self.redaction_of)
        return Sums(
            of_all(sources, journal),
            sources,
            len(roster.waiting),
            tally.oldest_s,
            journal.scrubbing(),
        )

    def _rows(self, roster: Roster, members: Iterable[Member]) -> Iterator[dict[str, Any]]:
        for member in members:
            row = roster.row(member)
            if self.requests is not None:
                row["requests"] = self.requests.get(member.session, 0)
            yield row


def of_journal(
    journal: Known, sources: Iterable[str], expiry: Expiry, redaction_of: Callable[[str], Redaction]
) -> Moment:
    """Return what the journal alone knows, while no daemon runs: how sessions stood at its end."""
    standings = {each.session: standing_of(each) for each in journal.not_current()}
    return Moment(standings, ((), ()), None, None, time(), sources, journal, expiry, redaction_of)
