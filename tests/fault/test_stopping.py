"""The daemon is told to stop, or another one is started beside it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.daemon import Daemon, eventually, running
from tests.documents import conversation, document, history, save
from tests.kept import Kept, KeptInBucket, KeptInDirectory, history_of
from tests.proxy import BlackHole

if TYPE_CHECKING:
    from tests.home import Home
    from tests.proxy import FaultProxy
    from tests.servers import Server

BACKLOG = [f"s{number:03}" for number in range(200)]
FEW = BACKLOG[:5]
LATER = {"TRANSCRIPTD_DEBOUNCE__QUIET": "60", "TRANSCRIPTD_DEBOUNCE__MAX_WAIT": "60"}
DRAIN = "TRANSCRIPTD_DRAIN"
SLACK_S = 5.0  # for a busy machine


def put_all(home: Home, sessions: list[str]) -> None:
    for session_id in sessions:
        save(home.sessions, document(conversation(2, about=session_id), session_id))


def unarchived(kept: Kept, sessions: list[str]) -> list[str]:
    return [s for s in sessions if history_of(kept, s) != history(conversation(2, about=s))]


async def test_a_stop_with_a_backlog_archives_all_of_it(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    async with running(home, **LATER) as daemon:
        put_all(home, BACKLOG)
        await daemon.reports(lambda said: said["totals"]["backlog"] == len(BACKLOG))
        assert proxy.count("PUT") == 0, "this is no backlog"
        assert await daemon.stop() == 0
    assert unarchived(KeptInBucket(server), BACKLOG) == []
    (drained,) = daemon.lines("daemon.drained")
    assert drained["left"] == 0


async def test_a_stop_archives_what_was_saved_right_before_it(home: Home) -> None:
    async with running(home, **LATER) as daemon:
        put_all(home, FEW)
        assert await daemon.stop() == 0
    assert unarchived(KeptInDirectory(home.archive), FEW) == []


async def test_whoever_started_it_with_nohup_may_close_the_terminal(home: Home) -> None:
    async with running(home, under=("nohup",)) as daemon:
        daemon.process.send_signal(signal.SIGHUP)
        put_all(home, FEW)
        await eventually(lambda: unarchived(KeptInDirectory(home.archive), FEW) == [])
        assert await daemon.stop() == 0


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name
)
async def test_a_stop_while_the_store_is_down_ends_in_time_and_the_next_start_goes_on(
    home: Home, proxy: FaultProxy, server: Server, number: signal.Signals
) -> None:
    await proxy.refuse()
    put_all(home, FEW)
    heard = ("env", "--default-signal=HUP")  # also where the tests run under nohup
    async with running(home, under=heard, **{DRAIN: "2"}) as daemon:
        await daemon.logged("daemon.degraded", reason="store_unreachable")
        began = time.monotonic()
        daemon.process.send_signal(number)
        assert await daemon.ended() == 0
        assert time.monotonic() - began < 2 + SLACK_S
    (drained,) = daemon.lines("daemon.drained")
    assert drained["left"] == len(FEW)
    await proxy.accept()
    async with running(home):
        await eventually(lambda: unarchived(KeptInBucket(server), FEW) == [])


async def test_a_second_signal_ends_at_once_and_the_next_start_goes_on(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    hole = proxy.add(BlackHole())
    put_all(home, FEW)
    async with running(home, **{DRAIN: "60"}) as daemon:
        await proxy.until(lambda: hole.hits)
        daemon.process.terminate()
        await daemon.logged("daemon.draining")
        began = time.monotonic()
        daemon.process.terminate()
        assert await daemon.ended() == -signal.SIGTERM
        assert time.monotonic() - began < SLACK_S
    proxy.rules.clear()
    async with running(home):
        await eventually(lambda: unarchived(KeptInBucket(server), FEW) == [])


async def test_a_second_daemon_on_the_same_state_is_told_whose_it_is(home: Home) -> None:
    async with running(home) as first:
        second = await Daemon(home).start(ready=False)
        assert await second.ended() == os.EX_TEMPFAIL
        assert f"process {first.process.pid} holds" in second.output.decode()
        put_all(home, FEW)
        assert (await first.sync()).is_ok, "the first one was disturbed"
        assert unarchived(KeptInDirectory(home.archive), FEW) == []


async def test_a_daemon_that_was_killed_does_not_keep_the_next_one_from_starting(
    home: Home,
) -> None:
    async with running(home) as first:
        await first.kill()
    async with running(home) as second:
        assert (await second.ask("/readyz")).is_ok
        outcome = await asyncio.to_thread(home.run, "health", "--ready")
        assert outcome.status == 0
