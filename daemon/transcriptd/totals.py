"""Sums over all sessions: by state, by source, by rule, and what an agent deletes soon.

The journal's sums are corrected by those sessions that stand differently just now (`Tally`), so
that what this costs does not grow with the sessions that are current.
"""

from __future__ import annotations

from collections import Counter
from time import time
from typing import TYPE_CHECKING, TypedDict

from transcriptd.model import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from transcriptd.config.kinds import Redaction
    from transcriptd.known import Known
    from transcriptd.roster import Member, Roster

_MOST_RULES = 5
_NS = 10**9
_LATEST_S = 9e9  # what the journal can compare

DONE: dict[Redaction, str] = {
    "report": "nothing is masked",
    "off": "found before `redaction` was off; nothing is looked for now",
    "mask": "masked, but for what was archived before `redaction` was mask",
}
"""What is done about findings."""
REVOKE = (
    "revoke what is still valid: `transcriptd scan` says where it is;"
    ' `redaction = "mask"` masks what comes'
)


class Archived(TypedDict):
    """Sums over all sessions, of what the journal knows."""

    sessions: int
    states: dict[str, int]
    records: int
    bytes: int
    findings: dict[str, int]
    bases_behind: int
    behind_bytes: int
    oldest_behind_s: float | None


class Totals(Archived):
    """Sums over all sessions, of what is going on, too."""

    backlog: int
    oldest_unarchived_s: float | None
    archived: int
    failed_attempts: int
    last_archived_at: float | None


class OfSource(TypedDict):
    """Sums over the sessions of one source.

    `findings` counts by rule what is archived, whatever `redaction` was then; it is that of now.
    `with_findings` sessions have any.
    The agent deletes what has not changed for `expires_after_s` seconds; `expiring` sessions are
    about to go, and `expiring_unarchived` of those are not archived.
    """

    source: str
    sessions: int
    states: dict[str, int]
    records: int
    bytes: int
    damaged_lines: int
    redaction: Redaction
    findings: dict[str, int]
    with_findings: int
    expires_after_s: float | None
    expiring: int
    expiring_unarchived: int


class Tally:
    """By how much sessions change the journal's sums, one after the other.

    What the agent deletes within `within_s` seconds counts as expiring.
    """

    def __init__(self, roster: Roster, within_s: float) -> None:
        self.expiry = roster.expiry
        self.states: Counter[tuple[str, str]] = Counter()
        self.expiring: Counter[str] = Counter()
        self.unarchived: Counter[str] = Counter()
        self.oldest_s: float | None = None
        self._roster = roster
        self._until = time() + within_s

    def before_ns(self, source: str) -> int | None:
        """Return before when a session changed last that is about to go; `None` where none is."""
        after = self.expiry.after(source)
        if after is None:
            return None
        return int(min(max(0.0, self._until - after), _LATEST_S) * _NS)

    def add(self, member: Member) -> None:
        """Count a session as it stands, instead of as the journal knows it."""
        session, standing, record = member
        source = session.source
        if record:
            self.states[source, record.state] -= 1
        self.states[source, standing.state] += 1
        age = self._roster.age(member)
        if age is not None and (self.oldest_s is None or age > self.oldest_s):
            self.oldest_s = age
        before_ns = self.before_ns(source)
        if before_ns is None:
            return
        was_counted = record is not None and record.state is not State.EXCLUDED
        if record and was_counted and record.stat and record.stat.mtime_ns < before_ns:
            self.expiring[source] -= 1
            self.unarchived[source] -= not record.is_archived
        expires_at = self._roster.expires_at(member)
        if expires_at is not None and expires_at < self._until:
            self.expiring[source] += 1
            self.unarchived[source] += not self._roster.is_archived(member)


def of_sources(
    names: Iterable[str],
    tally: Tally,
    journal: Known,
    *,
    redaction_of: Callable[[str], Redaction],
) -> list[OfSource]:
    """Sum up each source: those named, and others that the journal knows."""
    sums = journal.sums()
    damaged = journal.damaged()
    findings, with_findings = journal.findings(), journal.with_findings()
    states = Counter({(each.source, each.state): each.sessions for each in sums})
    states.update(tally.states)
    states = +states  # where the journal cannot be read, nothing is corrected
    found: list[OfSource] = []
    for name in dict.fromkeys([*names, *(each.source for each in sums)]):
        expiring, unarchived = _expiring(name, tally, journal)
        of_this = [each for each in sums if each.source == name]
        found.append(
            {
                "source": name,
                "sessions": sum(states[name, state] for state in State),
                "states": {state.value: states[name, state] for state in State},
                "records": sum(each.records for each in of_this),
                "bytes": sum(each.length for each in of_this),
                "damaged_lines": damaged.get(name, 0),
                "redaction": redaction_of(name),
                "findings": {
                    rule: count for (source, rule), count in findings.items() if source == name
                },
                "with_findings": with_findings.get(name, 0),
                "expires_after_s": tally.expiry.after(name),
                "expiring": expiring,
                "expiring_unarchived": unarchived,
            }
        )
    return found


def of_all(sources: Iterable[OfSource], journal: Known) -> Archived:
    """Sum up the sources."""
    sources = list(sources)
    states = {state.value: sum(s["states"][state.value] for s in sources) for state in State}
    findings: Counter[str] = Counter()
    for each in sources:
        findings.update(each["findings"])
    unsealed, behind_bytes = journal.tails()
    since = journal.behind_since()
    return {
        "sessions": sum(states.values()),
        "states": states,
        "records": sum(each["records"] for each in sources),
        "bytes": sum(each["bytes"] for each in sources),
        "findings": dict(sorted(findings.items())),
        "bases_behind": unsealed,
        "behind_bytes": behind_bytes,
        "oldest_behind_s": None if since is None else round(max(0.0, time() - since), 3),
    }


def in_words(findings: Mapping[str, int]) -> str:
    """Say how much was found by which rules, the most first."""
    most = sorted(findings.items(), key=lambda each: (-each[1], each[0]))
    shown = [f"{rule} {count:,}" for rule, count in most[:_MOST_RULES]]
    rest = [count for _, count in most[_MOST_RULES:]]
    return ", ".join([*shown, f"others {sum(rest):,}"] if rest else shown)


def _expiring(name: str, tally: Tally, journal: Known) -> tuple[int, int]:
    """Count what the agent deletes soon, and what of that is not archived."""
    before_ns = tally.before_ns(name)
    if before_ns is None:
        return 0, 0
    sessions, unarchived = journal.unchanged_since(name, before_ns)
    return max(0, sessions + tally.expiring[name]), max(0, unarchived + tally.unarchived[name])
