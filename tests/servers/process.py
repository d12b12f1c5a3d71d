"""Owns child processes: their ports, logs, readiness and end. Knows nothing of S3."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.server import Missing, StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

START_WITHIN = 30.0
STOP_WITHIN = 3.0
LOG_TAIL = 4000
MEMORY = Path("/dev/shm")
# Becomes the program. A killed test run has no chance to stop it: the kernel does, on Linux.
DIES_WITH_PARENT = """\
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A running child, the leader of its own process group."""

    popen: subprocess.Popen[bytes]
    log: Path

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-LOG_TAIL:]


def free_port() -> int:
    """Return a port nobody listens on, outside the range outgoing connections are given."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(name: str, advice: str) -> str:
    """Find an executable on PATH or where `.ci/run` puts it, or say how to install it."""
    built = os.environ.get("TRANSCRIPTD_TEST_BIN") or Path.home() / ".cache/transcriptd-tests/bin"
    places = os.pathsep.join((str(built), os.environ["PATH"]))
    if found := shutil.which(name, path=places):
        return found
    raise Missing(f"{name} is not installed: {advice}")


def fast_parent() -> Path | None:
    """Return a directory in memory that takes extended attributes, if there is one."""
    probe = MEMORY / f"transcriptd-xattr-{os.getpid()}"
    try:
        probe.touch()
        os.setxattr(probe, "user.probe", b"1")
    except OSError:
        return None
    finally:
        probe.unlink(missing_ok=True)
    return MEMORY


@contextmanager
def running(
    argv: Iterable[str | Path], home: Path, env: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run a program in `home` with its log there, and end its process group afterwards."""
    command = [str(part) for part in argv]
    log = home / f"{Path(command[0]).name}.log"
    with log.open("ab") as output:
        popen = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", DIES_WITH_PARENT, *command],
            cwd=home,
            env={**os.environ, "HOME": str(home), "TMPDIR": str(home), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Process(popen, log)
    finally:
        _stop(popen)


def wait_until_ready(ready: Callable[[], bool], *processes: Process) -> None:
    """Poll `ready` until it holds; quote the logs if a process ends or the time is over."""
    deadline = time.monotonic() + START_WITHIN
    while not ready():
        dead = [process for process in processes if process.popen.poll() is not None]
        if dead or time.monotonic() > deadline:
            what = f"ended with {dead[0].popen.returncode}" if dead else "did not answer in time"
            logs = "\n".join(f"{p.log}:\n{p.log_tail()}" for p in dead or processes)
            raise StartError(f"a server {what}\n{logs}")
        time.sleep(0.02)


def _stop(popen: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(popen.pid, number)
        except ProcessLookupError:
            break
        try:
            popen.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            continue
        break
    popen.wait()
