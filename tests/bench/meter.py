"""What a process takes, and the processes that are measured. Linux alone."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.contender import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LIBC = ctypes.CDLL(None, use_errno=True)


def cpu_s(pid: int) -> float:
    """Return the CPU time of all threads of a process. Raises `ProcessLookupError`."""
    clock = ctypes.c_int()
    if _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise ProcessLookupError(pid)
    try:
        return time.clock_gettime(clock.value)
    except OSError as error:
        raise ProcessLookupError(pid) from error


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process; 0 when it is gone."""
    return _memory_mb(pid, "VmRSS:")


def peak_mb(pid: int) -> float:
    """Return the most that was resident of a process; 0 when it is gone."""
    return _memory_mb(pid, "VmHWM:")


def descriptors(pid: int) -> int:
    """Return how many file descriptors a process has open; 0 when it is gone."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


def _memory_mb(pid: int, name: str) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


class Tally:
    """What the processes of one contender took, one after the other."""

    def __init__(self) -> None:
        self.cpu_s = 0.0  # of those that ended
        self.peak_mb = 0.0
        self.descriptors = 0
        self.running: Child | None = None
        self.changing = threading.Lock()

    def usage(self) -> Usage:
        with self.changing:
            cpu, rss, child = self.cpu_s, 0.0, self.running
            if child is not None:
                with suppress(ProcessLookupError):
                    cpu += cpu_s(child.pid)
                rss = rss_mb(child.pid)
                child.look()
            return Usage(cpu, rss, self.peak_mb, self.descriptors)


class Child:
    """A running process, whose end a thread waits for and counts."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        tally: Tally,
        home: Path,
        environ: Mapping[str, str],
        log: Path,
        talks: bool = False,
        look_every_s: float = 0.05,
    ) -> None:
        """Start it. `talks`: its standard input and output are pipes."""
        self._tally = tally
        self._look_every_s = look_every_s
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                argv,
                cwd=home,
                env={"PATH": os.environ["PATH"], "HOME": str(home), **environ},
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else output,
                stderr=output,
                start_new_session=True,
                bufsize=0,
            )
        self.pid = self.popen.pid
        self.cpu_s = 0.0  # once it ended
        self._waiting = threading.Thread(target=self._wait, name="meter", daemon=True)
        tally.running = self
        self._waiting.start()

    def look(self) -> None:
        """Take note of what it has now."""
        tally = self._tally
        tally.peak_mb = max(tally.peak_mb, peak_mb(self.pid))
        tally.descriptors = max(tally.descriptors, descriptors(self.pid))

    def end(self, number: signal.Signals, within_s: float) -> None:
        """Signal it and all it started, wait for its end, and kill it where that does not come."""
        self._signal(number)
        self._waiting.join(within_s)
        if self._waiting.is_alive():
            self._signal(signal.SIGKILL)
            self._waiting.join()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def wait(self) -> int:
        """Wait for its end; return its exit status."""
        self._waiting.join()
        return int(self.popen.returncode)

    @property
    def has_ended(self) -> bool:
        return not self._waiting.is_alive()

    def _signal(self, number: signal.Signals) -> None:
        if self._waiting.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _wait(self) -> None:
        """Look at it now and then until it ends; its CPU time is exact then.

        Its peak is that of the last look: what `wait4` says of it counts this process in, too, as
        it was when it made the other one.
        """
        descriptor, tally = os.pidfd_open(self.pid), self._tally
        try:
            while not select.select([descriptor], [], [], self._look_every_s)[0]:
                with tally.changing:
                    self.look()
        finally:
            os.close(descriptor)
        with tally.changing:
            _, status, took = os.wait4(self.pid, 0)
            self.popen.returncode = os.waitstatus_to_exitcode(status)
            self.cpu_s = took.ru_utime + took.ru_stime
            tally.cpu_s += self.cpu_s
            tally.running = None
