"""Runs `transcriptd` in processes that are forked from one which has loaded its modules already.

A process that is started spends most of its time on loading them. One that is forked is like it in
all else: arguments, environment, directory, streams, and how it ends. What is about the start of a
process, or sends it signals, starts one (`Home.start`).

Run as a program, it is the process that the others are forked from.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module, reload
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPO = Path(__file__).parents[1]
INHERITED = {"PATH", "PYTHONPATH", "TMPDIR"}
LONGEST = 1 << 17  # bytes of a request
LOADED_LATE = ("transcriptd.stores.local", "transcriptd.stores.s3", "aiobotocore.session")


class Ended(NamedTuple):
    """How a process ended: its exit status, as `subprocess` says it, and what it wrote."""

    status: int
    out: bytes
    err: bytes


def run(arguments: Sequence[str], environ: Mapping[str, str], cwd: Path, within_s: float) -> Ended:
    """Run `transcriptd` to its end; if that takes longer than `within_s`, it is killed."""
    request = json.dumps([list(arguments), dict(environ), str(cwd), within_s]).encode()
    assert len(request) < LONGEST
    with socket.socket(socket.AF_UNIX) as asking, ThreadPoolExecutor(2) as reading:
        asking.connect(_forking())
        (out, its_out), (err, its_err) = os.pipe(), os.pipe()
        said = [reading.submit(_read, each) for each in (out, err)]
        try:
            socket.send_fds(asking, [request], [its_out, its_err])
        finally:
            os.close(its_out)
            os.close(its_err)
        return Ended(int(asking.recv(16)), *(each.result() for each in said))


def _read(pipe: int) -> bytes:
    with open(pipe, "rb") as file:
        return file.read()


@cache
def _forking() -> str:
    """Start the process that others are forked from; return the path of its socket.

    It ends with this one.
    """
    place = tempfile.mkdtemp(prefix="td-forked-")
    path, (its_alive, alive) = f"{place}/socket", os.pipe()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listening.fileno()), str(its_alive)],
            env={name: os.environ[name] for name in INHERITED & set(os.environ)},
            cwd=REPO,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(listening.fileno(), its_alive),
        )
    os.close(its_alive)

    def end() -> None:
        os.close(alive)
        process.wait()
        shutil.rmtree(place)

    atexit.register(end)
    return path


def _fork(listening: socket.socket, alive: int) -> socket.socket:
    """Fork a process for each connection, and return in it. Ends with who started this."""
    while True:
        ready, _, _ = select.select([listening.fileno(), alive], [], [])
        if alive in ready:
            os._exit(0)
        asking, _ = listening.accept()
        if not os.fork():
            listening.close()
            os.close(alive)
            return asking
        asking.close()


def _keep(process: int, asking: socket.socket, within_s: float) -> NoReturn:
    """Wait for the end of a process, and tell of it."""
    signal.signal(signal.SIGALRM, lambda *_: os.kill(process, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, within_s)
    _, status = os.waitpid(process, 0)
    asking.send(b"%d" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(arguments: list[str], environ: dict[str, str], cwd: str, streams: list[int]) -> None:
    """Be as a process that was started so."""
    for stream, number in zip(streams, (1, 2), strict=True):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    sys.argv[1:] = arguments
    reload(import_module("transcriptd.failpoint"))  # it looks at the environment once


def _main() -> None:
    listening = socket.socket(fileno=int(sys.argv[1]))
    verbs = import_module("transcriptd.cli")
    for name in (
        *(f"transcriptd.cli.{each.name}" for each in iter_modules(verbs.__path__)),
        *LOADED_LATE,
    ):
        import_module(name)
    gc.freeze()  # else the first collection would copy all that is shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    asking = _fork(listening, int(sys.argv[2]))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams, _, _ = socket.recv_fds(asking, LONGEST, 2)
    arguments, environ, cwd, within_s = json.loads(request)
    if process := os.fork():
        _keep(process, asking, within_s)
    asking.close()
    _become(arguments, environ, cwd, streams)
    import_module("transcriptd.__main__").main()


if __name__ == "__main__":
    _main()
