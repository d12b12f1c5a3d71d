"""A daemon in the test's own process, wired by `app` on a home of its own.

`wired` is a daemon that has scanned nothing yet, so that a test says what it is told; `running`
also works and answers on its socket. `call` runs the command line beside it, as a process.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transcriptd.app import Daemon
from transcriptd.config import load
from transcriptd.database import Database
from transcriptd.health import Health
from transcriptd.report import Report

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    import pytest

    from transcriptd.config import Config


def traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each statement that is asked of a journal through connections opened from now on."""
    asked: list[str] = []
    connect = Database.connect

    def noting(database: Database) -> sqlite3.Connection:
        connection = connect(database)
        connection.set_trace_callback(asked.append)
        return connection

    monkeypatch.setattr(Database, "connect", noting)
    return asked


@dataclass(frozen=True, slots=True)
class Said:
    """What a verb printed, and its exit status."""

    status: int
    out: str
    err: str


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return all that a daemon and a verb on this home see."""
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "CODETETHER_DATA_DIR": str(home / "data"),
        # Short, so that the socket lies on this home, too: its path may have 107 bytes.
        "TRANSCRIPTD_STATE_DIR": str(home / "state"),
        "TRANSCRIPTD_MACHINE": "m1",
        "TRANSCRIPTD_DEBOUNCE__QUIET": "0.01",
        **more,
    }


def configuration(home: Path, **more: str) -> Config:
    return load({}, environment(home, **more), None)


def sessions(home: Path) -> Path:
    directory = home / "data" / "sessions"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@asynccontextmanager
async def wired(home: Path, **more: str) -> AsyncIterator[Daemon]:
    async with Daemon(configuration(home, **more), environment(home, **more)) as daemon:
        yield daemon


@asynccontextmanager
async def running(home: Path, **more: str) -> AsyncIterator[Daemon]:
    async with wired(home, **more) as daemon:
        health = Health(daemon.config.health, Report(daemon), daemon.sync, daemon.take_over)
        async with health, asyncio.TaskGroup() as tasks:
            await daemon.start()
            tasks.create_task(daemon.run(), name="daemon")
            yield daemon
            daemon.stop()


async def call(
    home: Path, *arguments: str, more: Mapping[str, str] = {}, cwd: Path | None = None
) -> Said:
    """Run `transcriptd` with these arguments to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "transcriptd", *arguments,
        env=environment(home, **more), cwd=cwd or home,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return Said(process.returncode or 0, out.decode(), err.decode())
