"""The daemon through all its lives: started, killed, stopped, heard and asked.

Its log is taken in line by line and not kept: a soak is long.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from tests.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.home import Home

_KEPT = 200


class HeardDaemon(Daemon):
    """One life. Each line of its log is told to `hear`; the last ones are kept as `output`."""

    def __init__(self, home: Home, hear: Callable[[dict[str, Any]], None], **environ: str) -> None:
        super().__init__(home, **environ)
        self._hear = hear

    async def _read(self) -> None:
        last: deque[bytes] = deque(maxlen=_KEPT)
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            last.append(line)
            self.output = b"".join(last)
            if line.startswith(b"{"):
                event = json.loads(line)
                if event["event"] == "daemon.started":
                    self.events.append(event)
                self._hear(event)


class Subject:
    """Runs a daemon on a home, one process after the other. `life` counts them.

    `said` counts the events of its log. `faults` are sentences about errors it
    logged and lives that ended by themselves.
    """

    def __init__(self, home: Home, hear: Callable[[dict[str, Any]], None], **environ: str) -> None:
        self.home = home
        self.life = 0
        self.said: Counter[str] = Counter()
        self.faults: list[str] = []
        self.daemon: HeardDaemon | None = None  # while it is meant to run
        self._hear = hear
        self._environ = environ

    async def start(self) -> None:
        daemon = HeardDaemon(self.home, self._take_in, **self._environ)
        self.life += 1
        try:
            await daemon.start()
        except BaseException:  # also where the soak itself is told to end
            await daemon.kill()
            raise
        self.daemon = daemon

    async def stop(self) -> None:
        """End it as a service manager does."""
        daemon = self._let_go()
        status = await daemon.stop()
        if status:
            self.faults.append(f"told to stop, it ended with status {status}: {_end(daemon)}")

    async def kill(self) -> None:
        await self._let_go().kill()

    async def living(self) -> HeardDaemon:
        """Return the daemon that runs; where it ended by itself, it is started again."""
        if self.daemon is None or self.daemon.process.returncode is not None:
            if self.daemon:
                await self.kill()
            await self.start()
        assert self.daemon is not None
        return self.daemon

    def _let_go(self) -> HeardDaemon:
        daemon, self.daemon = self.daemon, None
        assert daemon is not None, "it does not run"
        if daemon.process.returncode is not None:
            self.faults.append(f"it ended by itself: {_end(daemon)}")
        return daemon

    def _take_in(self, event: dict[str, Any]) -> None:
        level, name = event.get("level"), event["event"]
        self.said[name if level == "info" else f"{name} ({level})"] += 1
        if level == "error" or event.get("reason") == "internal_error":
            self.faults.append(f"it logged {json.dumps(event)[:2000]}")
        self._hear(event)


def _end(daemon: HeardDaemon) -> str:
    return daemon.output.decode(errors="replace")[-2000:]
