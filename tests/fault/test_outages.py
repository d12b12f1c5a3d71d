"""The store is away, slow, or answers with errors: nothing is lost, and nobody hammers it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tests.daemon import archived, eventually, running
from tests.documents import conversation, document, history, save
from tests.proxy import (
    EXPIRED_TOKEN,
    SERVER_ERROR,
    SLOW_DOWN,
    BlackHole,
    Drip,
    FlipByte,
    Hold,
    LoseAnswer,
    Reset,
    too_many_requests,
)

if TYPE_CHECKING:
    from tests.home import Home
    from tests.proxy import FaultProxy
    from tests.servers import Server

BODIES = r"history\.jsonl$"
SEVERAL = [f"s{number:02}" for number in range(20)]


def save_all(home: Home, length: int = 2) -> None:
    for session_id in SEVERAL:
        save(home.sessions, document(conversation(length, about=session_id), session_id))


async def all_archived(server: Server, length: int = 2) -> None:
    for session_id in SEVERAL:
        wanted = history(conversation(length, about=session_id))
        await eventually(lambda s=session_id, w=wanted: archived(server, s) == w)


async def test_a_save_while_the_upload_before_it_hangs_is_archived(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    hanging = asyncio.Event()
    save(home.sessions, document(conversation(1), "one"))
    async with running(home, TRANSCRIPTD_WATCH__RESCAN="3600") as daemon:
        # Twice, so that nothing is left to do: no other turn is to find the change by chance.
        assert (await daemon.sync()).is_ok
        assert (await daemon.sync()).is_ok
        hold = proxy.add(Hold(hanging), method="PUT", key="one/" + BODIES, times=1)
        save(home.sessions, document(conversation(2), "one"))
        await proxy.until(lambda: hold.hits)
        save(home.sessions, document(conversation(3), "one"))
        # Events come in order: once this one is archived, the change before it was noticed.
        save(home.sessions, document(conversation(1), "two"))
        await eventually(lambda: archived(server, "two"))
        assert (await daemon.state_of("one"))["state"] == "uploading"
        hanging.set()
        await eventually(lambda: archived(server, "one") == history(conversation(3)), within=8)
        await daemon.current(2)


async def test_a_store_that_is_down_at_the_start_gets_everything_once_it_is_up(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    await proxy.refuse()
    save_all(home)
    async with running(home) as daemon:
        assert (await daemon.ask("/readyz")).is_ok, "readiness waits for the store"
        await daemon.degraded("store_unreachable")
        await proxy.accept()
        await all_archived(server)
        report = await daemon.current(len(SEVERAL))
        assert report["degraded"] == []
        # One line when it begins, one when it ends: not one per session.
        assert len(daemon.lines("daemon.degraded", reason="store_unreachable")) == 1
        assert len(daemon.lines("daemon.recovered", reason="store_unreachable")) == 1
        assert daemon.lines("session.attempt_failed") == []


async def test_while_the_store_is_down_one_probe_at_a_time_is_sent(
    home: Home, proxy: FaultProxy
) -> None:
    save_all(home)
    rule = proxy.add(SERVER_ERROR)
    async with running(home) as daemon:
        await daemon.degraded("store_failing")
        in_flight = len(proxy.requests)
        began = time.monotonic()
        await proxy.until(lambda: len(proxy.requests) >= in_flight + 4, within=60)
        pauses_s = time.monotonic() - began
        # Each session had its requests in flight when the store failed, and none is tried again
        # by itself: after that, it is two requests for each probe of the gate.
        assert in_flight <= 2 * 8
        assert len(proxy.requests) <= in_flight + 2 * (4 + pauses_s)
        proxy.rules.remove(rule)
        assert (await daemon.sync()).is_ok


async def test_a_storm_of_slow_downs_costs_a_bounded_number_of_requests(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    save_all(home)
    storm = proxy.add(SLOW_DOWN, times=10)
    async with running(home) as daemon:
        await daemon.logged("daemon.degraded", reason="store_slow")
        await proxy.until(lambda: storm.hits == 10, within=90)
        await all_archived(server)
        assert (await daemon.sync()).is_ok
    # What it takes without a storm, and the ten.
    assert len(proxy.seen("PUT", BODIES)) <= len(SEVERAL) + 10
    assert len(proxy.seen(".*", BODIES)) <= 3 * len(SEVERAL) + 2 * 10


async def test_errors_at_random_lose_nothing(home: Home, proxy: FaultProxy, server: Server) -> None:
    for fault in (SLOW_DOWN, SERVER_ERROR, Reset(), LoseAnswer()):
        proxy.add(fault, probability=0.05)
    async with running(home) as daemon:
        for length in (2, 3):
            save_all(home, length)
            for _ in range(30):
                # Each `sync` ends the pause of the gate, so that this takes no minutes.
                if (await daemon.sync(2)).is_ok:
                    break
            await all_archived(server, length)


async def test_retry_after_is_obeyed(home: Home, proxy: FaultProxy, server: Server) -> None:
    proxy.add(too_many_requests("3"), times=1)
    async with running(home):
        save(home.sessions, document(conversation(1), "one"))
        await eventually(lambda: archived(server, "one"))
    refused = next(seen for seen in proxy.requests if seen.status == 429)
    assert refused.ended is not None
    later = [seen for seen in proxy.requests if seen.started > refused.ended + 0.1]
    assert later[0].started - refused.ended >= 2.9


async def test_an_attempt_ends_at_its_deadline_and_another_follows(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    faults: dict[str, BlackHole | Drip] = {"hole": BlackHole(), "drip": Drip(0.5)}
    for session_id, fault in faults.items():
        proxy.add(fault, method="PUT", key=f"/{session_id}/{BODIES}", times=1)
    async with running(home) as daemon:
        for session_id in faults:
            save(home.sessions, document(conversation(1), session_id))
        await proxy.until(lambda: proxy.count("PUT", BODIES) == len(faults))
        await daemon.degraded("store_unreachable")
        for session_id in faults:
            await eventually(lambda s=session_id: archived(server, s) == history(conversation(1)))
        await daemon.degraded()


async def test_a_black_hole_does_not_hold_up_a_stop(home: Home, proxy: FaultProxy) -> None:
    proxy.add(BlackHole())
    async with running(home, TRANSCRIPTD_DRAIN="1") as daemon:
        save_all(home)
        await proxy.until(lambda: proxy.requests)
        began = time.monotonic()
        assert await daemon.stop() == 0
        assert time.monotonic() - began < 5
    assert daemon.lines("daemon.drained")[0]["left"] == len(SEVERAL)


async def test_a_lost_answer_duplicates_no_byte(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    proxy.add(LoseAnswer(), method="PUT", key=BODIES, times=1)
    async with running(home) as daemon:
        save(home.sessions, document(conversation(2), "one"))
        await daemon.current(1)
        assert archived(server, "one") == history(conversation(2))
        # aiohttp itself repeats a PUT whose connection was closed; the condition refuses it.
        stored = [seen for seen in proxy.seen("PUT", BODIES) if seen.server_status == 200]
        assert len(stored) == 1, "what took effect was stored again"
        assert (await daemon.state_of("one"))["generation"] == 0


async def test_bytes_that_are_corrupted_on_the_way_are_refused_and_sent_again(
    home: Home, swift: FaultProxy
) -> None:
    proxy = swift
    proxy.add(FlipByte(), method="PUT", key=BODIES, times=1)
    async with running(home) as daemon:
        save(home.sessions, document(conversation(2), "one"))
        await eventually(lambda: archived(proxy.server, "one") == history(conversation(2)))
        await daemon.current(1)
    assert proxy.seen("PUT", BODIES)[0].status == 400


async def test_refused_credentials_are_reported_and_not_hammered(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    rule = proxy.add(EXPIRED_TOKEN)
    save_all(home)
    async with running(home) as daemon:
        await daemon.degraded("auth")
        assert len(proxy.requests) <= 4 * 8
        proxy.rules.remove(rule)
        assert (await daemon.sync()).is_ok
        await all_archived(server)
        assert (await daemon.status())["degraded"] == []


async def test_a_daemon_that_was_not_told_to_drain_leaves_nothing_half_done(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    """A second signal ends it at once; the next start goes on from there."""
    proxy.add(BlackHole(), method="PUT", key=BODIES)
    save_all(home)
    async with running(home) as daemon:
        await proxy.until(lambda: proxy.count("PUT", BODIES))
        daemon.process.terminate()
        await daemon.logged("signal.received")
        began = time.monotonic()
        assert await daemon.stop() == -15
        assert time.monotonic() - began < 3
    proxy.rules.clear()
    async with running(home):
        await all_archived(server)
