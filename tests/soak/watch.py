"""Samples of a running daemon: what it takes, and how it answers. Seen from outside alone.

There is no figure of the daemon's own for the lag of its event loop: it is taken for as long as
`/healthz` takes to be answered, which needs nothing but a turn of the loop.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transcriptd import client

if TYPE_CHECKING:
    from tests.home import Home

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE_S = 10.0
_STATES = re.compile(rb'^transcriptd_sessions\{state="\w+"\} (\S+)', re.MULTILINE)
_BACKLOG = re.compile(rb"^transcriptd_backlog (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sample:
    """A daemon at one moment. `at_s` since the soak began, `life` counts its processes.

    `entries` are those that the journal keeps; `cpu_s` is what this process took so far.
    """

    at_s: float
    life: int
    rss_mb: float
    descriptors: int
    threads: int
    journal_mb: float
    wal_mb: float
    entries: int
    sessions: int
    backlog: int
    lag_ms: float
    cpu_s: float

    @property
    def journal_per_entry(self) -> float:
        """Bytes of the journal for each entry and session that it keeps."""
        return 1e6 * self.journal_mb / max(1, self.entries + self.sessions)

    def __str__(self) -> str:
        return (
            f"{self.at_s:.0f} s, life {self.life}: {self.rss_mb:.0f} MB, {self.descriptors} "
            f"descriptors, journal {self.journal_mb:.1f} MB, lag {self.lag_ms:.1f} ms, "
            f"{self.sessions} sessions, {self.backlog} wait"
        )


def sample(home: Home, pid: int, *, at_s: float, life: int) -> Sample:
    """Look at a process. Raises `OSError` where it ends meanwhile or does not answer."""
    socket = str(home.state / "run" / "transcriptd.sock")
    began = time.monotonic()
    client.get(socket, "/healthz", _PATIENCE_S)
    lag_s = time.monotonic() - began
    metrics = client.get(socket, "/metrics", _PATIENCE_S).body
    backlog = _BACKLOG.search(metrics)
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    times = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return Sample(
        at_s=at_s,
        life=life,
        rss_mb=_field(status, "VmRSS") * 1024 / 1e6,
        descriptors=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        threads=_field(status, "Threads"),
        journal_mb=_size_mb(home.state / "journal.db"),
        wal_mb=_size_mb(home.state / "journal.db-wal"),
        entries=_entries(home.state / "journal.db"),
        sessions=round(sum(map(float, _STATES.findall(metrics)))),
        backlog=round(float(backlog[1])) if backlog else 0,
        lag_ms=1e3 * lag_s,
        cpu_s=(int(times[11]) + int(times[12])) / _TICKS,
    )


def _field(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else 0


def _size_mb(path: Path) -> float:
    return path.stat().st_size / 1e6 if path.exists() else 0.0


def _entries(journal: Path) -> int:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as reading:
        (kept,) = reading.execute("SELECT max(seq) - min(seq) + 1 FROM entries").fetchone()
    return kept or 0
