"""What is said of very many sessions: who gets a row, what it costs, and who waits for it."""

from __future__ import annotations

import asyncio
import threading
from time import time
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from tests.agents import Claude
from tests.observed import configuration, traced, wired
from transcriptd import client
from transcriptd.cli.overview import overview
from transcriptd.cli.status import ask
from transcriptd.client import Answer
from transcriptd.health import Health
from transcriptd.model import Session, State
from transcriptd.notable import MOST_ROWS
from transcriptd.report import Report
from transcriptd.roster import Roster
from transcriptd.status import Standing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transcriptd.app import Daemon
    from transcriptd.roster import Member

MANY = MOST_ROWS + 200


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)


def session(name: str, root: str = "/sessions") -> Session:
    return Session("codetether", name, root, f"{name}.json")


def let_wait(daemon: Daemon, many: int = MANY) -> None:
    assert daemon.pool is not None
    for number in range(many):
        daemon.pool.touch(session(f"s{number:04}"))


def ids(document: Mapping[str, Any]) -> list[str]:
    return [row["id"] for row in document["sessions"]]


async def test_of_very_many_sessions_only_so_many_have_a_row(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        let_wait(daemon)
        told = Report(daemon).document()
    assert len(told["sessions"]) == MOST_ROWS


async def test_those_without_a_row_are_counted(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        let_wait(daemon)
        told = Report(daemon).document()
    assert told["sessions_left_off"] == MANY - MOST_ROWS
    assert told["totals"]["states"]["pending"] == told["totals"]["backlog"] == MANY


async def test_of_as_many_as_have_a_row_none_is_left_off(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        let_wait(daemon, MOST_ROWS)
        told = Report(daemon).document()
    assert (len(told["sessions"]), told["sessions_left_off"]) == (MOST_ROWS, 0)


async def test_who_asks_for_all_gets_all(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        let_wait(daemon)
        told = Report(daemon).document(everything=True)
    assert ids(told) == [f"s{number:04}" for number in range(MANY)]
    assert told["sessions_left_off"] == 0


async def test_the_worst_has_a_row_though_it_came_last(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        let_wait(daemon)
        daemon.status.set(session("worst"), State.QUARANTINED, "invalid_json")
        assert "worst" in ids(Report(daemon).document())


async def test_the_one_that_waits_longest_has_a_row_though_others_are_worse(
    tmp_path: Path,
) -> None:
    async with wired(tmp_path) as daemon:
        for number in range(MANY):
            daemon.status.set(session(f"s{number:04}"), State.QUARANTINED)
        daemon.status.restore(session("oldest"), Standing(State.RETRYING, time() - 1000))
        assert "oldest" in ids(Report(daemon).document())


async def test_the_first_to_be_deleted_has_a_row_though_others_are_worse(tmp_path: Path) -> None:
    claude = Claude(tmp_path)
    path = claude.says("x", uuid="going")
    async with wired(tmp_path) as daemon:
        assert daemon.pool is not None
        for number in range(MANY):
            standing = Standing(State.QUARANTINED, time() - 1000)
            daemon.status.restore(session(f"s{number:04}"), standing)
        going = daemon.sources["claude"].session(claude.projects, f"-srv-shop/{path.name}")
        assert going is not None
        daemon.pool.touch(going)
        assert "going" in ids(Report(daemon).document())


async def test_a_session_that_is_known_and_waits_has_one_row_among_all(tmp_path: Path) -> None:
    roots = ["/b", "/a/\udcff", "/a/é", "/a"]
    async with wired(tmp_path) as daemon:
        assert daemon.pool is not None
        for root in roots:
            await daemon.journal.note(session("same", root), None, State.CURRENT)
            daemon.pool.touch(session("same", root))
        told = Report(daemon).document(everything=True)
    assert [row["state"] for row in told["sessions"]] == ["pending"] * len(roots)


async def test_what_is_known_of_many_that_wait_is_read_with_few_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = traced(monkeypatch)
    async with wired(tmp_path) as daemon:
        let_wait(daemon, 1)
        Report(daemon).moment().sums()
        few = len(asked)
        let_wait(daemon, 900)
        asked.clear()
        Report(daemon).moment().sums()
    assert few <= len(asked) <= few + 2


@pytest.mark.parametrize("target", ["/status", "/status?all=1", "/metrics"])
async def test_no_session_is_looked_at_in_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    looked: list[int] = []
    age = Roster.age

    def noting(roster: Roster, member: Member) -> float | None:
        looked.append(threading.get_ident())
        return age(roster, member)

    monkeypatch.setattr(Roster, "age", noting)
    async with wired(tmp_path) as daemon:
        let_wait(daemon, 5)
        assert (await asked_of(daemon, target)).is_ok
    assert len(looked) >= 5
    assert threading.get_ident() not in looked


async def test_the_daemon_answers_while_a_long_status_is_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    row = Roster.row

    def slow(roster: Roster, member: Member) -> dict[str, Any]:
        assert answered.wait(20)
        return row(roster, member)

    monkeypatch.setattr(Roster, "row", slow)
    async with wired(tmp_path) as daemon, asyncio.TaskGroup() as tasks:
        let_wait(daemon, 5)
        path = str(daemon.config.health.socket)
        async with Health(daemon.config.health, Report(daemon), daemon.sync, daemon.take_over):
            status = tasks.create_task(asyncio.to_thread(client.get, path, "/status", 30.0))
            healthz = await asyncio.to_thread(client.get, path, "/healthz", 10.0)
            assert not status.done()
            answered.set()
            assert (healthz.is_ok, (await status).is_ok) == (True, True)


async def test_all_sessions_arrive_over_the_socket(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        let_wait(daemon)
        answer = await asked_of(daemon, "/status?all=1")
    assert ids(answer.json()) == [f"s{number:04}" for number in range(MANY)]


async def test_a_person_is_told_how_many_more_there_are(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        let_wait(daemon)
        told = Report(daemon).document()
    console = Console(width=200)
    with console.capture() as drawn:
        console.print(overview(told))
    assert f"… and {MANY - 30} more: " in drawn.get()


async def test_who_asks_for_all_waits_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def noting(path: str, target: str, timeout_s: float = 0.0) -> Answer:
        waited.append(timeout_s)
        return Answer(200, b"{}")

    monkeypatch.setattr(client, "get", noting)
    for everything in (False, True):
        ask(configuration(tmp_path), everything=everything, within_s=0)
    assert waited[0] == client.DEFAULT_TIMEOUT_S
    assert waited[1] >= 10 * waited[0]


async def asked_of(daemon: Daemon, target: str) -> Answer:
    async with Health(daemon.config.health, Report(daemon), daemon.sync, daemon.take_over):
        path = str(daemon.config.health.socket)
        return await asyncio.to_thread(client.get, path, target, 30.0)
