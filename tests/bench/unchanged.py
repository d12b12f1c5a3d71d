"""Many sessions that nobody changes: what a start costs, and what doing nothing costs.

The sessions are archived first, by each contender itself; the loops share one bucket. Then each is
started again and left alone, and once more with one session that was saved while it was down.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from tests.bench import floors, meter
from tests.bench.agent import Document
from tests.bench.contender import Ground
from tests.bench.contenders.loop import Loop, find
from tests.bench.result import Figure
from tests.bench.tap import Tap
from tests.servers import create_bucket
from tests.servers.process import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.agent import Save
    from tests.bench.contender import Contender
    from tests.servers import Server

RCLONE = "rclone rcd, idle"
ALONE = "CPU of a start, for its sessions alone"
"""That of a start with all sessions, less that of a start with one."""
HELD = "memory, for its sessions alone"
"""That of doing nothing with all sessions, less that of doing nothing with one."""

_SIZE = 300  # bytes of the history of a session
_STARTS = 3
_SETTLED_S = 25.0
_SOON_S = 10.0
_CHANCE_S = 600.0
_LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class _Plan:
    """How long it is left alone, and the scenario's name."""

    sessions: int
    idle_s: float

    @property
    def settled_s(self) -> float:
        """After how many seconds a start is over."""
        return min(_SETTLED_S, self.idle_s)

    @property
    def scenario(self) -> str:
        return f"{self.sessions:,} unchanged sessions"


@dataclass(frozen=True, slots=True)
class _Start:
    """What it took until it was ready, and what it holds when it has come to rest."""

    wall_s: float
    cpu_s: float
    rss_mb: float


@dataclass(frozen=True, slots=True)
class _Idle:
    """What doing nothing for a while took."""

    cpu_ms_per_s: float
    rss_mb: tuple[float, ...]  # each second
    requests: int
    wakes_per_s: float


def run(
    server: Server, contenders: Sequence[type[Contender]], *, sessions: int, quick: bool
) -> list[Figure]:
    """Measure everybody with so many sessions."""
    plan = _Plan(sessions, idle_s=2.0 if quick else 60.0)
    with _sessions(sessions) as (directory, document):
        figures = floors.of_a_start(plan.scenario, directory)
        figures += floors.of_idling(plan.scenario, plan.idle_s)
        figures += _of_rclone(plan)
        shared = create_bucket(server)
        for kind in contenders:
            if issubclass(kind, Loop):
                figures += _of_loop(kind, shared, directory, document, plan)
            else:
                figures += _of_daemon(kind, create_bucket(server), directory, document, plan)
    return figures


def _of_daemon(
    kind: type[Contender], server: Server, directory: Path, document: Document, plan: _Plan
) -> list[Figure]:
    """Measure what runs all the time."""
    with tempfile.TemporaryDirectory(prefix="transcriptd-bench-") as home, Tap(server) as tap:
        ground = Ground(directory, Path(home), tap.server, hurried=False)
        took_s = _archive_all(kind(ground), tap, plan)
        starts = _starts(kind, ground, plan)
        contender = kind(ground)
        before = _children()
        contender.start()
        try:
            (pid,) = _children() - before
            time.sleep(plan.settled_s)
            idle = _left_alone(contender, tap, pid, plan.idle_s)
            usage = contender.usage()
        finally:
            contender.stop()
        first = _first_archive(kind(ground), tap, _saved(document))
    figures = [
        Figure(plan.scenario, kind.name, "first archiving", "s", took_s),
        Figure.of(plan.scenario, kind.name, "start", "s", [each.wall_s for each in starts]),
        Figure(plan.scenario, kind.name, "CPU idle", "ms/s", idle.cpu_ms_per_s),
        Figure(plan.scenario, kind.name, "wake-ups while idle", "/s", idle.wakes_per_s),
        Figure(plan.scenario, kind.name, "requests while idle", "", idle.requests),
        Figure.of(plan.scenario, kind.name, "memory, steady", "MB", idle.rss_mb),
        Figure(plan.scenario, kind.name, "memory, peak", "MB", usage.peak_mb),
        Figure(plan.scenario, kind.name, "descriptors", "", usage.descriptors),
        Figure(plan.scenario, kind.name, "lost sessions", "", float(first is None)),
    ]
    with_one = _starts_with_one(kind, server, plan)
    least_s, least_mb = (min(e.cpu_s for e in with_one), min(e.rss_mb for e in with_one))
    alone_s = [max(0.0, each.cpu_s - least_s) for each in starts]
    held_mb = [max(0.0, each - least_mb) for each in idle.rss_mb]
    figures += [
        Figure.of(plan.scenario, kind.name, ALONE, "s", alone_s),
        Figure.of(plan.scenario, kind.name, HELD, "MB", held_mb),
    ]
    if first is not None:
        figures.append(Figure(plan.scenario, kind.name, "first archive after start", "s", first))
    return _told(figures)


