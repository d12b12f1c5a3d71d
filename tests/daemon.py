"""The real daemon as a process of its own, for tests to watch, stop and kill.

Runs `transcriptd run` in a `Home`, waits until it is ready, reads its log lines, and asks its
socket. Knows nothing of stores and faults.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tests.kept import KeptInBucket, history_of
from transcriptd import client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.home import Home
    from tests.servers import Server

T = TypeVar("T")

PATIENCE_S = 30.0
QUICK = {"TRANSCRIPTD_DEBOUNCE__QUIET": "0.05", "TRANSCRIPTD_MACHINE": "m1"}


async def eventually(holds: Callable[..., T], within: float = PATIENCE_S) -> T:
    """Wait until something outside this process holds, and return it."""
    ends = time.monotonic() + within
    while not (found := await asyncio.to_thread(holds)):
        if time.monotonic() > ends:
            raise TimeoutError(f"not within {within:g} s: {getattr(holds, '__qualname__', holds)}")
        await asyncio.sleep(0.02)
    return found


class Daemon:
    """One run of the daemon. `events` are its log lines so far."""

    def __init__(self, home: Home, *, under: Sequence[str] = (), **environ: str) -> None:
        """Prepare a run. `under`: a command that ends by executing the one it is given."""
        self.home = home
        self.events: list[dict[str, Any]] = []
        self.output = b""
        self._under = under
        self._environ = QUICK | home.environ | environ
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, *, ready: bool = True) -> Self:
        inherited = {"PATH", "PYTHONPATH"} & set(os.environ)
        environ = {name: os.environ[name] for name in inherited}
        self._process = await asyncio.create_subprocess_exec(
            *self._under, sys.executable, "-m", "transcriptd", "run",
            env={**environ, "HOME": str(self.home.path), **self._environ},
            cwd=self.home.path,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read(), name="daemon log")
        if ready:
            await self.logged("daemon.started")
        return self

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "not started"
        return self._process

    @property
    def socket(self) -> str:
        return str(self.home.state / "run" / "transcriptd.sock")

    async def status(self, *, everything: bool = True) -> dict[str, Any]:
        found: dict[str, Any] = (await self.ask(f"/status?all={int(everything)}")).json()
        return found

    async def ask(self, target: str) -> client.Answer:
        return await asyncio.to_thread(client.get, self.socket, target)

    async def sync(self, within: float = PATIENCE_S, *, seal: bool = False) -> client.Answer:
        """Make everything due now, and wait until it is archived.

        `seal`: each base is to hold all of it.
        """
        return await asyncio.to_thread(
            client.post, self.socket, f"/sync?timeout={within}&seal={seal:d}", within + 5
        )

    async def state_of(self, session_id: str) -> dict[str, Any]:
        sessions = (await self.status())["sessions"]
        return next((s for s in sessions if s["id"] == session_id), {"state": "unknown"})

    async def reports(self, holds: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Wait until the status says what `holds` looks for."""
        found: dict[str, Any] = {}

        def asked() -> bool:
            nonlocal found
            found = client.get(self.socket, "/status?all=1").json()
            return bool(holds(found))

        await eventually(asked)
        return found

    async def current(self, sessions: int) -> dict[str, Any]:
        """Wait until there are that many sessions and all are archived."""
        return await self.reports(
            lambda s: s["totals"]["sessions"] == s["totals"]["states"]["current"] == sessions
        )

    async def archives(self, session_id: str, length: int, state: str = "current") -> None:
        """Wait until just that many bytes of a session are archived, by an event or a scan."""
        wanted = (state, length)
        await self.reports(
            lambda said: [
                each
                for each in said["sessions"]
                if each["id"] == session_id and (each["state"], each["bytes"]) == wanted
            ]
        )

    async def degraded(self, *reasons: str) -> None:
        """Wait until just this is degraded."""
        await self.reports(lambda s: {d["reason"] for d in s["degraded"]} == {*reasons})

    async def logged(self, event: str, **fields: object) -> dict[str, Any]:
        """Wait for a log line; raises where the process ends without it."""

        def found() -> dict[str, Any] | None:
            return next(iter(self.lines(event, **fields)), None)

        def ended() -> bool:
            return bool(found()) or self.process.returncode is not None

        await eventually(ended)
        line = found()
        assert line is not None, self.output.decode()
        return line

    def lines(self, event: str, **fields: object) -> list[dict[str, Any]]:
        return [
            line
            for line in self.events
            if line["event"] == event and fields.items() <= line.items()
        ]

    async def stop(self) -> int:
        """Ask it to stop; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.ended()

    async def ended(self) -> int:
        """Wait until the process is gone; return its exit status."""
        assert self._reading is not None
        async with asyncio.timeout(PATIENCE_S + 10):
            status = await self.process.wait()
            await self._reading
        return status

    def suspend(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.output += line
            if line.startswith(b"{"):
                self.events.append(json.loads(line))


@asynccontextmanager
async def running(
    home: Home, *, under: Sequence[str] = (), **environ: str
) -> AsyncIterator[Daemon]:
    """Run the daemon until the block ends; what is left of it then is killed."""
    daemon = Daemon(home, under=under, **environ)
    try:
        yield await daemon.start()
    finally:
        await daemon.kill()


def archived(server: Server, session_id: str) -> bytes | None:
    """Return a session's history on a server, its tail included, read without our code."""
    return history_of(KeptInBucket(server), session_id)


def stored(server: Server, key: str) -> bytes | None:
    """Return one object on a server."""
    found = KeptInBucket(server).look(key)
    return found.body if found else None
