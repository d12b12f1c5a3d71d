"""The daemon dies, or what it remembers is lost: it goes on from what the archive says."""

from __future__ import annotations

import asyncio
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.daemon import Daemon, eventually, running
from tests.documents import conversation, history
from tests.fault.archives import BASES, CONTENT, journal_of, over_a_bucket, phases, put
from tests.kept import finished, history_of
from tests.proxy import Hold

if TYPE_CHECKING:
    from tests.documents import Message
    from tests.fault.archives import Archive
    from tests.home import Home
    from tests.kept import Kept

BEFORE = conversation(3)
APPENDED = conversation(6)
REWRITTEN = conversation(2, about="something else")
STEPS = ("looked", "staged", "uploaded", "committed")
CRASHES = [
    *((step, "append") for step in STEPS),
    *((step, "rewrite") for step in (*STEPS, "preserved")),
]
SEVERAL = [f"s{number}" for number in range(6)]


async def sync(home: Home) -> None:
    outcome = await asyncio.to_thread(home.run, "sync")
    assert outcome.status == 0, outcome.out + outcome.err


async def comes_to_hold(archive: Archive, messages: list[Message], session_id: str = "one") -> None:
    await eventually(lambda: history_of(archive.kept, session_id) == history(messages))


@pytest.mark.parametrize(
    ("archive", "step", "kind"),
    [
        *((name, *crash) for name in ("local", "ministack") for crash in CRASHES),
        *(("swift", step, "rewrite") for step in ("uploaded", "preserved")),
    ],
    indirect=["archive"],
)
async def test_killed_after_any_step_it_goes_on_without_sending_a_byte_twice(
    home: Home, archive: Archive, step: str, kind: str
) -> None:
    put(home, BEFORE)
    await sync(home)
    sent_before = archive.sent(BASES)
    messages = APPENDED if kind == "append" else REWRITTEN
    killed = await Daemon(home, TRANSCRIPTD_FAILPOINT=step).start()
    put(home, messages)
    assert await killed.ended() == -9, "the step was not reached"
    async with running(home) as daemon:
        assert (await daemon.sync()).is_ok
        said = await daemon.state_of("one")
    assert history_of(archive.kept, "one") == history(messages)
    assert (said["state"], said["bytes"]) == ("current", len(history(messages)))
    assert said["generation"] == (1 if kind == "rewrite" else 0)
    assert finished(archive.kept, "one") == ([history(BEFORE)] if kind == "rewrite" else [])
    assert "rejected" not in phases(home), "what took effect was taken for a failure"
    if archive.proxy:
        assert archive.sent(BASES) - sent_before == len(history(messages))


@over_a_bucket
@pytest.mark.parametrize("answered", [False, True], ids=["request", "answer"])
async def test_killed_during_an_upload_it_sends_the_body_at_most_twice(
    home: Home, archive: Archive, *, answered: bool
) -> None:
    proxy = archive.proxy
    assert proxy is not None
    under_way = asyncio.Event()
    proxy.add(Hold(under_way, answer=answered), method="PUT", key=BASES, times=1)
    async with running(home) as daemon:
        put(home, BEFORE)
        await proxy.until(
            lambda: [s for s in proxy.seen("PUT", BASES) if s.server_status or not answered]
        )
        await daemon.kill()
    under_way.set()
    async with running(home) as daemon:
        assert (await daemon.sync()).is_ok
        assert (await daemon.state_of("one"))["generation"] == 0
    assert history_of(archive.kept, "one") == history(BEFORE)
    assert archive.sent(BASES) <= (1 if answered else 2) * len(history(BEFORE))


@pytest.mark.parametrize("archive", ["local", "ministack"], indirect=True)
async def test_killed_again_and_again_while_agents_save_it_loses_nothing(
    home: Home, archive: Archive
) -> None:
    chance = random.Random(7)
    agents = [_Agent(home, session_id, chance) for session_id in SEVERAL]
    held: dict[str, list[bytes]] = {}
    for _ in range(4):
        async with running(home) as daemon, asyncio.TaskGroup() as working:
            saving = [working.create_task(agent.work()) for agent in agents]
            wanted = chance.randint(1, 12)
            await eventually(lambda d=daemon, n=wanted: len(d.lines("session.archived")) >= n)
            await daemon.kill()
            for task in saving:
                task.cancel()
        for session_id in SEVERAL:
            holds = _held(archive.kept, session_id)
            for body in held.get(session_id, ()):
                assert any(other.startswith(body) for other in holds), "archived bytes are gone"
            held[session_id] = holds
    async with running(home) as daemon:
        assert (await daemon.sync()).is_ok
        assert (await daemon.status())["totals"]["states"]["current"] == len(SEVERAL)
    for agent in agents:
        assert history_of(archive.kept, agent.session_id) == agent.saved[-1]
        for body in finished(archive.kept, agent.session_id):
            assert body in agent.saved, "a finished generation is nothing that was ever saved"


