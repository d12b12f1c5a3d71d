"""Sums over all sessions: by state, by source, by rule, and what an agent deletes soon.

The journal's sums are corrected by those few sessions that stand differently just now, so that what
this costs does not grow with the sessions that are current.
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
    from transcriptd.roster import Roster
    from transcriptd.rows import Sum

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


def of_sources(
    names: Iterable[str],
    roster: Roster,
    journal: Known,
    *,
    redaction_of: Callable[[str], Redaction],
    within_s: float,
) -> list[OfSource]:
    """Sum up each source: those named, and others that the journal knows."""
    sums = journal.sums()
    damaged = journal.damaged()
    findings, with_findings = journal.findings(), journal.with_findings()
    states = _states(roster, sums)
    found: list[OfSource] = []
    for name in dict.fromkeys([*names, *(each.source for each in sums)]):
        expiring, unarchived = _expiring(name, roster, journal, within_s)
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
                "expires_after_s": roster.expiry.after(name),
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


def _states(roster: Roster, sums: Iterable[Sum]) -> Counter[tuple[str, str]]:
    """Count sessions by source and state."""
    states = Counter({(each.source, each.state): each.sessions for each in sums})
    for session, standing in roster.live.items():
        if record := roster.records.get(session):
            states[session.source, record.state] -= 1
        states[session.source, standing.state] += 1
    return +states  # the journal goes on while it is read


def _expiring(name: str, roster: Roster, journal: Known, within_s: float) -> tuple[int, int]:
    """Count what the agent deletes within so many seconds, and what of that is not archived."""
    after = roster.expiry.after(name)
    if after is None:
        return 0, 0
    until = time() + within_s
    before_ns = int(min(max(0.0, until - after), _LATEST_S) * _NS)
    sessions, unarchived = journal.unchanged_since(name, before_ns)
    for session, standing in roster.live.items():
        if session.source != name:
            continue
        record = roster.records.get(session)
        was_counted = record is not None and record.state is not State.EXCLUDED
        if record and was_counted and record.stat and record.stat.mtime_ns < before_ns:
            sessions -= 1
            unarchived -= not record.is_archived
        expires_at = roster.expires_at(session, standing)
        if expires_at is not None and expires_at < until:
            sessions += 1
            unarchived += not roster.is_archived(session, standing)
    return max(0, sessions), max(0, unarchived)
