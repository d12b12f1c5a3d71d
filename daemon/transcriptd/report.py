"""What the daemon says about itself: the document behind `/status`, `status` and the probe.

Owns the document's shape; what it says comes from whoever knows. No text of messages, no secrets.

    schema      1; fields may be added, a change of meaning gets a new number
    version, pid, started_at (Unix seconds), machine, max_age (seconds; what `--strict` allows)
    state       starting | ready | stopping | disabled
    archive     place, kind (s3 | local | disabled), guarantees {feature: how it is kept}
    totals      sessions, states {state: sessions}, records, bytes (archived and still held),
                bases_behind (sessions whose base has not taken in its tail), behind_bytes (the
                length of those tails), oldest_behind_s | null (since how long the first of them),
                backlog (sessions that wait or are at work), oldest_unarchived_s | null,
                archived, failed_attempts (since the start), last_archived_at | null
    store       state (ok | failing | disabled), error | null, in_flight, limit, next_attempt_in_s,
                requests [{op, outcome, count}], sent_bytes, received_bytes
    watch       [{source, roots [{path, present}], files, skipped {reason: names}, polling}]
    degraded    [{reason, since, message, hint}]
    sessions    [{id, source, path, state, reason, message, since, records, bytes, generation,
                key | null, sent_bytes (of its current generation), behind_bytes, behind_since
                | null, oldest_unarchived_s | null, requests (to the store, since the start)}]:
                those that are not `current`, or all

A session's `oldest_unarchived_s` is the age of its oldest change that is not in the archive. What
is behind is archived, beside the object that `key` names. While no daemon runs, there is what the
journal alone can tell.
"""

from __future__ import annotations

import os
from collections import Counter
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import transcriptd
from transcriptd.model import State
from transcriptd.status import Standing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from transcriptd.config import Config
    from transcriptd.gate import Gate
    from transcriptd.journal import Journal
    from transcriptd.model import Session
    from transcriptd.rows import Record
    from transcriptd.status import Status
    from transcriptd.stores import Store

SCHEMA = 1
_UNARCHIVED = {State.PENDING, State.UPLOADING, State.RETRYING, State.QUARANTINED}


class Queue(Protocol):
    """Who waits, and since how many seconds."""

    def waiting(self) -> dict[Session, float]: ...


class Scanned(Protocol):
    """One source being watched."""

    @property
    def source_name(self) -> str: ...

    @property
    def files(self) -> int: ...

    @property
    def skipped(self) -> dict[str, int]: ...

    @property
    def roots(self) -> list[tuple[Path, bool]]: ...


class Watching(Protocol):
    """All sources being watched."""

    @property
    def scans(self) -> Sequence[Scanned]: ...

    @property
    def is_polling(self) -> bool: ...


class Observed(Protocol):
    """What a report is made from."""

    @property
    def config(self) -> Config: ...

    @property
    def status(self) -> Status: ...

    @property
    def journal(self) -> Journal: ...

    @property
    def gate(self) -> Gate: ...

    @property
    def store(self) -> Store | None: ...

    @property
    def pool(self) -> Queue | None: ...

    @property
    def watch(self) -> Watching: ...


class Totals(TypedDict):
    """Sums over all sessions."""

    sessions: int
    states: dict[str, int]
    records: int
    bytes: int
    bases_behind: int
    behind_bytes: int
    oldest_behind_s: float | None
    backlog: int
    oldest_unarchived_s: float | None
    archived: int
    failed_attempts: int
    last_archived_at: float | None


