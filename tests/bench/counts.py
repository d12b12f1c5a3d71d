"""Which counts of a run are wrong: those are judged, wherever it runs. Times never are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.wording import number
from transcriptd.config.reference import LEAVES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.book import Entry, Part

SUBJECT = "transcriptd"
_DESCRIPTORS = 64  # and one for each worker


def most_descriptors() -> int:
    """Return how many descriptors the daemon may hold, whatever the number of sessions."""
    workers = LEAVES["workers"].default
    assert isinstance(workers, int)
    return _DESCRIPTORS + workers


def wrong(name: str, part: Part) -> list[str]:
    """Say in sentences what transcriptd counts wrong, and where it could not be measured."""
    found = [
        f"{name}: {SUBJECT} {why}" for who, why in part.missing.items() if who in {SUBJECT, name}
    ]
    for entry in part.entries:
        if entry.contender == SUBJECT:
            found += [f"{name}, {entry.scenario}: {what}" for what in _wrong(entry)]
    return found


def _wrong(entry: Entry) -> Iterator[str]:
    most = most_descriptors()
    value = number(entry.value)
    if entry.what.startswith("lost ") and entry.value > 0:
        yield f"{SUBJECT} lost {value} {entry.what.removeprefix('lost ')}"
    if entry.what == "requests while idle" and entry.value > 0:
        yield f"{SUBJECT} sent {value} requests while there was nothing to do"
    if entry.what == "descriptors" and entry.value > most:
        yield f"{SUBJECT} held {value} descriptors, of {most}"
