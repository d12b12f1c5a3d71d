"""What becomes of a session that is restored, in words for programs and in words for people."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from transcriptd.errors import NotFound, StoreError, TranscriptdError, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from transcriptd.archive import Stray
    from transcriptd.landing import Landing
    from transcriptd.model import Session
    from transcriptd.standing import Standing


class Fate(StrEnum):
    """What became of a session."""

    RESTORED = "restored"
    PLANNED = "planned"  # it would be restored, and nothing was written
    SKIPPED = "skipped"  # its file holds just what the archive has
    KEPT = "kept"  # its file holds something that the archive does not, or is newer
    PARTIAL = "partial"  # restored up to where the archive is damaged
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one session, and why: `reason` is a constant word, `message` for people.

    `records` and `size` (bytes) are those of the file that was written, `document` says where the
    rest beside the lines came from: `archived`, `missing`, `damaged`; empty where lines are all
    there is. `aside` is where the file that stood there before is kept. `unmapped` counts lines
    that were too long to be looked at.
    """

    session_id: str
    fate: Fate
    path: Path | None = None
    reason: str = ""
    message: str = ""
    generation: int | None = None
    records: int = 0
    size: int = 0
    document: str = ""
    aside: Path | None = None
    agent: str = ""
    unmapped: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """A session that is written and waits to be put in its place."""

    outcome: Outcome
    session: Session
    landing: Landing
    standing: Standing


class Refused(TranscriptdError):
    """A session cannot be restored as it was asked for; `reason` is a constant word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def judged(outcome: Outcome, faults: Iterable[Stray]) -> Outcome:
    """Say what the faults of a stream that was read to its end mean for what was written of it.

    Raises `Refused` where its bytes are not those that were archived.
    """
    for fault in faults:
        if fault.reason == "other_bytes_than_it_says":
            message = (
                f"{fault.key} does not hold the bytes that were archived, and nothing was written; "
                "`transcriptd verify --deep` says more, --generation takes an earlier one"
            )
            raise Refused("damaged", message)
    cut = next((fault for fault in faults if fault.reason != "overlaps"), None)
    if cut is None:
        return outcome
    message = (
        f"only its first {outcome.size:,} bytes: {cut.key} does not continue them "
        "(`transcriptd verify` says more)"
    )
    return replace(outcome, fate=Fate.PARTIAL, reason=cut.reason, message=message)


def landed(outcome: Outcome, standing: Standing, aside: Path | None) -> Outcome:
    """Say what gave way to a session that is in its place now."""
    if standing.hides:
        what = "what stood there held what the archive masks"
        message = "; ".join(filter(None, [outcome.message, what]))
        outcome = replace(outcome, reason=outcome.reason or standing.reason, message=message)
    return replace(outcome, aside=aside)


def told(error: Exception) -> str:
    """Say a failure to a person."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    hint = error.hint if isinstance(error, TranscriptdError) else ""
    return f"{error}; {hint}" if hint else str(error)


def word(error: Exception) -> str:
    """Return the constant word for a failure."""
    if isinstance(error, Unreadable | Refused):
        return error.reason
    if isinstance(error, OSError):
        return "not_written"
    if isinstance(error, ValueError):
        return "bad_name"
    if isinstance(error, StoreError):
        return error.degraded or (
            "not_archived" if isinstance(error, NotFound) else "store_refused"
        )
    return "moved_on"
