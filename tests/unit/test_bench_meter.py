"""What processes take is told while they run and once they have ended."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.bench import meter
from tests.bench.meter import Child, Tally

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform != "linux":
    pytest.skip("needs /proc", allow_module_level=True)

MB = 10**6
BUSY = "import time\nwhile time.process_time() < 0.3: pass\nprint(1, flush=True)\ninput()"
OPEN = "files = [open('/dev/null') for _ in range(40)]\nprint(1, flush=True)\ninput()"
BIG = f"filled = b'x' * {100 * MB}\ndel filled\nprint(1, flush=True)\ninput()"


def run(home: Path, tally: Tally, code: str, look_every_s: float = 0.005) -> Child:
    """Start some Python and wait for its first line."""
    child = Child(
        [sys.executable, "-I", "-S", "-c", code],
        tally=tally,
        home=home,
        environ={},
        log=home / "log",
        talks=True,
        look_every_s=look_every_s,
    )
    assert child.popen.stdout is not None
    assert child.popen.stdout.readline() == b"1\n"
    return child


def test_the_cpu_time_of_a_running_process_is_counted(tmp_path: Path) -> None:
    tally = Tally()
    child = run(tmp_path, tally, BUSY)
    assert 0.3 <= tally.usage().cpu_s < 3
    child.end(signal.SIGTERM, 10)


def test_the_cpu_time_of_a_killed_process_still_counts(tmp_path: Path) -> None:
    tally = Tally()
    run(tmp_path, tally, BUSY).end(signal.SIGKILL, 10)
    assert tally.usage().cpu_s >= 0.3
    assert tally.usage().rss_mb == 0


def test_the_cpu_times_of_processes_one_after_the_other_add_up(tmp_path: Path) -> None:
    tally = Tally()
    for _ in range(2):
        run(tmp_path, tally, BUSY).end(signal.SIGTERM, 10)
    assert tally.usage().cpu_s >= 0.6


def test_the_peak_is_seen_after_the_memory_was_given_back(tmp_path: Path) -> None:
    tally = Tally()
    child = run(tmp_path, tally, BIG, look_every_s=60)
    usage = tally.usage()
    child.end(signal.SIGTERM, 10)
    assert usage.rss_mb < 60
    assert usage.peak_mb > 100


def test_the_memory_of_this_process_is_not_its_childs(tmp_path: Path) -> None:
    filled = bytearray(b"x" * 200 * MB)
    tally = Tally()
    run(tmp_path, tally, "print(1, flush=True)\ninput()").end(signal.SIGTERM, 10)
    assert len(filled) / MB == 200
    assert tally.usage().peak_mb < 60


def test_the_most_descriptors_at_once_are_remembered(tmp_path: Path) -> None:
    tally = Tally()
    child = run(tmp_path, tally, OPEN)
    tally.usage()
    child.end(signal.SIGTERM, 10)
    assert 43 <= tally.usage().descriptors < 60


def test_a_process_that_is_deaf_is_killed(tmp_path: Path) -> None:
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    child = run(tmp_path, Tally(), deaf + "print(1, flush=True)\ninput()")
    child.end(signal.SIGTERM, 0.05)
    assert child.wait() == -signal.SIGKILL


def test_the_cpu_time_of_no_process_is_refused(tmp_path: Path) -> None:
    child = run(tmp_path, Tally(), "print(1, flush=True)\ninput()")
    child.end(signal.SIGKILL, 10)
    with pytest.raises(ProcessLookupError):
        meter.cpu_s(child.pid)