class _Agent:
    """Goes on with one session, and now and then begins it anew. `saved` is what it saved."""

    def __init__(self, home: Home, session_id: str, chance: random.Random) -> None:
        self.session_id = session_id
        self.saved: list[bytes] = []
        self._home = home
        self._chance = chance
        self._length = 0
        self._begun = 0

    async def work(self) -> None:
        while True:
            if self._chance.random() < 0.2:
                self._begun, self._length = self._begun + 1, 0
            self._length += self._chance.randint(1, 3)
            messages = conversation(self._length, about=f"{self.session_id}, {self._begun}")
            put(self._home, messages, self.session_id)
            self.saved.append(history(messages))
            await asyncio.sleep(self._chance.uniform(0, 0.2))  # how fast this agent works


def _held(kept: Kept, session_id: str) -> list[bytes]:
    current = history_of(kept, session_id)
    return [*finished(kept, session_id), *([current] if current else [])]


def _delete(home: Home) -> None:
    for path in home.state.glob("journal.db*"):
        path.unlink()


def _empty(home: Home) -> None:
    journal_of(home).write_bytes(b"")


def _cut(home: Home) -> None:
    content = journal_of(home).read_bytes()
    journal_of(home).write_bytes(content[: len(content) // 2 + 100])


def _flip(home: Home) -> None:
    content = bytearray(journal_of(home).read_bytes())
    chance = random.Random(1)
    for _ in range(20):
        content[chance.randrange(len(content))] ^= 0x40
    journal_of(home).write_bytes(content)


def _flip_header(home: Home) -> None:
    content = bytearray(journal_of(home).read_bytes())
    content[3] ^= 1
    journal_of(home).write_bytes(content)


def _tear_log(home: Home) -> None:
    log = home.state / "journal.db-wal"
    content = log.read_bytes()
    assert content, "nothing to tear"
    log.write_bytes(content[: len(content) * 2 // 3])


def _forget_everything(home: Home) -> None:
    shutil.rmtree(home.state)


@over_a_bucket
@pytest.mark.parametrize(
    "damage",
    [_delete, _empty, _cut, _flip, _flip_header, _tear_log, _forget_everything],
    ids=lambda damage: damage.__name__.strip("_"),
)
async def test_a_journal_that_is_lost_or_damaged_is_rebuilt_without_sending_a_byte(
    home: Home, archive: Archive, damage: object
) -> None:
    assert callable(damage)
    for session_id in SEVERAL:
        put(home, conversation(3, about=session_id), session_id)
    async with running(home) as daemon:
        await eventually(lambda: len(archive.content()) == 2 * len(SEVERAL))
        assert (await daemon.sync()).is_ok
        if damage is not _tear_log:  # a killed daemon leaves the log, a stopped one does not
            assert await daemon.stop() == 0
    damage(home)
    # With the end of the log may go that `session.json` was put: that one is put once more.
    key = BASES if damage is _tear_log else CONTENT
    before, sent = archive.content(), archive.sent(key)
    async with running(home) as daemon:
        assert (await daemon.sync()).is_ok
        totals = (await daemon.status())["totals"]
        assert totals["states"]["current"] == totals["sessions"] == len(SEVERAL)
        assert archive.sent(key) == sent
        assert archive.content() == before
        grown, (rewritten, *_) = SEVERAL[1:], SEVERAL
        for session_id in grown:
            put(home, conversation(5, about=session_id), session_id)
        put(home, REWRITTEN, rewritten)
        assert (await daemon.sync()).is_ok
        for session_id in grown:
            await comes_to_hold(archive, conversation(5, about=session_id), session_id)
            assert (await daemon.state_of(session_id))["generation"] == 0
        await comes_to_hold(archive, REWRITTEN, rewritten)
        assert (await daemon.state_of(rewritten))["generation"] == 1
    assert not [key for key in archive.kept.listing() if "/.conflicts/" in key]


@pytest.mark.parametrize("archive", ["local", "ministack"], indirect=True)
async def test_a_machine_that_lost_its_state_is_no_stranger_to_its_own_archive(
    home: Home, archive: Archive
) -> None:
    put(home, BEFORE)
    await sync(home)
    shutil.rmtree(home.state)
    put(home, REWRITTEN)
    async with running(home) as daemon:
        assert (await daemon.sync()).is_ok
        said = await daemon.state_of("one")
    assert (said["state"], said["generation"]) == ("current", 1)
    assert history_of(archive.kept, "one") == history(REWRITTEN)
    assert finished(archive.kept, "one") == [history(BEFORE)]
