"""What of a daemon is looked at to say how it is: no more than a report needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from transcriptd.config import Config
    from transcriptd.gate import Gate
    from transcriptd.journal import Journal
    from transcriptd.model import Session
    from transcriptd.sources import Source
    from transcriptd.status import Status
    from transcriptd.stores import Store


class Queue(Protocol):
    """Who waits, and since how many seconds."""

    def waits(self) -> tuple[list[Session], list[float]]: ...


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


class Scrubbing(Protocol):
    """What is read again in the background; `rate` in bytes per second, 0: nothing."""

    @property
    def rate(self) -> int: ...

    @property
    def read_bytes(self) -> int: ...

    @property
    def found(self) -> int: ...


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
    def sources(self) -> Mapping[str, Source]: ...

    @property
    def scrub(self) -> Scrubbing: ...

    @property
    def pool(self) -> Queue | None: ...

    @property
    def watch(self) -> Watching: ...
