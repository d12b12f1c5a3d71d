"""The demonstration: simulated agents save sessions while the real daemon archives them.

Everything happens in one directory: sessions, state, socket and archive. The daemon is a process of
its own with a clean environment, so that nothing of the user's is read or written. What counts at
the end is compared without the daemon's code: the lines the agents saved with the archive's files.
Knows no terminal.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from bisect import bisect_left
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from operator import itemgetter
from threading import Event
from typing import TYPE_CHECKING, Any

from transcriptd import client
from transcriptd.errors import TranscriptdError
from transcriptd.journal import entries
from transcriptd.simulation import Agent, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from transcriptd.simulation import Save

_START_S = 30.0
_SYNC_S = 60.0
_STOP_S = 45.0
_SHOW_S = 0.25
_POLL_S = 0.05
_PAGE = 10_000
QUIET_S = 0.1  # shorter than the default, so that a short demonstration shows many saves
_MAX_WAIT_S = 0.5
_KEPT_VARIABLES = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH")


class DemoFailed(TranscriptdError):
    """The demonstration could not be carried through."""


@dataclass(frozen=True, slots=True)
class Row:
    """One session, as it stands now. `archived` of its `messages` are in the archive."""

    id: str
    title: str
    saves: int
    messages: int
    archived: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it has come. `latencies_s`: save to archived, sorted, of each save that is."""

    elapsed_s: float
    rows: tuple[Row, ...]
    saves: int
    latencies_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. `lost` counts messages that are not in the archive as they were saved."""

    sessions: int
    saves: int
    messages: int
    bytes: int
    archived_p50_s: float | None
    archived_p99_s: float | None
    lost: int
    problems: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        return not self.lost and not self.problems


@dataclass(slots=True)
class Commits:
    """What the daemon's journal says was archived: per session (length, Unix nanoseconds)."""

    path: Path
    by_session: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    _after: int = 0
    _staged: dict[int, int] = field(default_factory=dict)

    def read(self) -> None:
        """Take in what is new in the journal."""
        while page := entries(self.path, after=self._after, limit=_PAGE):
            for entry in page:
                if entry.phase == "staged":
                    self._staged[entry.txn] = int(json.loads(entry.detail).get("bytes", 0))
                elif entry.phase == "committed":
                    length = self._staged.pop(entry.txn, 0)
                    if length > self.archived(entry.session_id):
                        commits = self.by_session.setdefault(entry.session_id, [])
                        commits.append((length, entry.at_ns))
            self._after = page[-1].seq

    def archived(self, session_id: str) -> int:
        """Return how many bytes of a session are archived."""
        commits = self.by_session.get(session_id)
        return commits[-1][0] if commits else 0

    def latency_s(self, session_id: str, save: Save) -> float | None:
        """Return how long a save took until it was archived, if it is."""
        commits = self.by_session.get(session_id, [])
        first = bisect_left(commits, save.length, key=itemgetter(0))
        return (commits[first][1] - save.at_ns) / 1e9 if first < len(commits) else None


