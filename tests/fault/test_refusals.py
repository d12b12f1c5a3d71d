"""The store answers, and refuses or garbles: the daemon says so, and mends what it can."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from tests.daemon import archived, eventually, running
from tests.documents import conversation, document, history, save
from tests.home import VARIABLE
from tests.kept import KeptInBucket, base_of, finished, history_of, segments_of
from tests.proxy import ACCESS_DENIED, EXPIRED_TOKEN, Answer, FaultProxy, FlipByte
from tests.servers import create_bucket
from tests.servers.request import send

if TYPE_CHECKING:
    from pathlib import Path

    from tests.daemon import Daemon
    from tests.home import Home
    from tests.servers import Pool, Server

WORKERS = 8
REQUESTS = 8  # of an attempt at a store that allows nothing: each 403 may mean that it is missing
BODIES = r"history\.jsonl$"
SEVERAL = [f"s{number:02}" for number in range(50)]


def put(home: Home, length: int, session_id: str = "one") -> None:
    save(home.sessions, document(conversation(length), session_id))


async def comes_to_hold(server: Server, length: int, session_id: str = "one") -> None:
    await eventually(lambda: archived(server, session_id) == history(conversation(length)))


async def is_well_again(daemon: Daemon, reason: str) -> None:
    await daemon.logged("daemon.recovered", reason=reason)
    assert (await daemon.status())["degraded"] == []
    assert len(daemon.lines("daemon.degraded", reason=reason)) == 1
    assert len(daemon.lines("daemon.recovered", reason=reason)) == 1


async def test_credentials_that_expire_are_read_again_from_their_files(
    home: Home, proxy: FaultProxy, server: Server, tmp_path: Path
) -> None:
    for name, value in (("ACCESS_KEY", "first"), ("SECRET_KEY", "x")):
        file = tmp_path / name
        file.write_text(f"{value}\n")
        del home.environ[f"{VARIABLE}{name}"]
        home.environ[f"TRANSCRIPTD_S3__{name}_FILE"] = str(file)
    for name in ("ENDPOINT", "BUCKET"):
        home.environ[f"TRANSCRIPTD_S3__{name}"] = home.environ.pop(f"{VARIABLE}{name}")
    async with running(home) as daemon:
        put(home, 1)
        await comes_to_hold(server, 1)
        expired = proxy.add(EXPIRED_TOKEN)
        before = len(proxy.requests)
        put(home, 2)
        await daemon.logged("daemon.degraded", reason="auth")
        (tmp_path / "ACCESS_KEY").write_text("second\n")
        proxy.rules.remove(expired)
        assert (await daemon.sync()).is_ok
        await comes_to_hold(server, 2)
        await is_well_again(daemon, "auth")
    used = [seen.access_key for seen in proxy.requests[before:]]
    assert used[0] == "first"
    assert used[-1] == "second"
    assert used == sorted(used), "old credentials were used again"


async def test_what_may_not_be_done_is_named_and_costs_few_requests(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    denied = proxy.add(ACCESS_DENIED)
    for session_id in SEVERAL:
        put(home, 1, session_id)
    async with running(home) as daemon:
        said = await daemon.reports(lambda report: report["degraded"])
        assert [(trouble["reason"], bool(trouble["hint"])) for trouble in said["degraded"]] == [
            ("denied", True)
        ]
        said = await daemon.reports(lambda r: r["totals"]["failed_attempts"] >= WORKERS + 2)
        assert said["store"]["limit"] == 1, "there is more than one probe at a time"
        attempts = said["totals"]["failed_attempts"] + 1  # one may be under way
        assert len(proxy.requests) <= REQUESTS * attempts
        asked = {seen.key.removesuffix("/history.jsonl") for seen in proxy.seen("HEAD", BODIES)}
        assert len(asked) <= attempts < len(SEVERAL), "there are requests for each session"
        assert daemon.lines("session.attempt_failed") == []
        proxy.rules.remove(denied)
        assert (await daemon.sync()).is_ok
        await is_well_again(daemon, "denied")
    kept = KeptInBucket(server)
    assert [s for s in SEVERAL if history_of(kept, s) != history(conversation(1))] == []


@pytest.mark.parametrize("name", ["ministack", "swift"])
async def test_a_bucket_that_goes_is_named_never_made_and_filled_again_once_it_is_there(
    home: Home, servers: Pool, name: str
) -> None:
    server = create_bucket(servers.get(name))
    async with FaultProxy(server) as proxy:
        home.use(proxy.server)
        async with running(home) as daemon:
            put(home, 1)
            put(home, 1, "two")
            assert (await daemon.sync()).is_ok
            _remove_bucket(server)
            put(home, 2)
            await daemon.logged("daemon.degraded", reason="bucket_missing")
            assert send(server, "HEAD", f"/{server.bucket}")[0] == 404, "it was made"
            create_bucket(server, server.bucket)
            assert (await daemon.sync()).is_ok
            await comes_to_hold(server, 2)
            await is_well_again(daemon, "bucket_missing")
            put(home, 2, "two")
            await comes_to_hold(server, 2, "two")
        assert proxy.count("PUT", "^$") == 0


async def test_a_clock_that_is_wrong_is_corrected_once_and_logged_once(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=3)
    date = ("Date", format_datetime(ahead, usegmt=True))
    proxy.add(Answer(403, "RequestTimeTooSkewed", (date,)), method="GET", times=1)
    async with running(home) as daemon:
        put(home, 1)
        await comes_to_hold(server, 1)
        put(home, 2)
        await comes_to_hold(server, 2)
        (line,) = daemon.lines("clock.corrected")
        assert abs(line["offset_s"] - 3 * 3600) < 60
        assert daemon.lines("daemon.degraded") == []
    signed = [seen.headers["x-amz-date"] for seen in proxy.seen("PUT", BODIES)]
    assert len(signed) == 2
    for date_said in signed:
        offset = datetime.strptime(date_said, "%Y%m%dT%H%M%S%z") - datetime.now(UTC)
        assert abs(offset - timedelta(hours=3)) < timedelta(minutes=2)


@pytest.mark.parametrize("earlier", [0, 2], ids=["the first bytes", "more bytes"])
async def test_a_byte_that_a_server_stores_wrong_is_noticed_and_mended(
    home: Home, servers: Pool, earlier: int
) -> None:
    """Moto believes whatever arrives."""
    server = create_bucket(servers.get("moto"))
    async with FaultProxy(server) as proxy:
        home.use(proxy.server)
        async with running(home) as daemon:
            if earlier:
                put(home, earlier)
                assert (await daemon.sync()).is_ok
            flipped = proxy.add(FlipByte(), method="PUT", key=BODIES, times=1)
            put(home, 4)
            await proxy.until(lambda: flipped.hits)
            await daemon.logged("session.attempt_failed", session="one")
            await comes_to_hold(server, 4)
            assert (await daemon.sync()).is_ok
            assert (await daemon.state_of("one"))["state"] == "current"
    if earlier:
        assert finished(KeptInBucket(server), "one") in ([], [history(conversation(earlier))])


async def test_a_credential_that_may_remove_nothing_is_told_so_once_and_all_goes_on(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    kept = KeptInBucket(server)
    proxy.add(ACCESS_DENIED, method="DELETE")
    proxy.add(ACCESS_DENIED, method="POST", key="^$")  # many at once
    async with running(home) as daemon:
        for length in (150, 160, 170):
            for more in (0, 2):  # a base, and a tail that it takes in
                put(home, length + more)
                await daemon.archives("one", len(history(conversation(length + more))))
            assert (await daemon.sync(seal=True)).is_ok
        assert base_of(kept, "one") == history_of(kept, "one") == history(conversation(172))
        (line,) = daemon.lines("tail.kept")
        assert line["hint"]
        said = await daemon.status()
        assert said["degraded"] == []
        assert daemon.lines("session.attempt_failed") == []
        await daemon.kill()
    left = segments_of(kept, "one")
    assert len(left) > 2
    put(home, 180)
    async with running(home) as daemon:  # what was left behind is in nobody's way
        await daemon.archives("one", len(history(conversation(180))))
        assert (await daemon.state_of("one"))["generation"] == 0
    assert history_of(kept, "one") == history(conversation(180))
    assert set(left) < set(segments_of(kept, "one"))


async def test_a_credential_that_may_list_nothing_archives_whole_objects(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    kept = KeptInBucket(server)
    proxy.add(ACCESS_DENIED, method="GET", key="^$")
    rewritten = conversation(140, about="something else")
    async with running(home) as daemon:
        for length in (150, 160, 170):
            put(home, length)
            await daemon.archives("one", len(history(conversation(length))))
            assert base_of(kept, "one") == history(conversation(length))
        save(home.sessions, document(rewritten, "one"))
        await daemon.archives("one", len(history(rewritten)))
        assert (await daemon.state_of("one"))["generation"] == 1
        assert (await daemon.status())["degraded"] == []
    assert base_of(kept, "one") == history(rewritten)
    assert finished(kept, "one") == [history(conversation(170))]
    assert segments_of(kept, "one") == []


def _remove_bucket(server: Server) -> None:
    for key in KeptInBucket(server).listing():
        send(server, "DELETE", f"/{server.bucket}/{key}")
    assert send(server, "DELETE", f"/{server.bucket}")[0] == 204
