"""What the daemon says about itself: the document behind `/status`, `status` and the probe.

Owns the document's shape; what it says comes from whoever knows. No text of messages, no secrets.

    schema      1; fields may be added, a change of meaning gets a new number
    version, pid, started_at (Unix seconds), machine, max_age (seconds; what `--strict` allows)
    state       starting | ready | stopping | disabled
    archive     place, kind (s3 | local | disabled), guarantees {feature: how it is kept}
    totals      sessions, states {state: sessions}, records, bytes (archived and still held),
                findings {rule: how often it found something in that},
                bases_behind (sessions whose base has not taken in its tail), behind_bytes (the
                length of those tails), oldest_behind_s | null (since how long the first of them),
                backlog (sessions that wait or are at work), oldest_unarchived_s | null,
                archived, failed_attempts (since the start), last_archived_at | null
    sources     [{source, sessions, states, records, bytes, damaged_lines (torn, spliced or NUL;
                archived as they are), redaction (off | report | mask: what is done about secrets
                now), findings {rule: count}, with_findings (sessions that have any),
                expires_after_s | null (the agent deletes what has not changed for so long),
                expiring (sessions that it deletes within expiring_within_s),
                expiring_unarchived (those of them that are not archived)}]
    expiring_within_s  what counts as soon
    scrub       rate (bytes a second, 0: off), waiting (sessions to be read again), waiting_bytes,
                read_bytes, found (rewrites; both since the start)
    store       state (ok | failing | disabled), error | null, in_flight, limit, next_attempt_in_s,
                requests [{op, outcome, count}], sent_bytes, received_bytes
    watch       [{source, roots [{path, present}], files, skipped {reason: names}, polling}]
    degraded    [{reason, since, message, hint}]
    sessions    [{id, source, path, state, reason, message, since, is_archived, expires_at | null,
                records, bytes, damaged_lines, findings {rule: count}, generation, key | null,
                sent_bytes (of its current generation), behind_bytes, behind_since | null,
                oldest_unarchived_s | null, requests (to the store, since the start)}]: those that
                are not `current`, those with most damaged lines and with most findings, or all
    sessions_left_off  how many of those that are not `current` are left off: above 1000, the
                worst are there, those that wait longest and those that expire first; 0 with all

A session's `oldest_unarchived_s` is the age of its oldest change that is not in the archive,
`expires_at` is when its agent deletes it. What is behind is archived, beside the object that `key`
names. While no daemon runs, there is what the journal alone can tell.
"""

from __future__ import annotations

import os
from time import monotonic, time
from typing import TYPE_CHECKING, Any

import transcriptd
from transcriptd.expiry import SOON_S, Expiry
from transcriptd.model import State
from transcriptd.moment import Moment, of_journal
from transcriptd.roster import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transcriptd.config import Config
    from transcriptd.known import Known
    from transcriptd.moment import Sums, Told
    from transcriptd.observed import Observed, Watching
    from transcriptd.sources import Source
    from transcriptd.status import Status
    from transcriptd.stores import Store
    from transcriptd.totals import Totals

__all__ = ["SCHEMA", "Report", "printable", "without_daemon"]

SCHEMA = 1


