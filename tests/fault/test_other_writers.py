"""Somebody else writes to our keys: another machine by the same rules, or CodeTether's own sink."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.daemon import eventually, running
from tests.documents import conversation, history
from tests.fault.archives import BASES, overwrite, put
from tests.home import Home
from tests.kept import KeptInBucket, aside, base_of, finished, history_of

if TYPE_CHECKING:
    from tests.daemon import Daemon
    from tests.documents import Message
    from tests.home import Outcome
    from tests.proxy import FaultProxy, Seen
    from tests.servers import Server

KEY = "history/one/history.jsonl"
FIRST, MORE, MOST = conversation(150), conversation(160), conversation(175)
LEFT, RIGHT = "what the old one says", "what the new one says"
SHORT, LONG = 3, 150
ROUNDS = 6


@pytest.fixture
def old(home: Home, server: Server) -> Home:
    home.environ["TRANSCRIPTD_MACHINE"] = "old"
    home.use(server)
    return home


@pytest.fixture
def new(old: Home) -> Home:
    home = Home.make(old.path.parent / "new")
    home.environ = old.environ | {"TRANSCRIPTD_MACHINE": "new"}
    return home


def verb(home: Home, *arguments: str) -> asyncio.Future[Outcome]:
    return asyncio.ensure_future(asyncio.to_thread(home.run, *arguments))


def begun(length: int, about: str, more: int) -> list[Message]:
    """Make a history that begins as another one does, and goes on in its own way."""
    return [*conversation(length), *conversation(more, about=about)]


async def archived_as(daemon: Daemon, messages: list[Message], state: str) -> str:
    """Wait until a history is archived in some state; return the key it is archived under."""
    await daemon.archives("one", len(history(messages)), state)
    return str((await daemon.state_of("one"))["key"])


async def test_two_machines_with_one_key_keep_both_histories_and_one_may_take_it_over(
    old: Home, new: Home, server: Server
) -> None:
    kept = KeptInBucket(server)
    ours = [conversation(length, about=RIGHT) for length in (150, 160)]
    async with running(old) as theirs, running(new) as daemon:
        put(old, FIRST)
        assert (await theirs.sync()).is_ok
        put(new, ours[0])
        assert (await daemon.sync()).is_ok
        put(old, MORE)  # both go on, each with a tail of its own
        put(new, ours[1])
        await archived_as(theirs, MORE, "current")
        key = await archived_as(daemon, ours[1], "conflict")
        assert history_of(kept, "one") == history(MORE)
        assert list(aside(kept, "one").values()) == [history(ours[1])]
        assert (await verb(old, "cat", "one")).out.encode() == history(MORE)
        assert (await verb(new, "cat", key)).out.encode() == history(ours[1])
        shown = await verb(new, "status")
        assert "conflict" in shown.out
        assert (await verb(new, "takeover", "--from", "old")).status == 0
        assert await archived_as(daemon, ours[1], "current") == KEY
        assert history_of(kept, "one") == history(ours[1])
        assert finished(kept, "one") == [history(MORE)]
        put(old, MOST)
        await archived_as(theirs, MOST, "conflict")
        assert history_of(kept, "one") == history(ours[1])
        assert history(MOST) in aside(kept, "one").values()


@pytest.mark.parametrize("length", [SHORT, LONG], ids=["base", "tail"])
async def test_a_home_that_moved_while_the_old_machine_lives_on_loses_neither_history(
    old: Home, new: Home, server: Server, length: int
) -> None:
    kept = KeptInBucket(server)
    async with running(old) as theirs:
        put(old, conversation(length))
        assert (await theirs.sync()).is_ok
        put(new, begun(length, RIGHT, 2))
        async with running(new) as daemon:
            await archived_as(daemon, begun(length, RIGHT, 2), "current")
            put(old, begun(length, LEFT, 3))
            await archived_as(theirs, begun(length, LEFT, 3), "conflict")
            put(new, begun(length, RIGHT, 4))
            await archived_as(daemon, begun(length, RIGHT, 4), "current")
    assert history_of(kept, "one") == history(begun(length, RIGHT, 4))
    assert list(aside(kept, "one").values()) == [history(begun(length, LEFT, 3))]
    assert finished(kept, "one") == []


@pytest.mark.parametrize("length", [SHORT, LONG], ids=["base", "tail"])
async def test_two_machines_that_save_at_once_find_each_other_out(
    old: Home, new: Home, server: Server, length: int
) -> None:
    kept = KeptInBucket(server)
    async with running(old) as theirs, running(new) as daemon:
        put(old, conversation(length))
        assert (await theirs.sync()).is_ok
        for more in range(1, 6):
            put(old, begun(length, LEFT, more))
            put(new, begun(length, RIGHT, more))
            assert (await theirs.sync()).is_ok
            assert (await daemon.sync()).is_ok
        for each in (theirs, daemon):
            assert (await each.sync(seal=True)).is_ok
        states = {(await each.state_of("one"))["state"] for each in (theirs, daemon)}
        assert states == {"current", "conflict"}
    stands, others = history_of(kept, "one"), aside(kept, "one").values()
    wanted = {history(begun(length, about, 5)) for about in (LEFT, RIGHT)}
    assert {stands, *others} == wanted


def _the_same(_: int) -> bytes:
    return history(MOST)


def _an_older_one(_: int) -> bytes:
    return history(FIRST[:100])


def _another(number: int) -> bytes:
    return history(conversation(20 + number, about="another one"))


@pytest.mark.parametrize("written", [_the_same, _an_older_one, _another])
async def test_a_sink_that_overwrites_a_base_is_named_and_what_it_broke_is_mended(
    home: Home, proxy: FaultProxy, server: Server, written: object
) -> None:
    assert callable(written)
    kept = KeptInBucket(server)
    async with running(home) as daemon:
        put(home, FIRST)
        assert (await daemon.sync()).is_ok
        put(home, MORE)
        await daemon.archives("one", len(history(MORE)))
        overwrite(server, KEY, written(0))
        put(home, MOST)
        assert (await daemon.sync(seal=True)).is_ok
        await daemon.degraded("foreign_writer")
        assert len(daemon.lines("daemon.degraded", reason="foreign_writer")) == 1
        assert await archived_as(daemon, MOST, "current") == KEY
        (trouble,) = (await daemon.status())["degraded"]
        assert "CODETETHER_HISTORY_S3_" in trouble["hint"]
    assert history_of(kept, "one") == history(MOST)
    assert (await verb(home, "cat", "one")).out.encode() == history(MOST)
    strangers = [name for name in aside(kept, "one") if name.startswith("foreign-")]
    assert len(strangers) == (written is _another), "what the sink wrote was not kept"


def _stored(proxy: FaultProxy) -> list[Seen]:
    return [seen for seen in proxy.seen("PUT", BASES) if seen.server_status == 200]


@pytest.mark.parametrize("written", [_an_older_one, _another])
async def test_what_a_sink_overwrites_again_and_again_is_mended_once_a_minute(
    home: Home, proxy: FaultProxy, server: Server, written: object
) -> None:
    assert callable(written)
    kept = KeptInBucket(server)
    async with running(home) as daemon:
        put(home, FIRST)
        assert (await daemon.sync()).is_ok
        before = len(_stored(proxy))
        for number in range(ROUNDS):
            overwrite(server, KEY, written(number))
            put(home, conversation(160 + number))
            # However long that takes, it is mended once.
            await daemon.sync(0.5 if number else 20, seal=True)
        await daemon.reports(
            lambda said: [each["reason"] for each in said["sessions"]] == ["foreign_writer"]
        )
        assert len(_stored(proxy)[before:]) == 1, "it was mended more than once"
        assert len(daemon.lines("daemon.degraded", reason="foreign_writer")) == 1
        assert await daemon.stop() == 0
    async with running(home) as daemon:  # the sink is quiet now
        assert (await daemon.sync(seal=True)).is_ok
    wanted = history(conversation(160 + ROUNDS - 1))
    await eventually(lambda: base_of(kept, "one") == wanted)
    assert history_of(kept, "one") == wanted
