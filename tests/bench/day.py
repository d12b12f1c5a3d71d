"""A mixed day: forty sessions, all contenders at once over the same files, each with its bucket.

The same day is also run with the store gone for a while in the middle, and with every contender
killed every few seconds. What is counted begins once all have archived what stood there before.
"""

from __future__ import annotations

import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from math import inf, isfinite
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.agent import Document, Save
from tests.bench.contenders.loop import Loop
from tests.bench.lane import Lane
from tests.bench.loss import lost_messages, lost_sessions, markers_held
from tests.bench.result import Figure, sample
from tests.bench.schedule import (
    CHANCE_S,
    LIFE,
    NEVER,
    PAUSE,
    SESSIONS,
    Deed,
    Span,
    lives,
    outage_in,
    schedule,
)
from tests.bench.tap import Tap
from tests.bench.waits import behind, delays, first_archives, recoveries
from tests.servers import create_bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.bench.contender import Contender
    from tests.bench.lane import Toll
    from tests.bench.schedule import Event, Schedule
    from tests.servers import Server

MIXED = "mixed day"
OUTAGE = "mixed day, the store gone for a minute"
KILLS = "mixed day, kill -9 every few seconds"
LOAD = "the load"  # stands where a contender's name does
SEED = 6

_QUICK_S = 5.0
_QUICK_SESSIONS = 8
_QUICK_PAUSE = (0.2, 1.0)
_QUICK_LIFE = (1.0, 2.0)
_QUICK_LOOP_S = 0.5


