"""Descriptors, disk and memory are short, or there is nothing to do: the daemon stays in bounds."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.daemon import eventually, running, stored
from tests.documents import conversation, document, history, message, save
from tests.kept import KeptInBucket, KeptInDirectory, history_of
from tests.servers import create_bucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.home import Home
    from tests.proxy import FaultProxy
    from tests.servers import Pool, Server

MB = 1_000_000
SEVERAL = [f"s{number:03}" for number in range(100)]
FEW_DESCRIPTORS = ("sh", "-c", 'ulimit -n 40 && exec "$@"', "sh")


def put(home: Home, length: int, session_id: str = "one") -> Path:
    return save(home.sessions, document(conversation(length), session_id))


async def test_with_few_file_descriptors_everything_is_archived(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    async with running(home, under=FEW_DESCRIPTORS) as daemon:
        for length in (1, 2):
            for session_id in SEVERAL:
                put(home, length, session_id)
            assert (await daemon.sync()).is_ok
            kept, wanted = KeptInBucket(server), history(conversation(length))
            assert [s for s in SEVERAL if history_of(kept, s) != wanted] == []
        assert daemon.lines("session.attempt_failed", reason="internal_error") == []
        assert daemon.lines("session.quarantined") == []
        assert await daemon.stop() == 0


async def test_with_a_full_disk_it_goes_on_without_a_journal_and_recovers_by_itself(
    home: Home,
) -> None:
    kept = KeptInDirectory(home.archive)
    with _small_disk(home.state):
        async with running(home) as daemon:
            put(home, 1)
            assert (await daemon.sync()).is_ok
            filler = home.state / "filler"
            _fill(filler)
            put(home, 2)
            await daemon.logged("daemon.degraded", reason="journal")
            for length in (3, 4):
                put(home, length)
                await eventually(
                    lambda n=length: history_of(kept, "one") == history(conversation(n))
                )
            put(home, 2, "two")
            await eventually(lambda: history_of(kept, "two") == history(conversation(2)))
            said = await daemon.status()
            assert [trouble["reason"] for trouble in said["degraded"]] == ["journal"]
            filler.unlink()
            await daemon.logged("daemon.recovered", reason="journal")
            assert (await daemon.status())["degraded"] == []
            assert await daemon.stop() == 0
        known = {"one": len(history(conversation(4))), "two": len(history(conversation(2)))}
        assert dict(_ask_journal(home, "SELECT id, length FROM sessions")) == known
        assert len(daemon.lines("daemon.degraded")) == len(daemon.lines("daemon.recovered")) == 1


async def test_a_large_document_takes_memory_in_proportion(home: Home, servers: Pool) -> None:
    server = create_bucket(servers.get("swift"))
    home.use(server)
    text = "the quick brown fox — " * 2_500
    messages = [message("user", f"{number} {text}") for number in range(1_000)]
    async with running(home) as daemon:
        put(home, 1)
        assert (await daemon.sync()).is_ok  # all that is loaded at first use is loaded
        process = Path(f"/proc/{daemon.process.pid}")
        process.joinpath("clear_refs").write_text("5")  # the peak begins anew
        idle = _memory(process, "VmRSS")
        size = save(home.sessions, document(messages, "large")).stat().st_size
        assert size > 55 * MB
        await daemon.logged("session.archived", session="large")
        assert (await daemon.sync()).is_ok
        peak = _memory(process, "VmHWM")
    assert history_of(KeptInBucket(server), "large") == history(messages)
    assert peak - idle <= 2.3 * size, f"{(peak - idle) / size:.2f} times the document"


async def test_while_nothing_is_new_nothing_is_sent(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    path = put(home, 2)
    async with running(home, TRANSCRIPTD_WATCH__RESCAN="0.05") as daemon:
        await eventually(lambda: stored(server, "history/one/session.json"))
        assert (await daemon.sync()).is_ok
        before = len(proxy.requests)
        for second in range(10):  # each is a look at the file, and sees that nothing changed
            os.utime(path, (second, second))
            await eventually(lambda s=second: _looked_at(home) == s * 10**9)
        assert (await daemon.sync()).is_ok
        assert await daemon.stop() == 0
    async with running(home) as daemon:
        assert (await daemon.sync()).is_ok
    assert [(s.method, s.key) for s in proxy.requests[before:]] == []


def _looked_at(home: Home) -> object:
    return _ask_journal(home, "SELECT mtime_ns FROM sessions")[0][0]


def _ask_journal(home: Home, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{home.state}/journal.db?mode=ro", uri=True)) as journal:
        return journal.execute(query).fetchall()


def _memory(process: Path, name: str) -> int:
    """Return a figure of a process's memory, in bytes."""
    lines = process.joinpath("status").read_text("ascii").splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


@contextmanager
def _small_disk(path: Path) -> Iterator[None]:
    path.mkdir(parents=True)
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(path)]
    mounted = subprocess.run(mounting, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def _fill(path: Path) -> None:
    """Write until nothing fits any more."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