def _of_loop(
    kind: type[Loop], bucket: Server, directory: Path, document: Document, plan: _Plan
) -> list[Figure]:
    """Measure a loop over what it has archived."""
    with tempfile.TemporaryDirectory(prefix="transcriptd-bench-") as home, Tap(bucket) as tap:
        ground = Ground(directory, Path(home), tap.server, hurried=False)
        filling = kind(ground)
        _pass_for(filling, 0.0)
        loop, counts = kind(ground), tap.counts()
        rss_mb = _pass_for(loop, plan.idle_s)
        usage, sent = loop.usage(), tap.counts() - counts
        first = _first_archive(kind(ground), tap, _saved(document))
    walls = [each.ended - each.begun for each in loop.passes]
    cycle_s = fmean(walls) + loop.pause_s
    cpu_s = [each.cpu_s for each in loop.passes]
    requests = sent.requests / len(walls)
    figures = [
        Figure.of(plan.scenario, kind.name, "pass", "s", walls),
        Figure.of(plan.scenario, kind.name, "CPU per pass", "ms", [s * 1000 for s in cpu_s]),
        Figure(plan.scenario, kind.name, "requests per pass", "", requests),
        Figure(plan.scenario, kind.name, "CPU idle", "ms/s", fmean(cpu_s) * 1000 / cycle_s),
        Figure(
            plan.scenario, kind.name, "requests while idle", "", requests * plan.idle_s / cycle_s
        ),
        Figure(plan.scenario, kind.name, "memory, peak", "MB", usage.peak_mb),
        Figure(plan.scenario, kind.name, "descriptors", "", usage.descriptors),
        Figure(plan.scenario, kind.name, "lost sessions", "", float(first is None)),
    ]
    if rss_mb:  # all passes may have been between two looks
        figures.append(Figure.of(plan.scenario, kind.name, "memory, steady", "MB", rss_mb))
    if first is not None:
        figures.append(Figure(plan.scenario, kind.name, "first archive after start", "s", first))
    return _told(figures)


def _of_rclone(plan: _Plan) -> list[Figure]:
    """Return what a daemon of rclone's takes that does nothing."""
    program = find("rclone")
    if program is None:
        return []
    address = f"127.0.0.1:{free_port()}"
    options = ("--config", "", "--rc-no-auth", "--rc-addr", address)
    with subprocess.Popen([program, "rcd", *options], stderr=subprocess.DEVNULL) as process:
        try:
            time.sleep(plan.settled_s)
            before = meter.cpu_s(process.pid)
            time.sleep(plan.idle_s)
            used_s = meter.cpu_s(process.pid) - before
            memory = meter.rss_mb(process.pid)
        finally:
            process.kill()
    return [
        Figure(plan.scenario, RCLONE, "memory, steady", "MB", memory),
        Figure(plan.scenario, RCLONE, "CPU idle", "ms/s", used_s * 1000 / plan.idle_s),
    ]


def _archive_all(contender: Contender, tap: Tap, plan: _Plan) -> float:
    """Start, wait until there is nothing more to do, and stop; return how many seconds it took."""
    begun = time.monotonic()
    contender.start()
    try:
        requests = -1
        while requests != (requests := tap.counts().requests):
            contender.settle(_CHANCE_S / 10)
            archived = len({arrival.session_id for arrival in tap.arrivals()})
            print(f"  {contender.name}: {archived:,} of {plan.sessions:,} archived", flush=True)
        return time.monotonic() - begun
    finally:
        contender.stop()


