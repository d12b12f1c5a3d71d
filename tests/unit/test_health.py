"""The health socket: who may ask, what is answered, and that no live socket is taken over."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import socket
import stat
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import aiohttp
import msgspec
import pytest

from tests.observed import wired
from transcriptd import client
from transcriptd.errors import LockHeld, Unreachable
from transcriptd.health import Health
from transcriptd.left import Result
from transcriptd.report import Report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence
    from pathlib import Path

    from transcriptd.app import Daemon
    from transcriptd.client import Answer

ALL_ARCHIVED = Result(archived=3, left=())


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)


class Asked:
    """Notes how long a sync may take and whether it seals, and ends as it is told to."""

    def __init__(self, result: Result | Exception = ALL_ARCHIVED) -> None:
        self.result = result
        self.timeouts: list[float] = []
        self.seals: list[bool] = []

    async def __call__(self, timeout_s: float, *, seal: bool) -> Result:
        self.timeouts.append(timeout_s)
        self.seals.append(seal)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@dataclass(frozen=True)
class Taken:
    session: str
    path: str
    writers: tuple[str, ...]


class TakesOver:
    """Notes what is to be taken over from whom, and answers as it is told to."""

    def __init__(self, *taken: Taken, error: Exception | None = None) -> None:
        self.taken = taken
        self.error = error
        self.asked: list[tuple[list[str], str | None]] = []

    async def __call__(self, sessions: Collection[str], machine: str | None) -> Sequence[Taken]:
        self.asked.append((list(sessions), machine))
        if self.error:
            raise self.error
        return self.taken


@asynccontextmanager
async def answering(
    daemon: Daemon,
    sync: Asked | None = None,
    take_over: TakesOver | None = None,
    **settings: str | Path,
) -> AsyncIterator[Path]:
    chosen = msgspec.structs.replace(daemon.config.health, **settings)
    async with Health(chosen, Report(daemon), sync or Asked(), take_over or TakesOver()):
        yield chosen.socket


async def get(path: Path, target: str) -> Answer:
    return await asyncio.to_thread(client.get, str(path), target)


async def post(path: Path, target: str) -> Answer:
    return await asyncio.to_thread(client.post, str(path), target)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_socket_is_ours_alone(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon, answering(daemon) as path:
        assert (mode(path), mode(path.parent)) == (0o600, 0o700)


async def test_the_socket_is_not_open_to_others_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look_first(path: Path, wanted: int) -> None:
        seen.append(mode(path))
        os.chmod(path, wanted)  # noqa: PTH101 - Path.chmod is what is replaced

    monkeypatch.setattr(pathlib.Path, "chmod", look_first)
    async with wired(tmp_path) as daemon, answering(daemon):
        assert [each & 0o077 for each in seen] == [0]


async def test_the_umask_is_what_it_was_before(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        async with wired(tmp_path) as daemon, answering(daemon):
            assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


async def test_a_live_socket_is_never_taken_over(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon, answering(daemon) as path:
        with pytest.raises(LockHeld) as caught:
            async with answering(daemon):
                pytest.fail("two answer on one socket")
        assert caught.value.pid == os.getpid()
        assert (await get(path, "/healthz")).is_ok


async def test_a_socket_that_a_killed_daemon_left_behind_is_replaced(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        left = daemon.config.health.socket
        left.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(left))
        async with answering(daemon) as path:
            assert (await get(path, "/healthz")).is_ok


async def test_the_socket_goes_with_the_daemon(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        async with answering(daemon) as path:
            assert path.exists()
        assert not path.exists()


async def test_a_file_in_the_place_of_the_socket_is_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "mine"
    directory.mkdir(mode=0o700)
    precious = directory / "notes.txt"
    precious.write_text("keep me")
    async with wired(tmp_path) as daemon, answering(daemon, socket=precious):
        assert precious.read_text() == "keep me"
        assert "health_socket" in daemon.status.degraded
    assert precious.read_text() == "keep me"


async def test_a_directory_that_others_may_write_to_is_refused_and_the_daemon_goes_on(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o777)
    async with wired(tmp_path) as daemon, answering(daemon, socket=directory / "d.sock") as path:
        assert not path.exists()
        trouble = daemon.status.degraded["health_socket"]
    assert "other users may write" in trouble.message
    assert trouble.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
async def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "theirs"
    directory.mkdir(mode=0o700)
    os.chown(directory, 12345, -1)
    async with wired(tmp_path) as daemon, answering(daemon, socket=directory / "d.sock"):
        assert "another user" in daemon.status.degraded["health_socket"].message


async def test_readiness_begins_with_the_end_of_the_start_and_ends_with_the_stop(
    tmp_path: Path,
) -> None:
    async with wired(tmp_path) as daemon, answering(daemon) as path:
        before = await get(path, "/readyz")
        await daemon.start()
        while_running = await get(path, "/readyz")
        daemon.status.stopping = True
        after = await get(path, "/readyz")
        assert (await get(path, "/healthz")).is_ok
    assert [before.status, while_running.status, after.status] == [503, 200, 503]


async def test_the_status_is_the_report(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon, answering(daemon) as path:
        said = (await get(path, "/status")).json()
        assert set(said) == set(Report(daemon).document())
        assert (said["schema"], said["pid"]) == (1, os.getpid())


async def test_who_asks_says_what_counts_as_soon(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon, answering(daemon) as path:
        usual = (await get(path, "/status")).json()
        other = (await get(path, "/status?expiring=86400")).json()
    assert usual["expiring_within_s"] == 7 * 86_400
    assert other["expiring_within_s"] == 86_400


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon"])
async def test_what_is_no_number_of_seconds_is_refused(tmp_path: Path, seconds: str) -> None:
    async with wired(tmp_path) as daemon, answering(daemon) as path:
        answer = await get(path, f"/status?expiring={seconds}")
    assert answer.status == 400


async def test_any_number_of_seconds_can_be_asked_for(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon, answering(daemon) as path:
        answers = [await get(path, f"/status?expiring={each}") for each in ("0", "1e300")]
    assert [answer.status for answer in answers] == [200, 200]


async def test_the_metrics_are_in_prometheus_own_format(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon, answering(daemon) as path:
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as session:
            answer = await session.get("http://localhost/metrics")
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert "transcriptd_build_info{" in await answer.text()


async def test_a_sync_answers_200_when_all_is_archived_and_503_with_what_is_left(
    tmp_path: Path,
) -> None:
    left = {"session": "s", "state": "quarantined", "reason": "invalid_json"}
    asked = Asked()
    async with wired(tmp_path) as daemon, answering(daemon, asked) as path:
        done = await post(path, "/sync?timeout=7")
        asked.result = replace(ALL_ARCHIVED, left=(left,))
        not_done = await post(path, "/sync?timeout=7")
    assert (done.status, done.json()) == (200, {"archived": 3, "left": []})
    assert (not_done.status, not_done.json()["left"]) == (503, [left])
    assert asked.timeouts == [7, 7]


@pytest.mark.parametrize(
    ("query", "seals"),
    [
        ("", False), ("?timeout=5", False), ("?seal=0", False), ("?seal=", False),
        ("?seal=yes", False), ("?seal=1", True), ("?timeout=5&seal=1", True),
        ("?seal=1&timeout=5", True),
    ],
)  # fmt: skip
async def test_a_sync_seals_only_where_that_was_asked_for(
    tmp_path: Path, query: str, *, seals: bool
) -> None:
    asked = Asked()
    async with wired(tmp_path) as daemon, answering(daemon, asked) as path:
        assert (await post(path, f"/sync{query}")).is_ok
    assert asked.seals == [seals]


async def test_a_sync_that_may_not_take_that_long_seals_nothing(tmp_path: Path) -> None:
    asked = Asked()
    async with wired(tmp_path) as daemon, answering(daemon, asked) as path:
        assert (await post(path, "/sync?timeout=0&seal=1")).status == 400
    assert asked.seals == []


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", ([], None)),
        ("?session=a&session=b", (["a", "b"], None)),
        ("?from=desk", ([], "desk")),
        ("?session=a&from=desk", (["a"], "desk")),
    ],
)
async def test_sessions_are_taken_over_as_they_were_named(
    tmp_path: Path, query: str, asked: tuple[list[str], str | None]
) -> None:
    takes = TakesOver(Taken("a", "/r/a.json", ("desk.1", "desk.2")))
    async with wired(tmp_path) as daemon, answering(daemon, None, takes) as path:
        answer = await post(path, f"/takeover{query}")
    rows = [{"session": "a", "path": "/r/a.json", "writers": ["desk.1", "desk.2"]}]
    assert (answer.status, answer.json()) == (200, {"taken": rows})
    assert takes.asked == [asked]


async def test_a_store_that_fails_while_a_session_is_taken_over_is_named(tmp_path: Path) -> None:
    takes = TakesOver(error=Unreachable("no answer", hint="is it up?"))
    async with wired(tmp_path) as daemon, answering(daemon, None, takes) as path:
        answer = await post(path, "/takeover")
    assert (answer.status, answer.json()) == (503, {"error": "no answer", "hint": "is it up?"})


@pytest.mark.parametrize("said", ["0", "-1", "nan", "inf", "soon", "1e9", ""])
async def test_a_timeout_that_is_none_is_refused(tmp_path: Path, said: str) -> None:
    asked = Asked()
    async with wired(tmp_path) as daemon, answering(daemon, asked) as path:
        answer = await post(path, f"/sync?timeout={said}")
    assert (answer.status, asked.timeouts) == (400, [])


async def test_what_goes_wrong_inside_is_not_told_outside(tmp_path: Path) -> None:
    asked = Asked(RuntimeError("canary-4711"))
    async with wired(tmp_path) as daemon, answering(daemon, asked) as path:
        answer = await post(path, "/sync")
        assert (await get(path, "/healthz")).is_ok
    assert answer.status == 500
    assert json.loads(answer.body) == {"error": "internal error"}


async def test_what_does_not_exist_is_answered_with_json(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon, answering(daemon) as path:
        assert (await get(path, "/nothing")).json() == {"error": "not found"}
        assert (await get(path, "/sync")).status == 405


async def test_tcp_answers_questions_and_takes_no_orders(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asked, takes = Asked(), TakesOver()
    async with (
        wired(tmp_path) as daemon,
        answering(daemon, asked, takes, listen=f"127.0.0.1:{port}"),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        assert (await session.get("/status")).status == 200
        assert (await session.get("/metrics")).status == 200
        assert (await session.post("/sync")).status == 404
        assert (await session.post("/takeover")).status == 404
    assert (asked.timeouts, takes.asked) == ([], [])


async def test_a_port_that_is_taken_leaves_the_socket_answering(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        async with wired(tmp_path) as daemon, answering(daemon, listen=listen) as path:
            assert "health_listen" in daemon.status.degraded
            assert (await get(path, "/healthz")).is_ok
