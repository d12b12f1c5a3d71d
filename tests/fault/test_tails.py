"""What befalls a tail on its way: lost answers, garbled bytes, a stop, and nothing at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.daemon import archived, eventually, running
from tests.documents import conversation, history, message
from tests.fault.archives import BASES, HISTORY, SEGMENTS, over_copies, overwrite, put
from tests.kept import KeptInBucket, base_of, history_of, segments_of
from tests.proxy import FlipByte, Hold, LoseAnswer

if TYPE_CHECKING:
    from tests.fault.archives import Archive
    from tests.home import Home
    from tests.proxy import FaultProxy
    from tests.servers import Server

FIRST, MORE, MOST = conversation(150), conversation(160), conversation(175)
LARGE = [message("user", f"{number} {'the parser, again; ' * 5_000}") for number in range(60)]
LARGER = [*LARGE, message("assistant", "Done.")]
BACKLOG = [f"s{number:02}" for number in range(20)]
MAX_LAG, LAG_S = "TRANSCRIPTD_SEAL__MAX_LAG", 5.0


async def test_a_lost_answer_to_a_segment_duplicates_no_byte(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    async with running(home) as daemon:
        put(home, FIRST)
        assert (await daemon.sync()).is_ok
        lost = proxy.add(LoseAnswer(), method="PUT", key=SEGMENTS, times=1)
        for messages in (MORE, MOST):
            put(home, messages)
            await daemon.archives("one", len(history(messages)))
        assert lost.hits
        assert (await daemon.state_of("one"))["generation"] == 0
    kept = KeptInBucket(server)
    assert history_of(kept, "one") == history(MOST)
    stored = [seen for seen in proxy.seen("PUT", SEGMENTS) if seen.server_status == 200]
    assert len(stored) == len(segments_of(kept, "one")) == 2, "what took effect was stored again"


@over_copies
async def test_a_lost_answer_to_the_completion_of_an_upload_is_found_out(
    home: Home, archive: Archive
) -> None:
    proxy, passing = archive.proxy, asyncio.Event()
    assert proxy is not None
    passing.set()
    async with running(home) as daemon:
        put(home, LARGE)
        assert (await daemon.sync()).is_ok
        put(home, LARGER)
        await daemon.archives("one", len(history(LARGER)))
        before = archive.sent(HISTORY)
        # Behind the request that begins the upload, the one that completes it.
        proxy.add(Hold(passing), method="POST", key=BASES, times=1)
        lost = proxy.add(LoseAnswer(), method="POST", key=BASES, times=1)
        assert (await daemon.sync(seal=True)).is_ok
        assert lost.hits
        said = await daemon.state_of("one")
    assert (said["state"], said["generation"], said["behind_bytes"]) == ("current", 0, 0)
    assert base_of(archive.kept, "one") == history(LARGER)
    assert segments_of(archive.kept, "one") == []
    assert archive.uploads() == 0
    assert archive.sent(HISTORY) - before == len(history(LARGER)) - len(history(LARGE))


async def test_a_segment_that_is_corrupted_on_the_way_is_refused_and_sent_again(
    home: Home, swift: FaultProxy
) -> None:
    async with running(home) as daemon:
        put(home, FIRST)
        assert (await daemon.sync()).is_ok
        swift.add(FlipByte(), method="PUT", key=SEGMENTS, times=1)
        put(home, MORE)
        await daemon.archives("one", len(history(MORE)))
    await eventually(lambda: archived(swift.server, "one") == history(MORE))
    assert swift.seen("PUT", SEGMENTS)[0].status == 400


async def test_a_stop_folds_every_tail_into_its_base(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    async with running(home) as daemon:
        for session_id in BACKLOG:
            put(home, FIRST, session_id)
        assert (await daemon.sync()).is_ok
        for session_id in BACKLOG:
            put(home, MORE, session_id)
        await daemon.reports(lambda said: said["totals"]["bases_behind"] == len(BACKLOG))
        for session_id in BACKLOG[::2]:
            put(home, MOST, session_id)
        assert await daemon.stop() == 0
    assert proxy.count("PUT", SEGMENTS) >= len(BACKLOG)
    kept = KeptInBucket(server)
    for session_id in BACKLOG[::2]:
        assert base_of(kept, session_id) == history(MOST)
    for session_id in BACKLOG[1::2]:
        assert base_of(kept, session_id) == history(MORE)
    assert [s for s in BACKLOG if segments_of(kept, s)] == []


async def test_while_a_base_is_behind_nothing_is_sent_until_it_has_been_for_too_long(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    kept = KeptInBucket(server)
    async with running(home, **{MAX_LAG: f"{LAG_S:g}"}) as daemon:
        for messages in (FIRST, MORE):  # a seal more would be one too many for now
            put(home, messages)
            assert (await daemon.sync(seal=True)).is_ok
        put(home, MOST)
        await daemon.archives("one", len(history(MOST)))
        assert (await daemon.sync()).is_ok
        assert base_of(kept, "one") == history(MORE)
        assert (await daemon.status())["totals"]["bases_behind"] == 1
        before, fell_behind = len(proxy.requests), proxy.seen("PUT", SEGMENTS)[-1].started
        await proxy.until(lambda: len(proxy.requests) > before, within=6 * LAG_S)
        assert proxy.requests[before].started - fell_behind >= LAG_S - 0.1
        await eventually(lambda: base_of(kept, "one") == history(MOST))
        await daemon.reports(lambda said: not said["totals"]["bases_behind"])
        assert await daemon.stop() == 0
    # The tail is listed, the base put, the tail removed; a look at the base proves it.
    assert len(proxy.requests) - before <= 4
    assert segments_of(kept, "one") == []


@pytest.mark.parametrize("kind", ["longer", "as long"])
async def test_a_segment_that_somebody_overwrote_is_mended_from_the_source(
    home: Home, proxy: FaultProxy, server: Server, kind: str
) -> None:
    kept = KeptInBucket(server)
    async with running(home) as daemon:
        put(home, FIRST)
        assert (await daemon.sync()).is_ok
        put(home, MORE)
        await daemon.archives("one", len(history(MORE)))
        (segment,) = segments_of(kept, "one")
        junk = b"x" * (len(history(MORE)) - len(history(FIRST)) + (kind == "longer"))
        overwrite(server, segment, junk)
        assert (await daemon.sync(seal=True)).is_ok
        assert (await daemon.state_of("one"))["state"] == "current"
        put(home, MOST)
        assert (await daemon.sync(seal=True)).is_ok
    assert base_of(kept, "one") == history_of(kept, "one") == history(MOST)
