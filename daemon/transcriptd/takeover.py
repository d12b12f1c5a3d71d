"""Taking sessions over from another machine, because somebody said so.

Two machines that write one session keep both histories: the second one's lies below `.conflicts/`.
Taking over lets this machine's history stand under the session's own key again; the other one's is
preserved as a finished generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from transcriptd.logs import get_logger
from transcriptd.model import State

if TYPE_CHECKING:
    from collections.abc import Collection

    from transcriptd.journal import Journal
    from transcriptd.model import Session

log = get_logger("transcriptd.takeover")


class Taker(Protocol):
    """Who can take a session over; returns whose history gives way."""

    async def take_over(self, session: Session, machine: str | None) -> tuple[str, ...]: ...


class Queue(Protocol):
    """Where a session that was taken over has its next turn."""

    def touch(self, session: Session, *, at_once: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class Taken:
    """A session that is this machine's now, and the writers it was taken from."""

    session: str
    path: str
    writers: tuple[str, ...]


async def take_over(
    journal: Journal,
    worker: Taker,
    pool: Queue,
    *,
    sessions: Collection[str] = (),
    machine: str | None = None,
) -> list[Taken]:
    """Take over every session in conflict, or only `sessions` (ids), or those of one `machine`.

    Raises `StoreError`.
    """
    taken: list[Taken] = []
    for record in journal.not_current():
        session = record.session
        wanted = not sessions or session.id in sessions
        if record.state not in {State.CONFLICT, State.BEHIND} or not wanted:
            continue
        writers = await worker.take_over(session, machine)
        if writers:
            log.info("session.taken_over", session=session.id, writers=writers)
            taken.append(Taken(session.id, str(session.path), writers))
            pool.touch(session, at_once=True)
    return taken
