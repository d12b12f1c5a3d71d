"""transcriptd itself, as a process that is asked only from outside."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from tests.bench.agent import history
from tests.bench.meter import Child, Tally
from tests.kept import KeptInBucket, history_of
from transcriptd.client import get, post

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.contender import Ground, Usage

_STARTS_WITHIN_S = 120.0
_STOPS_WITHIN_S = 60.0


class Daemon:
    """The daemon with its defaults, apart from the debounce where it is hurried."""

    name: ClassVar[str] = "transcriptd"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._tally = Tally()
        self._child: Child | None = None

    @classmethod
    def missing(cls) -> str:
        return ""

    @property
    def socket(self) -> str:
        return str(self._ground.home / "s")

    @property
    def log(self) -> Path:
        return self._ground.home / "log"

    def start(self) -> None:
        self._child = Child(
            [sys.executable, "-m", "transcriptd", "run"],
            tally=self._tally,
            home=self._ground.home,
            environ=self._environ(),
            log=self.log,
        )
        ends = time.monotonic() + _STARTS_WITHIN_S
        while not self._is_ready():
            if self._child.has_ended or time.monotonic() > ends:
                raise RuntimeError(self.log.read_text("utf-8")[-2000:])
            time.sleep(0.01)

    def settle(self, within_s: float) -> None:
        with suppress(OSError):
            post(self.socket, f"/sync?timeout={within_s:g}", within_s + 5)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def usage(self) -> Usage:
        return self._tally.usage()

    def expected(self, document: bytes) -> bytes:
        return history(document)

    def held(self, session_id: str) -> bytes | None:
        return history_of(KeptInBucket(self._ground.server), session_id)

    def _end(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.end(number, _STOPS_WITHIN_S)
            self._child = None

    def _is_ready(self) -> bool:
        try:
            return get(self.socket, "/readyz", 1).is_ok
        except OSError:
            return False

    def _environ(self) -> dict[str, str]:
        server = self._ground.server
        return {
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "TRANSCRIPTD_SOURCES__CODETETHER__ROOTS": str(self._ground.sessions),
            "TRANSCRIPTD_STATE_DIR": str(self._ground.home / "state"),
            "TRANSCRIPTD_HEALTH__SOCKET": self.socket,
            "TRANSCRIPTD_MACHINE": "bench",
            "CODETETHER_HISTORY_S3_ENDPOINT": server.endpoint,
            "CODETETHER_HISTORY_S3_BUCKET": server.bucket,
            "CODETETHER_HISTORY_S3_ACCESS_KEY": server.access_key,
            "CODETETHER_HISTORY_S3_SECRET_KEY": server.secret_key,
            **({"TRANSCRIPTD_DEBOUNCE__QUIET": "0.05"} if self._ground.hurried else {}),
        }