class Report:
    """Says how one daemon is. Everything is looked up when it is asked for."""

    def __init__(self, daemon: Observed) -> None:
        self._daemon = daemon

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

    def document(self, *, everything: bool = False) -> dict[str, Any]:
        """Build the document; with `everything`, its sessions are all there are."""
        daemon = self._daemon
        waiting = daemon.pool.waiting() if daemon.pool else {}
        live = self._live(waiting)
        records = self._records(live, everything=everything)
        shown = live if not everything else {**_standings(records), **live}
        return {
            "schema": SCHEMA,
            "version": transcriptd.__version__,
            "pid": os.getpid(),
            "started_at": round(self.status.started, 3),
            "state": self.state,
            "machine": daemon.config.machine,
            "max_age": daemon.config.health.max_age,
            "archive": self._archive(),
            "totals": self._totals(live, waiting, records),
            "store": self._store(),
            "watch": _watching(daemon.watch),
            "degraded": [
                {"reason": t.reason, "since": t.since, "message": t.message, "hint": t.hint}
                for t in self.status.degraded.values()
            ],
            "sessions": [
                {
                    **_session(session, standing, records.get(session), waiting),
                    "requests": self.status.requests[session],
                }
                for session, standing in sorted(shown.items(), key=_by_id)
            ],
        }

    def totals(self) -> Totals:
        """Return the sums alone, without building a row for each session."""
        waiting = self._daemon.pool.waiting() if self._daemon.pool else {}
        live = self._live(waiting)
        return self._totals(live, waiting, self._records(live, everything=False))

    def _live(self, waiting: Mapping[Session, float]) -> dict[Session, Standing]:
        """Return every session that is not current, also one that was never looked at."""
        if self._daemon.store is None:
            known = self._daemon.journal.everything()
            return {r.session: Standing(State.DISABLED, self.status.started) for r in known}
        now = time()
        pending = {s: Standing(State.PENDING, now - age) for s, age in waiting.items()}
        return {**pending, **self.status.sessions}

    def _records(
        self, live: Mapping[Session, Standing], *, everything: bool
    ) -> dict[Session, Record]:
        journal = self._daemon.journal
        if everything:
            return {record.session: record for record in journal.everything()}
        found = ((session, journal.record(session)) for session in live)
        return {session: record for session, record in found if record is not None}

    def _totals(
        self,
        live: Mapping[Session, Standing],
        waiting: Mapping[Session, float],
        records: Mapping[Session, Record],
    ) -> Totals:
        known = self._daemon.journal.totals()
        states = Counter({state.value: known.get(state.value, 0) for state in State})
        for session, standing in live.items():
            if record := records.get(session):
                states[record.state.value] -= 1
            states[standing.state.value] += 1
        states = +states  # the journal goes on while it is read
        ages = (_age(s, standing, records.get(s), waiting) for s, standing in live.items())
        oldest = max((age for age in ages if age is not None), default=None)
        status = self.status
        return {
            "sessions": states.total(),
            "states": {state.value: states[state.value] for state in State},
            "records": known["records"],
            "bytes": known["bytes"],
            "bases_behind": known["bases_behind"],
            "behind_bytes": known["behind_bytes"],
            "oldest_behind_s": _oldest_behind(self._daemon.journal),
            "backlog": len(waiting),
            "oldest_unarchived_s": oldest,
            "archived": status.events["archived"],
            "failed_attempts": status.events["failed"],
            "last_archived_at": status.last_archived,
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


def without_daemon(config: Config, journal: Journal, *, everything: bool) -> dict[str, Any]:
    """Build what the journal alone can tell of the document, while no daemon runs."""
    known = journal.totals()
    records = journal.everything() if everything else journal.not_current()
    standings = _standings({record.session: record for record in records})
    return {
        "schema": SCHEMA,
        "version": transcriptd.__version__,
        "state": "stopped",
        "machine": config.machine,
        "archive": {"kind": config.store},
        "totals": {
            "sessions": sum(known.get(state.value, 0) for state in State),
            "states": {state.value: known.get(state.value, 0) for state in State},
            "records": known["records"],
            "bytes": known["bytes"],
            "bases_behind": known["bases_behind"],
            "behind_bytes": known["behind_bytes"],
            "oldest_behind_s": _oldest_behind(journal),
        },
        "sessions": [
            _session(record.session, standings[record.session], record, {})
            for record in sorted(records, key=lambda record: record.session.id)
        ],
    }


def printable(path: os.PathLike[str] | str) -> str:
    """Return a path as text that can be encoded, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "replace")


def _oldest_behind(journal: Journal) -> float | None:
    """Return since how many seconds the base that is behind longest is."""
    since = journal.behind_since()
    return None if since is None else round(max(0.0, time() - since), 3)


def _by_id(row: tuple[Session, Standing]) -> tuple[str, str]:
    return row[0].id, row[0].root


def _standings(records: Mapping[Session, Record]) -> dict[Session, Standing]:
    """Say how each session stands by the journal. What it left unfinished, a scan looks at."""
    return {s: Standing(r.state, r.since_ns / 1e9, r.reason, r.message) for s, r in records.items()}


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


def _session(
    session: Session, standing: Standing, record: Record | None, waiting: Mapping[Session, float]
) -> dict[str, Any]:
    cursor = record.cursor if record else None
    return {
        "id": session.id,
        "source": session.source,
        "path": printable(session.path),
        "state": standing.state.value,
        "reason": standing.reason,
        "message": standing.message,
        "since": round(_since(standing, record), 3),
        "records": cursor.records if cursor else 0,
        "bytes": cursor.length if cursor else 0,
        "generation": cursor.generation if cursor else 0,
        "key": cursor.key if cursor else None,
        "sent_bytes": cursor.sent if cursor else 0,
        "behind_bytes": cursor.tail_length if cursor else 0,
        "behind_since": round(cursor.behind_since, 3) if cursor and cursor.tail_length else None,
        "oldest_unarchived_s": _age(session, standing, record, waiting),
    }


def _age(
    session: Session,
    standing: Standing,
    record: Record | None,
    waiting: Mapping[Session, float],
) -> float | None:
    """Return since how many seconds a session has something that is not archived."""
    ages = []
    if session in waiting:
        ages.append(waiting[session])
    if standing.state in _UNARCHIVED:
        ages.append(time() - _since(standing, record))
    return round(max(0.0, *ages), 3) if ages else None


def _since(standing: Standing, record: Record | None) -> float:
    """Return since when a session stands like that; a restart does not begin it anew."""
    if record and (record.state, record.reason) == (standing.state, standing.reason):
        return min(standing.since, record.since_ns / 1e9)
    return standing.since
