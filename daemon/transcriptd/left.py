"""How a pass over everything ended: what is not archived, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transcriptd.errors import UNFINISHED_TEXT
from transcriptd.model import State
from transcriptd.status import Standing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from transcriptd.model import Session
    from transcriptd.pool import Pool
    from transcriptd.scan import Scan
    from transcriptd.status import Status

_WAITS = Standing(State.PENDING, 0.0)


@dataclass(frozen=True, slots=True)
class Result:
    """How many changes were archived, and what is not, by session id and why."""

    archived: int
    left: tuple[dict[str, str], ...]

    @property
    def is_complete(self) -> bool:
        return not self.left


def what_is_left(
    pool: Pool, status: Status, scans: Sequence[Scan], *, for_s: float
) -> tuple[dict[str, str], ...]:
    """Name what is not archived, with the reason; changes younger than `for_s` do not count."""
    left: dict[Session, Standing] = dict.fromkeys(pool.waiting(for_s=for_s), _WAITS)
    left |= {s: each for s, each in status.sessions.items() if _stays(each)}
    roots = ((root, why) for scan in scans for root, why in scan.unreadable.items())
    return (*_unreadable(roots), *(_row(s, status.sessions.get(s, e)) for s, e in left.items()))


def _stays(standing: Standing) -> bool:
    """Whether a session waits for something that is not ours to do."""
    return standing.state is State.QUARANTINED or standing.reason == UNFINISHED_TEXT


def _unreadable(roots: Iterator[tuple[Path, str]]) -> Iterator[dict[str, str]]:
    for root, why in roots:
        yield {
            "session": "*",
            "path": str(root),
            "state": State.QUARANTINED.value,
            "reason": "root_unreadable",
            "message": why,
        }


def _row(session: Session, standing: Standing) -> dict[str, str]:
    return {
        "session": session.id,
        "path": str(session.path),
        "state": standing.state.value,
        "reason": standing.reason,
        "message": standing.message,
    }