class Agents:
    """Do to the files what the schedule says, and remember what is to be archived."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._documents: dict[str, Document] = {}
        self._deleted: dict[str, bytes] = {}
        self.states: list[Save] = []  # one without a number where a session was deleted
        self.saves = 0

    def do(self, event: Event) -> None:
        document = self._document(event.session_id)
        match event.deed:
            case Deed.UNDO:
                document.undo(event.dropped)
            case Deed.COMPACT:
                document.compact()
            case Deed.DELETE:
                self._deleted[document.id] = document.path.read_bytes()
                document.delete()
                self.states.append(Save(document.id, 0, time.monotonic(), 0, 0))
                return
        for size in event.sizes:
            document.grow(size)
        self.states.append(document.save())
        self.saves += 1

    @property
    def new_bytes(self) -> int:
        return sum(document.new_bytes for document in self._documents.values())

    def saved(self) -> dict[str, set[int]]:
        """Return the numbers of all messages that were in some save, by session."""
        return {name: document.saved for name, document in self._documents.items()}

    def last(self) -> dict[str, bytes]:
        """Return the last document of each session, of those that were deleted, too."""
        there = self._documents.keys() - self._deleted.keys()
        return self._deleted | {name: self._document(name).path.read_bytes() for name in there}

    def _document(self, session_id: str) -> Document:
        if session_id not in self._documents:
            self._documents[session_id] = Document(self._directory, session_id)
        return self._documents[session_id]


def run(
    server: Server,
    contenders: Sequence[type[Contender]],
    *,
    minutes: float,
    outage: bool = False,
    kills: bool = False,
    seed: int = SEED,
    quick: bool = False,
) -> list[Figure]:
    """Let a day go by. The same seed gives the same day, whatever else is asked for."""
    seconds = _QUICK_S if quick else 60 * minutes
    gone = outage_in(seconds) if outage else NEVER
    plan = schedule(
        seed,
        seconds,
        # Nobody could have what goes before the store is back, and has been for a while.
        calm=Span(gone.start, gone.end + CHANCE_S),
        sessions=_QUICK_SESSIONS if quick else SESSIONS,
        pause=_QUICK_PAUSE if quick else PAUSE,
    )
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="transcriptd-day-")))
        (home / "sessions").mkdir()
        lanes = [_lane(stack, kind, home, server) for kind in contenders]
        loops = [lane.contender for lane in lanes if isinstance(lane.contender, Loop)]
        for loop in loops if quick else ():
            loop.pause_s = _QUICK_LOOP_S
        day = _Day(OUTAGE if outage else KILLS if kills else MIXED, plan, lanes, home / "sessions")
        life = _QUICK_LIFE if quick else LIFE
        lives_s = [lives(seed, lane.name, life) if kills else repeat(inf) for lane in lanes]
        return day.run(seconds, gone, lives_s)


def _lane(stack: ExitStack, kind: type[Contender], home: Path, server: Server) -> Lane:
    own = home / f"home-{kind.name.replace(' ', '-')}"
    own.mkdir()
    tap = stack.enter_context(Tap(create_bucket(server)))
    lane = Lane(kind, home / "sessions", own, tap)
    stack.callback(lane.stop)  # where a day fails
    return lane


@dataclass(frozen=True, slots=True)
class _Begun:
    """When the day began, and what there was already."""

    at: float
    states: int
    saves: int
    new_bytes: int


class _Day:
    """One day, carried out."""

    def __init__(
        self, scenario: str, plan: Schedule, lanes: Sequence[Lane], directory: Path
    ) -> None:
        self._scenario = scenario
        self._plan = plan
        self._lanes = lanes
        self._agents = Agents(directory)

    def run(self, seconds: float, gone: Span, lives_s: Sequence[Iterator[float]]) -> list[Figure]:
        agents, lanes, over = self._agents, self._lanes, threading.Event()
        with ThreadPoolExecutor(len(lanes)) as pool:
            list(pool.map(Lane.start, lanes))
            for event in self._plan.first:
                agents.do(event)
            list(pool.map(Lane.settle, lanes))
            for lane in lanes:
                lane.begin()
            day = _Begun(time.monotonic(), len(agents.states), agents.saves, agents.new_bytes)
            living = [
                pool.submit(lane.live, over, each_s)
                for lane, each_s in zip(lanes, lives_s, strict=True)
            ]
            try:
                late = self._drive(day.at, seconds, gone)
            finally:
                over.set()
            for each in living:
                each.result()
            tolls = list(pool.map(Lane.end, lanes))
        figures = self._of_load(day, late)
        for lane, toll in zip(lanes, tolls, strict=True):
            figures += self._of(lane, toll, day)
        return figures

    def _drive(self, began: float, seconds: float, gone: Span) -> list[float]:
        """Do everything at its time; return by how many seconds each was late."""
        steps: list[tuple[float, Callable[[], object]]] = [
            (event.at, partial(self._agents.do, event)) for event in self._plan.events
        ]
        if gone is not NEVER:
            steps += [(gone.start, self._refuse), (gone.end, self._accept)]
        late = []
        for at, step in sorted(steps, key=itemgetter(0)):
            time.sleep(max(0.0, began + at - time.monotonic()))
            late.append(time.monotonic() - began - at)
            step()
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        return late

    def _refuse(self) -> None:
        for lane in self._lanes:
            lane.refuse()

    def _accept(self) -> None:
        for lane in self._lanes:
            lane.accept()

    def _of_load(self, day: _Begun, late: Sequence[float]) -> list[Figure]:
        agents = self._agents
        saves, new_bytes = agents.saves - day.saves, agents.new_bytes - day.new_bytes
        figures = [
            self._figure(LOAD, "saves", "", saves),
            self._figure(LOAD, "sessions", "", len(agents.saved())),
            self._figure(LOAD, "messages", "", sum(map(len, agents.saved().values()))),
            self._figure(LOAD, "new history", "MB", new_bytes / 1e6),
            Figure.of(self._scenario, LOAD, "later than planned", "ms", [s * 1000 for s in late]),
        ]
        self._tell(LOAD, figures)
        return figures

    def _of(self, lane: Lane, toll: Toll, day: _Begun) -> list[Figure]:
        agents, states = self._agents, self._agents.states
        saves, new_bytes = agents.saves - day.saves, agents.new_bytes - day.new_bytes
        waited_ms = [s * 1000 for s in delays(states[day.states :], toll.arrived)]
        running_mb = [mb for mb in toll.memory_mb if mb]
        sessions = lost_sessions(lane.contender, agents.last())
        messages = lost_messages(agents.saved(), markers_held(lane.bucket))
        behind_each = behind(states, toll.arrived, day.at, toll.ended_at)
        name, figure = lane.name, partial(self._figure, lane.name)
        figures = [
            Figure.of(self._scenario, name, "save to archived", "ms", waited_ms),
            figure("bytes on the wire per new byte", "", toll.counts.body_bytes / new_bytes),
            figure(
                "bytes on the wire per new byte, until stopped",
                "",
                toll.counts_until_stopped.body_bytes / new_bytes,
            ),
            figure("requests per save", "", toll.counts.requests / saves),
            figure("CPU per save", "ms", toll.cpu_s * 1000 / saves),
            figure("CPU", "s", toll.cpu_s),
            figure("memory, peak", "MB", toll.usage.peak_mb),
            figure("descriptors", "", toll.usage.descriptors),
            figure("lost sessions", "", len(sessions)),
            figure("lost messages", "", len(messages)),
            figure("sessions behind, each second", "", max(behind_each), tuple(behind_each)),
        ]
        if running_mb:  # a loop may have been between two passes each time
            figures.append(Figure.of(self._scenario, name, "memory, steady", "MB", running_mb))
        if isfinite(toll.accepted_at):
            took = recoveries(states, toll.arrived, toll.accepted_at)
            figures.append(
                figure("recovery after the outage", "s", max(took, default=0.0), tuple(took))
            )
        if kills := toll.lives[1:]:
            figures.append(figure("kills", "", len(kills)))
            if took := first_archives(states, toll.arrived, kills):
                what = "first archive after start"
                figures.append(Figure.of(self._scenario, name, what, "s", took))
        self._tell(name, figures)
        return figures

    def _figure(
        self, contender: str, what: str, unit: str, value: float, spread: tuple[float, ...] = ()
    ) -> Figure:
        return Figure(self._scenario, contender, what, unit, value, spread)

    def _tell(self, contender: str, figures: Sequence[Figure]) -> None:
        words = []
        for figure in figures:
            words.append(f"{figure.what} {figure.value:.3g} {figure.unit}".strip())
            if figure.spread:
                spread = sample(figure.spread)
                words[-1] += f" (p99 {spread['p99']:.3g}, max {spread['max']:.3g})"
        print(f"{self._scenario}, {contender}: {'; '.join(words)}", flush=True)