def _pass_for(loop: Loop, seconds: float) -> list[float]:
    """Run a loop for so long and until a pass ends; return its memory, looked at while it ran."""
    ends = time.monotonic() + seconds
    rss_mb: list[float] = []
    loop.start()
    try:
        seen = 0
        while time.monotonic() < ends or seen == len(loop.passes):
            seen = len(loop.passes)
            time.sleep(_LOOK_EVERY_S)
            if (now_mb := loop.usage().rss_mb) > 0:
                rss_mb.append(now_mb)
    finally:
        loop.stop()
    return rss_mb


def _left_alone(contender: Contender, tap: Tap, pid: int, seconds: float) -> _Idle:
    before, requests, wakes = contender.usage(), tap.counts().requests, _wakes(pid)
    begun = time.monotonic()
    rss_mb = []
    while time.monotonic() < begun + seconds:
        time.sleep(1)
        rss_mb.append(meter.rss_mb(pid))
    took_s = time.monotonic() - begun
    used_s = contender.usage().cpu_s - before.cpu_s
    return _Idle(
        used_s * 1000 / took_s,
        tuple(rss_mb),
        tap.counts().requests - requests,
        (_wakes(pid) - wakes) / took_s,
    )


def _first_archive(contender: Contender, tap: Tap, save: Save) -> float | None:
    """Start with something to do; return after how many seconds it had arrived, if ever."""
    begun, before = time.monotonic(), tap.counts().requests
    contender.start()
    try:
        ends = begun + _SOON_S
        while time.monotonic() < ends or tap.counts().requests == before:
            if tap.counts().requests != before and (at := _arrived(tap, save)) is not None:
                return at - begun
            if time.monotonic() > ends:
                break
            time.sleep(_LOOK_EVERY_S)
        contender.settle(_CHANCE_S)
        at = _arrived(tap, save)
    finally:
        contender.stop()
    return None if at is None else at - begun


def _arrived(tap: Tap, save: Save) -> float | None:
    wanted = (save.session_id, save.number)
    return next((a.at for a in tap.arrivals() if (a.session_id, a.number) == wanted), None)


def _starts(kind: type[Contender], ground: Ground, plan: _Plan) -> list[_Start]:
    return [_start(kind(ground), plan) for _ in range(_STARTS)]


def _start(contender: Contender, plan: _Plan) -> _Start:
    begun = time.monotonic()
    contender.start()
    wall_s, cpu_s = time.monotonic() - begun, contender.usage().cpu_s
    time.sleep(plan.settled_s)  # whoever is stopped in the middle of something has more to do next
    rss_mb = contender.usage().rss_mb
    contender.stop()
    return _Start(wall_s, cpu_s, rss_mb)


def _starts_with_one(kind: type[Contender], server: Server, plan: _Plan) -> list[_Start]:
    """Return what starts with one session take that is archived."""
    with _sessions(1) as (directory, _), tempfile.TemporaryDirectory() as home:
        ground = Ground(directory, Path(home), create_bucket(server), hurried=False)
        filling = kind(ground)
        filling.start()
        filling.settle(_CHANCE_S)
        filling.stop()
        return _starts(kind, ground, plan)


@contextmanager
def _sessions(count: int) -> Iterator[tuple[Path, Document]]:
    """Make a directory of so many sessions; the first of them may grow."""
    with tempfile.TemporaryDirectory(prefix="transcriptd-bench-") as name:
        first = Document(Path(name), f"unchanged-{0:06}")
        _saved(first)
        for number in range(1, count):
            _saved(Document(Path(name), f"unchanged-{number:06}"))
        yield Path(name), first


def _saved(document: Document) -> Save:
    document.grow(_SIZE)
    return document.save()


def _children() -> set[int]:
    """Return the processes that this one started."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(pid) for each in lists for pid in each.read_text("ascii").split()}


def _wakes(pid: int) -> int:
    """Return how often the threads of a process have waited for something."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        lines = status.read_text("ascii", "replace").splitlines()
        total += sum(int(x.split()[1]) for x in lines if x.startswith("voluntary_ctxt"))
    return total


def _told(figures: list[Figure]) -> list[Figure]:
    said = ", ".join(f"{each.what} {each.value:.3g} {each.unit}".rstrip() for each in figures)
    print(f"  {figures[0].contender}: {said}", flush=True)
    return figures
