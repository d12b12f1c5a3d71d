"""What is measured: something that copies sessions to a server, in processes of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a contender works: the sessions it reads, a home of its own, a bucket.

    `hurried`: whoever waits for a session to become quiet does so for 50 ms, not for its default.
    """

    sessions: Path
    home: Path
    server: Server
    hurried: bool = True


@dataclass(frozen=True, slots=True)
class Usage:
    """What it took so far, all its processes together, those that ended included."""

    cpu_s: float
    rss_mb: float  # now: 0 between two passes of a loop
    peak_mb: float
    descriptors: int  # the most that were seen at once


class Contender(Protocol):
    """One way to archive sessions. It is started once; after `kill` it may be started again."""

    name: ClassVar[str]

    def __init__(self, ground: Ground) -> None: ...

    @classmethod
    def missing(cls) -> str:
        """Say why it cannot run here; empty where it can."""

    def start(self) -> None:
        """Start it, and return once it watches, or the first pass of its loop has begun."""

    def settle(self, within_s: float) -> None:
        """Wait until it had its chance at all that stands in the sessions now.

        A daemon says that it is done; a loop ends a pass that began after this call. Returns
        without a word when the time is over: what is not archived then is lost.
        """

    def kill(self) -> None:
        """Kill what runs of it, as a power cut would."""

    def stop(self) -> None:
        """End it politely, and wait until it is gone. Does nothing where nothing runs."""

    def usage(self) -> Usage: ...

    def expected(self, document: bytes) -> bytes:
        """Return what the archive is to hold of a session's file."""

    def held(self, session_id: str) -> bytes | None:
        """Return what a reader gets of a session from the bucket now."""
