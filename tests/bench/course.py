"""So many saves of so many sessions, for one contender; and the figures of that."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from tests.bench.agent import Document
from tests.bench.contenders.loop import PAUSE_S, Loop
from tests.bench.result import Figure
from tests.bench.stage import stage
from tests.bench.waits import Arrived

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.bench.agent import Save
    from tests.bench.contender import Contender, Usage
    from tests.bench.tap import Counts, Tap
    from tests.servers import Server

_UNHURRIED_PAUSES = 2
_SETTLES_WITHIN_S = 120.0
_LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Course:
    """Sessions of `size` bytes, each saved `saves` times, once every `every_s` seconds.

    Before each save of a session but its first it grows by `growth` bytes. Where sessions are not
    `new`, the one before these saves is archived before anything is measured.
    """

    scenario: str
    size: int
    saves: int
    growth: int = 0
    sessions: int = 1
    new: bool = False
    every_s: float = 1.0
    message: int = 2500  # bytes, about
    pause_s: float = PAUSE_S  # of the loops


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a course for one contender."""

    saves: Sequence[Save]
    delays: Sequence[float]  # of those saves, in seconds; `inf` where one never arrived
    new_bytes: int
    counts: Counts
    counts_until_stopped: Counts
    before: Usage
    samples: Sequence[Usage]
    after: Usage
    passes_cpu_s: Sequence[float]
    lost: int  # sessions


def run_course(server: Server, kind: type[Contender], course: Course) -> list[Figure]:
    """Put a contender through a course; tell in a line how it went."""
    figures = figures_of(course, kind.name, outcome_of(server, kind, course))
    told = (f"{figure.what} {figure.value:.4g} {figure.unit}".strip() for figure in figures)
    print(f"{course.scenario}: {kind.name}: {', '.join(told)}", flush=True)
    return figures


def outcome_of(server: Server, kind: type[Contender], course: Course) -> Outcome:
    """Put a contender through a course. Its start and its end are not measured."""
    with stage(server, kind) as on:
        contender, tap = on.contender, on.tap
        documents = [Document(on.sessions, f"session-{n:03}") for n in range(course.sessions)]
        for document in documents:
            document.grow(course.size, max(1, course.size // course.message))
        if isinstance(contender, Loop):
            contender.pause_s = course.pause_s
        contender.start()
        for document in [_small(on.sessions)] if course.new else documents:
            document.save()
        contender.settle(_SETTLES_WITHIN_S)
        time.sleep(course.pause_s / 2)  # a loop is in the middle of its pause then

        known_bytes = sum(document.new_bytes for document in documents)
        counts, before, passes = tap.counts(), contender.usage(), len(_passes_cpu_s(contender))
        saves, samples = _save(course, documents, contender)
        _wait_until_arrived(tap, saves, _UNHURRIED_PAUSES * course.pause_s)
        contender.settle(_SETTLES_WITHIN_S)
        after, settled = contender.usage(), tap.counts()
        passes_cpu_s = _passes_cpu_s(contender)[passes:]
        contender.stop()
        return Outcome(
            saves,
            _delays(tap, saves),
            sum(document.new_bytes for document in documents) - known_bytes,
            settled - counts,
            tap.counts() - counts,
            before,
            samples,
            after,
            passes_cpu_s,
            sum(_is_lost(contender, document.path) for document in documents),
        )


def figures_of(course: Course, contender: str, outcome: Outcome) -> list[Figure]:
    """Say it in figures."""

    def figure(what: str, unit: str, *values: float) -> Figure:
        return Figure.of(course.scenario, contender, what, unit, values)

    saves, counts, to_the_end = outcome.saves, outcome.counts, outcome.counts_until_stopped
    came = [delay for delay in outcome.delays if delay < inf]
    cpu_s = outcome.after.cpu_s - outcome.before.cpu_s
    figures = [
        figure("bytes on the wire per new byte", "", counts.body_bytes / outcome.new_bytes),
        figure(
            "bytes on the wire per new byte, until stopped",
            "",
            to_the_end.body_bytes / outcome.new_bytes,
        ),
        figure("requests per save", "", counts.requests / len(saves)),
        figure("CPU per save", "ms", cpu_s * 1000 / len(saves)),
        figure("memory, steady", "MB", *(sample.rss_mb for sample in outcome.samples)),
        figure("memory, peak", "MB", outcome.after.peak_mb),
        figure("descriptors", "", outcome.after.descriptors),
        figure("lost sessions", "", outcome.lost),
    ]
    if came:
        figures.append(figure("save to archived", "ms", *(delay * 1000 for delay in came)))
    if course.saves == 1 and len(came) == len(saves):
        ends = (save.at + delay for save, delay in zip(saves, came, strict=True))
        figures.append(figure("all archived", "s", max(ends) - saves[0].at))
    if outcome.passes_cpu_s:
        figures.append(figure("CPU per pass", "ms", *(s * 1000 for s in outcome.passes_cpu_s)))
    return figures


def _small(sessions: Path) -> Document:
    """Return another session, for who does something once, with the first of all."""
    document = Document(sessions, "another")
    document.grow(1000)
    return document


def _save(
    course: Course, documents: Sequence[Document], contender: Contender
) -> tuple[list[Save], list[Usage]]:
    """Save at the given times, as far as the machine keeps up."""
    saves, samples, begun = [], [], time.monotonic()
    for turn in range(course.saves):
        if turn or not course.new:
            for document in documents:
                document.grow(course.growth, max(1, course.growth // course.message))
        time.sleep(max(0.0, begun + turn * course.every_s - time.monotonic()))
        samples.append(contender.usage())
        saves += [document.save() for document in documents]
    time.sleep(course.every_s)
    samples.append(contender.usage())
    return saves, samples


def _wait_until_arrived(tap: Tap, saves: Sequence[Save], within_s: float) -> None:
    """Give all the time to arrive unhurried, until that is over."""
    ends = time.monotonic() + within_s
    while inf in _delays(tap, saves) and time.monotonic() < ends:
        time.sleep(_LOOK_EVERY_S)


def _delays(tap: Tap, saves: Sequence[Save]) -> list[float]:
    arrived = Arrived(tap.arrivals())
    return [arrived.when(save) - save.at for save in saves]


def _passes_cpu_s(contender: Contender) -> list[float]:
    return [each.cpu_s for each in contender.passes] if isinstance(contender, Loop) else []


def _is_lost(contender: Contender, path: Path) -> bool:
    return contender.held(path.stem) != contender.expected(path.read_bytes())