class Demo:
    """Runs once, inside `place`, an empty directory."""

    def __init__(self, place: Path, sessions: int) -> None:
        self.archive = place / "archive"
        self._place = place
        self._socket = str(place / "run" / "demo.sock")
        self._data = place / "codetether"
        self._log = place / "daemon.log"
        self._commits = Commits(place / "state" / "journal.db")
        self._stop = Event()
        self._agents = [Agent(number, self._data, self._stop) for number in range(sessions)]

    def run(self, seconds: float, show: Callable[[Progress], None]) -> Result:
        """Let the agents work for some seconds, then compare. Raises `DemoFailed`."""
        workspace = self._place / "workspace"
        (workspace / ".git").mkdir(parents=True)  # so that no workspace above it is looked for
        prepare(self._data)
        with self._daemon(workspace) as daemon:
            began = time.monotonic()
            self._let_agents_work(seconds, daemon, lambda: show(self._progress(began)))
            left = self._sync()
            show(self._progress(began))
            status = _terminate(daemon)
        problems = [f"{s['session']} is {s['state']} {s.get('message', '')}".strip() for s in left]
        problems += [f"the daemon ended with status {status}"] if status else []
        return self._compare(problems)

    def _let_agents_work(
        self, seconds: float, daemon: subprocess.Popen[bytes], show: Callable[[], None]
    ) -> None:
        ends = time.monotonic() + seconds
        for agent in self._agents:
            agent.start()
        try:
            while time.monotonic() < ends:
                show()
                if daemon.poll() is not None:
                    raise self._failed("the daemon ended")
                time.sleep(max(0.0, min(_SHOW_S, ends - time.monotonic())))
        finally:
            self._stop.set()
            for agent in self._agents:
                agent.join()
        for agent in self._agents:
            if agent.error is not None:
                raise DemoFailed(f"a session could not be saved: {agent.error}")

    @contextmanager
    def _daemon(self, workspace: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Start the real daemon and wait until it is ready; end it in any case."""
        with self._log.open("wb") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "transcriptd", "run"],
                cwd=workspace,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt on the terminal is ours to handle
            )
        try:
            self._await_ready(daemon)
            yield daemon
        finally:
            if daemon.poll() is None:
                daemon.kill()
            daemon.wait()

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        return {
            **kept,
            "HOME": str(self._place),
            "TMPDIR": str(self._place),
            "CODETETHER_DATA_DIR": str(self._data),
            "TRANSCRIPTD_MACHINE": "demo",
            "TRANSCRIPTD_STATE_DIR": str(self._place / "state"),
            "TRANSCRIPTD_LOCAL__PATH": str(self.archive),
            "TRANSCRIPTD_HEALTH__SOCKET": self._socket,
            "TRANSCRIPTD_DEBOUNCE__QUIET": str(QUIET_S),
            "TRANSCRIPTD_DEBOUNCE__MAX_WAIT": str(_MAX_WAIT_S),
            "TRANSCRIPTD_LOG__FORMAT": "json",
        }

    def _await_ready(self, daemon: subprocess.Popen[bytes]) -> None:
        ends = time.monotonic() + _START_S
        while time.monotonic() < ends:
            try:
                if client.get(self._socket, "/readyz").is_ok:
                    return
            except OSError:
                pass  # it does not listen yet
            if daemon.poll() is not None:
                raise self._failed("the daemon did not start")
            time.sleep(_POLL_S)
        raise self._failed(f"the daemon was not ready within {_START_S:g} s")

    def _sync(self) -> list[dict[str, Any]]:
        """Have the daemon archive the rest; return what is left."""
        try:
            answer = client.post(self._socket, f"/sync?timeout={_SYNC_S:g}", _SYNC_S + _START_S)
            left: list[dict[str, Any]] = answer.json()["left"]
        except (OSError, ValueError, KeyError) as error:
            raise self._failed(f"the daemon could not be asked: {error}") from None
        return left

    def _progress(self, began: float) -> Progress:
        self._commits.read()
        rows = []
        for agent in self._agents:
            archived, saves = self._commits.archived(agent.id), agent.saves
            reached = (save.records for save in saves if save.length <= archived)
            newest = saves[-1].records if saves else 0
            rows.append(Row(agent.id, agent.title, len(saves), newest, max(reached, default=0)))
        total = sum(row.saves for row in rows)
        return Progress(time.monotonic() - began, tuple(rows), total, self._latencies())

    def _latencies(self) -> tuple[float, ...]:
        found = (self._commits.latency_s(a.id, save) for a in self._agents for save in a.saves)
        return tuple(sorted(latency for latency in found if latency is not None))

    def _compare(self, problems: list[str]) -> Result:
        """Compare each session with its archive, line by line."""
        self._commits.read()
        lost = 0
        for agent in self._agents:
            base = self.archive / "history" / agent.id / "history.jsonl"
            archived = base.read_bytes().split(b"\n") if base.exists() else [b""]
            if archived[-1] == b"":
                archived.pop()
            different = sum(one != other for one, other in zip_longest(agent.lines, archived))
            if different:
                problems.append(f"{agent.id} differs from its archive in {different} lines")
            lost += different
        saves = sum(len(agent.saves) for agent in self._agents)
        latencies = self._latencies()
        if len(latencies) < saves:
            problems.append(f"the journal has no commit for {saves - len(latencies)} saves")
        return Result(
            sessions=len(self._agents),
            saves=saves,
            messages=sum(len(agent.lines) for agent in self._agents),
            bytes=sum(agent.saves[-1].length for agent in self._agents if agent.saves),
            archived_p50_s=percentile(latencies, 50),
            archived_p99_s=percentile(latencies, 99),
            lost=lost,
            problems=tuple(problems),
        )

    def _failed(self, what: str) -> DemoFailed:
        tail = self._log.read_text(errors="replace").strip().splitlines()[-3:]
        return DemoFailed("\n".join([what, *tail]))


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """Return the smallest value that so many percent of all do not exceed; `None` of nothing."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _terminate(daemon: subprocess.Popen[bytes]) -> int:
    """Stop the daemon as a service manager would; return its exit status."""
    daemon.send_signal(signal.SIGTERM)
    try:
        return daemon.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        return -signal.SIGTERM
