"""What is going on: the state of each session that is not current, and what is degraded.

Told by the stages, asked by the health socket. Logs each change of state once. Holds no text of
messages and no secret; knows nothing of how anything is done.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING

from transcriptd.logs import get_logger
from transcriptd.model import State

if TYPE_CHECKING:
    from transcriptd.model import Session

log = get_logger("transcriptd.status")

_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


@dataclass(frozen=True, slots=True)
class Standing:
    """How one session stands. `since` in Unix seconds."""

    state: State
    since: float
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is degraded, why, and what to do about it."""

    reason: str
    since: float
    message: str
    hint: str = ""


@dataclass(slots=True)
class Histogram:
    """Seconds, counted in buckets, as Prometheus wants them."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS_S) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        index = next((i for i, bound in enumerate(_BUCKETS_S) if seconds <= bound), len(_BUCKETS_S))
        self.counts[index] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return (upper bound, how many were at most that)."""
        bounds = [*map(str, _BUCKETS_S), "+Inf"]
        return [(bound, sum(self.counts[: i + 1])) for i, bound in enumerate(bounds)]


class Status:
    """One per daemon.

    Sessions that are not in `sessions` are current or excluded, or wait in the queue.
    """

    def __init__(self) -> None:
        self.started = time()
        self.ready = False
        self.stopping = False
        self.sessions: dict[Session, Standing] = {}
        self.degraded: dict[str, Trouble] = {}
        self.events: Counter[str] = Counter()
        self.requests: Counter[Session] = Counter()
        self.archive_s = Histogram()
        self.last_archived: float | None = None

    def set(self, session: Session, state: State, reason: str = "", message: str = "") -> None:
        """Say how a session stands now; a change to a state of its own is logged once."""
        before = self.sessions.get(session)
        if state is State.CURRENT:
            self.sessions.pop(session, None)
            if before and before.state not in {State.UPLOADING, State.PENDING}:
                log.info("session.recovered", session=session.id, was=before.state.value)
            return
        if state is State.EXCLUDED:
            self.sessions.pop(session, None)
            return
        if before and (before.state, before.reason) == (state, reason):
            return
        self.sessions[session] = Standing(state, time(), reason, message)
        if state is State.QUARANTINED:
            log.warning(
                "session.quarantined",
                session=session.id,
                source=session.source,
                path=str(session.path),
                reason=reason,
                detail=message,
            )
        elif state in {State.CONFLICT, State.BEHIND}:
            log.warning("session.set_aside", session=session.id, state=state.value, detail=message)
        elif state is State.SOURCE_GONE:
            log.info("session.source_gone", session=session.id)

    def restore(self, session: Session, standing: Standing) -> None:
        """Take over how a session stood before this start; it was logged then."""
        self.sessions[session] = standing

    def degrade(self, reason: str, message: str, hint: str = "") -> None:
        """Say that something is degraded; logged when it begins."""
        if reason not in self.degraded:
            self.degraded[reason] = Trouble(reason, time(), message, hint)
            log.warning("daemon.degraded", reason=reason, detail=message, hint=hint)

    def recover(self, *reasons: str) -> None:
        """Say that something is well again; logged when it was not."""
        for reason in reasons:
            trouble = self.degraded.pop(reason, None)
            if trouble is not None:
                log.info(
                    "daemon.recovered", reason=reason, duration_s=round(time() - trouble.since, 1)
                )

    def archived(self, session: Session, waited_s: float, length: int, generation: int) -> None:
        """Say that a session's last change is archived, `waited_s` seconds after it was seen."""
        self.events["archived"] += 1
        self.archive_s.observe(waited_s)
        self.last_archived = time()
        log.info(
            "session.archived",
            session=session.id,
            generation=generation,
            length_bytes=length,
            duration_s=round(waited_s, 3),
        )