class Report:
    """Says how one daemon is. Everything is looked up when it is asked for."""

    def __init__(self, daemon: Observed) -> None:
        self._daemon = daemon
        self._expiry = Expiry(daemon.sources)

    @property
    def status(self) -> Status:
        return self._daemon.status

    @property
    def store(self) -> Store | None:
        return self._daemon.store

    @property
    def state(self) -> str:
        """The daemon's own state, in one word."""
        status = self.status
        if status.stopping:
            return "stopping"
        if self._daemon.store is None:
            return State.DISABLED.value
        return "ready" if status.ready else "starting"

    def moment(self) -> Moment:
        """Take down how sessions stand. All else that takes long can be done in a thread."""
        daemon, status = self._daemon, self.status
        is_disabled = daemon.store is None
        return Moment(
            standings={} if is_disabled else status.sessions.copy(),
            waits=daemon.pool.waits() if daemon.pool else ((), ()),
            requests=status.requests.copy(),
            disabled_since=status.started if is_disabled else None,
            now=time(),
            sources=tuple(daemon.sources),
            journal=daemon.journal,
            expiry=self._expiry,
            redaction_of=daemon.config.redaction_of,
        )

    def document(self, *, everything: bool = False, within_s: float = SOON_S) -> dict[str, Any]:
        """Build the document; with `everything`, its sessions are all there are.

        What its agent deletes within `within_s` seconds counts as expiring.
        """
        told = self.moment().tell(everything=everything, within_s=within_s)
        return {**self.head(told, within_s), "sessions": list(told.rows)}

    def head(self, told: Told, within_s: float) -> dict[str, Any]:
        """Build all of the document but the sessions, with what a moment told."""
        daemon = self._daemon
        return {
            "schema": SCHEMA,
            "version": transcriptd.__version__,
            "pid": os.getpid(),
            "started_at": round(self.status.started, 3),
            "state": self.state,
            "machine": daemon.config.machine,
            "max_age": daemon.config.health.max_age,
            "archive": self._archive(),
            "totals": self.totals(told.sums),
            "sources": told.sums.sources,
            "expiring_within_s": within_s,
            "scrub": self.scrub(told.sums),
            "store": self._store(),
            "watch": _watching(daemon.watch),
            "degraded": [
                {"reason": t.reason, "since": t.since, "message": t.message, "hint": t.hint}
                for t in self.status.degraded.values()
            ],
            "sessions_left_off": told.left_off,
        }

    def totals(self, sums: Sums) -> Totals:
        """Return sums over all sessions, with what happened since the start."""
        status = self.status
        return {
            **sums.archived,
            "backlog": sums.backlog,
            "oldest_unarchived_s": sums.oldest_unarchived_s,
            "archived": status.events["archived"],
            "failed_attempts": status.events["failed"],
            "last_archived_at": status.last_archived,
        }

    def scrub(self, sums: Sums) -> dict[str, int]:
        """Return how the scrub gets on."""
        scrub = self._daemon.scrub
        waiting, waiting_bytes = sums.scrubbing
        return {
            "rate": scrub.rate,
            "waiting": waiting,
            "waiting_bytes": waiting_bytes,
            "read_bytes": scrub.read_bytes,
            "found": scrub.found,
        }

    def _archive(self) -> dict[str, Any]:
        store, config = self._daemon.store, self._daemon.config
        return {
            "place": store.place if store else "nowhere",
            "kind": config.store,
            "guarantees": dict(store.guarantees) if store else {},
        }

    def _store(self) -> dict[str, Any]:
        daemon, gate = self._daemon, self._daemon.gate
        if daemon.store is None:
            return {"state": State.DISABLED.value, "error": None}
        traffic = daemon.store.traffic
        return {
            "state": "failing" if gate.error else "ok",
            "error": str(gate.error) if gate.error else None,
            "in_flight": gate.in_flight,
            "limit": gate.pressure.slots,
            "next_attempt_in_s": round(max(0.0, gate.pressure.not_before - monotonic()), 1),
            "requests": [
                {"op": op, "outcome": outcome, "count": count}
                for (op, outcome), count in sorted(traffic.requests.items())
            ],
            "sent_bytes": traffic.sent_bytes,
            "received_bytes": traffic.received_bytes,
        }


def without_daemon(
    config: Config,
    journal: Known,
    sources: Mapping[str, Source],
    *,
    everything: bool,
    within_s: float = SOON_S,
) -> dict[str, Any]:
    """Build what the journal alone can tell of the document, while no daemon runs."""
    moment = of_journal(journal, tuple(sources), Expiry(sources), config.redaction_of)
    told = moment.tell(everything=everything, within_s=within_s)
    return {
        "schema": SCHEMA,
        "version": transcriptd.__version__,
        "state": "stopped",
        "machine": config.machine,
        "archive": {"kind": config.store},
        "totals": told.sums.archived,
        "sources": told.sums.sources,
        "expiring_within_s": within_s,
        "sessions_left_off": told.left_off,
        "sessions": list(told.rows),
    }


def _watching(watch: Watching) -> list[dict[str, Any]]:
    return [
        {
            "source": scan.source_name,
            "roots": [{"path": printable(root), "present": there} for root, there in scan.roots],
            "files": scan.files,
            "skipped": dict(scan.skipped),
            "polling": watch.is_polling,
        }
        for scan in watch.scans
    ]
