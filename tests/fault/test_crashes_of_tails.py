"""The daemon dies while a tail grows, is folded, or is closed: not a byte is sent for nothing."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.daemon import Daemon, running
from tests.documents import conversation, history, message
from tests.fault.archives import (
    BASES,
    HISTORY,
    SEGMENTS,
    journal_of,
    over_a_bucket,
    over_copies,
    phases,
    put,
)
from tests.kept import base_of, finished, history_of, segments_of
from tests.proxy import Hold

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.documents import Message
    from tests.fault.archives import Archive
    from tests.home import Home

FIRST, MORE, MOST = conversation(150), conversation(160), conversation(175)
REWRITTEN = conversation(140, about="something else")
LARGE = [message("user", f"{number} {'the parser, again; ' * 5_000}") for number in range(60)]
LARGER = [*LARGE, message("assistant", "Done.")]
STEPS = ("looked", "staged", "uploaded", "committed")


async def leave_a_tail(home: Home, first: list[Message], more: list[Message]) -> None:
    """Archive a session, then more of it, and die with its base behind."""
    async with running(home) as daemon:
        put(home, first)
        assert (await daemon.sync()).is_ok
        put(home, more)
        await daemon.archives("one", len(history(more)))


@over_a_bucket
@pytest.mark.parametrize("step", STEPS)
async def test_killed_while_a_segment_is_written_it_goes_on_without_sending_a_byte_twice(
    home: Home, archive: Archive, step: str
) -> None:
    await leave_a_tail(home, FIRST, MORE)
    before = archive.sent(HISTORY)
    killed = await Daemon(home, TRANSCRIPTD_FAILPOINT=step).start()
    put(home, MOST)
    assert await killed.ended() == -9, "the step was not reached"
    async with running(home) as daemon:
        await daemon.archives("one", len(history(MOST)))
        assert (await daemon.state_of("one"))["generation"] == 0
    assert history_of(archive.kept, "one") == history(MOST)
    assert base_of(archive.kept, "one") == history(FIRST), "this was no tail"
    assert archive.sent(HISTORY) - before == len(history(MOST)) - len(history(MORE))
    assert "rejected" not in phases(home), "what took effect was taken for a failure"


@over_a_bucket
@pytest.mark.parametrize("step", STEPS[1:])
async def test_killed_while_a_base_is_sealed_it_goes_on_without_sending_a_byte_twice(
    home: Home, archive: Archive, step: str
) -> None:
    await leave_a_tail(home, FIRST, MORE)
    before = archive.sent(HISTORY)
    killed = await Daemon(home, TRANSCRIPTD_FAILPOINT=step).start()
    assert await killed.stop() == -9, "the step was not reached"
    async with running(home) as daemon:
        assert (await daemon.sync(seal=True)).is_ok
        said = await daemon.state_of("one")
        assert (said["generation"], said["behind_bytes"]) == (0, 0)
        assert base_of(archive.kept, "one") == history(MORE)
        assert archive.sent(HISTORY) - before == len(history(MORE))
        put(home, MOST)
        await daemon.archives("one", len(history(MOST)))
    assert history_of(archive.kept, "one") == history(MOST)
    assert len(segments_of(archive.kept, "one")) == 1, "what was folded was left behind"
    assert ("rejected" in phases(home)) == (step == "staged"), "nothing else took no effect"


@over_a_bucket
@pytest.mark.parametrize("step", ["preserved", "staged", "uploaded"])
async def test_killed_while_a_tail_is_closed_with_its_generation_it_loses_nothing(
    home: Home, archive: Archive, step: str
) -> None:
    await leave_a_tail(home, FIRST, MORE)
    before = archive.sent(BASES)
    killed = await Daemon(home, TRANSCRIPTD_FAILPOINT=step).start()
    put(home, REWRITTEN)
    assert await killed.ended() == -9, "the step was not reached"
    async with running(home) as daemon:
        await daemon.archives("one", len(history(REWRITTEN)))
        assert (await daemon.state_of("one"))["generation"] == 1
    assert history_of(archive.kept, "one") == history(REWRITTEN)
    assert finished(archive.kept, "one") == [history(MORE)]
    assert segments_of(archive.kept, "one") == [], "the tail of what is closed was left behind"
    assert archive.sent(BASES) - before == len(history(REWRITTEN))
    assert archive.uploads() == 0


@over_copies
async def test_killed_once_a_large_base_was_copied_into_its_successor_it_sent_the_tail_alone(
    home: Home, archive: Archive
) -> None:
    await leave_a_tail(home, LARGE, LARGER)
    before = archive.sent(HISTORY)
    killed = await Daemon(home, TRANSCRIPTD_FAILPOINT="uploaded").start()
    assert await killed.stop() == -9, "the step was not reached"
    await check_sealed(home, archive)
    assert archive.sent(HISTORY) - before == len(history(LARGER)) - len(history(LARGE))


@over_copies
@pytest.mark.parametrize("answered", [False, True], ids=["request", "answer"])
async def test_killed_while_a_large_base_is_completed_it_leaves_no_upload_behind(
    home: Home, archive: Archive, *, answered: bool
) -> None:
    proxy = archive.proxy
    assert proxy is not None
    await leave_a_tail(home, LARGE, LARGER)
    before, never = archive.sent(HISTORY), asyncio.Event()
    # Behind the request that begins the upload, the one that completes it.
    proxy.add(Hold(_at_once()), method="POST", key=BASES, times=1)
    held = proxy.add(Hold(never, answer=answered), method="POST", key=BASES, times=1)
    async with running(home) as daemon:
        daemon.process.terminate()
        await proxy.until(lambda: held.hits)
        await proxy.until(lambda: proxy.seen("POST", BASES)[-1].server_status or not answered)
        await daemon.kill()
    assert archive.uploads() == (0 if answered else 1)
    await check_sealed(home, archive)
    tail = len(history(LARGER)) - len(history(LARGE))
    assert archive.sent(HISTORY) - before == tail * (1 if answered else 2)
    never.set()


def _at_once() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def check_sealed(home: Home, archive: Archive) -> None:
    """Go on, and find the base whole, no tail and no upload."""
    async with running(home) as daemon:
        assert (await daemon.sync(seal=True)).is_ok
        said = await daemon.state_of("one")
    assert (said["state"], said["generation"], said["behind_bytes"]) == ("current", 0, 0)
    assert base_of(archive.kept, "one") == history(LARGER)
    assert segments_of(archive.kept, "one") == []
    assert archive.uploads() == 0


def _delete(home: Home) -> None:
    for path in home.state.glob("journal.db*"):
        path.unlink()


def _cut(home: Home) -> None:
    content = journal_of(home).read_bytes()
    journal_of(home).write_bytes(content[: len(content) // 2 + 100])


def _forget_everything(home: Home) -> None:
    shutil.rmtree(home.state)


@over_a_bucket
@pytest.mark.parametrize(
    "damage", [_delete, _cut, _forget_everything], ids=lambda damage: damage.__name__.strip("_")
)
async def test_a_tail_that_no_journal_knows_of_is_adopted_and_goes_on(
    home: Home, archive: Archive, damage: Callable[[Home], None]
) -> None:
    await leave_a_tail(home, FIRST, MORE)
    damage(home)
    before, tail = archive.sent(HISTORY), segments_of(archive.kept, "one")
    async with running(home) as daemon:
        await daemon.archives("one", len(history(MORE)))
        assert archive.sent(HISTORY) == before, "what stands there was sent again"
        put(home, MOST)
        await daemon.archives("one", len(history(MOST)))
        assert (await daemon.state_of("one"))["generation"] == 0
    assert history_of(archive.kept, "one") == history(MOST)
    assert base_of(archive.kept, "one") == history(FIRST)
    grown = segments_of(archive.kept, "one")
    assert grown[: len(tail)] == tail
    assert len(grown) == len(tail) + 1
    assert archive.sent(SEGMENTS) == len(history(MOST)) - len(history(FIRST))
