"""CodeTether's own strategy (`tests.bench.baseline`) as a contender."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tests.bench.agent import history
from tests.bench.meter import Child, Tally
from tests.kept import KeptInBucket

if TYPE_CHECKING:
    from tests.bench.contender import Ground, Usage

_ROOT = str(Path(__file__).parents[3])
_KEY = "history/{}/history.jsonl"
_STARTS_WITHIN_S = 30.0
_STOPS_WITHIN_S = 10.0


class Whole:
    """The whole history at each save; a save during an upload is dropped."""

    name: ClassVar[str] = "whole object"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._tally = Tally()
        self._child: Child | None = None
        self._words = count(1)

    @classmethod
    def missing(cls) -> str:
        return ""

    def start(self) -> None:
        server = self._ground.server
        self._child = Child(
            [sys.executable, "-m", "tests.bench.baseline", self._ground.sessions],
            tally=self._tally,
            home=self._ground.home,
            environ={
                "PYTHONPATH": os.pathsep.join((_ROOT, os.environ.get("PYTHONPATH", ""))),
                "ENDPOINT": server.endpoint,
                "BUCKET": server.bucket,
                "AWS_ACCESS_KEY_ID": server.access_key,
                "AWS_SECRET_ACCESS_KEY": server.secret_key,
                "AWS_DEFAULT_REGION": server.region,
            },
            log=self._ground.home / "log",
            talks=True,
        )
        if not self._hears(b"watching\n", _STARTS_WITHIN_S):
            raise RuntimeError((self._ground.home / "log").read_text("utf-8")[-2000:])

    def settle(self, within_s: float) -> None:
        """Wait for what is being put; more it will not do."""
        assert self._child is not None
        assert self._child.popen.stdin is not None
        word = b"%d\n" % next(self._words)
        self._child.popen.stdin.write(word)
        self._hears(word, within_s)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def usage(self) -> Usage:
        return self._tally.usage()

    def expected(self, document: bytes) -> bytes:
        return history(document)

    def held(self, session_id: str) -> bytes | None:
        found = KeptInBucket(self._ground.server).look(_KEY.format(session_id))
        return found.body if found else None

    def _hears(self, word: bytes, within_s: float) -> bool:
        """Wait for a line; say whether it came."""
        assert self._child is not None
        output = self._child.popen.stdout
        assert output is not None
        ends = time.monotonic() + within_s
        while select.select([output], [], [], max(0.0, ends - time.monotonic()))[0]:
            line = output.readline()
            if line in {word, b""}:
                return line == word
        return False

    def _end(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.end(number, _STOPS_WITHIN_S)
            self._child = None
