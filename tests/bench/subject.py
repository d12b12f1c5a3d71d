"""The daemon as it is measured: a process of its own, asked only from outside."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transcriptd.client import get, post

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.servers import Server

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A running daemon and the directories it works on."""

    home: Path
    process: subprocess.Popen[bytes]
    started_s: float

    @property
    def sessions(self) -> Path:
        return sessions_of(self.home)

    def status(self) -> dict[str, object]:
        document: dict[str, object] = json.loads(get(str(_socket(self.home)), "/status", 10).body)
        return document

    def requests(self) -> dict[str, int]:
        """Return how many requests were sent, by operation."""
        store = self.status()["store"]
        assert isinstance(store, dict)
        counts: dict[str, int] = {}
        for row in store["requests"]:
            counts[row["op"]] = counts.get(row["op"], 0) + row["count"]
        return counts

    def sync(self) -> None:
        post(str(_socket(self.home)), f"/sync?timeout={_PATIENCE_S:.0f}", _PATIENCE_S + 5)

    def cpu_s(self) -> float:
        fields = (
            Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        )
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_mb(self) -> float:
        return rss_mb(self.process.pid)

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def commits(self) -> list[tuple[int, str, int]]:
        """Return (when in Unix nanoseconds, session, bytes archived) of each base that was put."""
        with closing(
            sqlite3.connect(f"file:{_state(self.home)}/journal.db?mode=ro", uri=True)
        ) as db:
            return db.execute(
                "SELECT done.at_ns, done.session_id, json_extract(staged.detail, '$.bytes')"
                " FROM entries AS done JOIN entries AS staged USING (txn)"
                " WHERE done.phase = 'committed' AND staged.phase = 'staged' ORDER BY done.seq"
            ).fetchall()


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def sessions_of(home: Path) -> Path:
    return home / "data" / "sessions"


@contextmanager
def daemon(home: Path, server: Server, **settings: str) -> Iterator[Subject]:
    """Run the daemon on `home` against a server until the block ends."""
    sessions_of(home).mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "transcriptd", "run"],
            env=_environment(home, server, settings),
            cwd=home,
            stderr=log,
        )
    try:
        while not _is_ready(home):
            if process.poll() is not None or time.monotonic() - began > _PATIENCE_S:
                raise RuntimeError((home / "log").read_text("utf-8")[-2000:])
            time.sleep(0.01)
        yield Subject(home, process, time.monotonic() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE_S)


def _environment(home: Path, server: Server, settings: Mapping[str, str]) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "HOME": str(home),
        "CODETETHER_DATA_DIR": str(home / "data"),
        "TRANSCRIPTD_STATE_DIR": str(_state(home)),
        "TRANSCRIPTD_HEALTH__SOCKET": str(_socket(home)),
        "TRANSCRIPTD_MACHINE": "bench",
        "CODETETHER_HISTORY_S3_ENDPOINT": server.endpoint,
        "CODETETHER_HISTORY_S3_BUCKET": server.bucket,
        "CODETETHER_HISTORY_S3_ACCESS_KEY": server.access_key,
        "CODETETHER_HISTORY_S3_SECRET_KEY": server.secret_key,
        **settings,
    }


def _state(home: Path) -> Path:
    return home / "state"


def _socket(home: Path) -> Path:
    return home / "s"


def _is_ready(home: Path) -> bool:
    try:
        return get(str(_socket(home)), "/readyz", 1).status == 200
    except OSError:
        return False
