"""`transcriptd takeover`: this machine's history comes to stand where another machine's does."""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.daemon import running
from tests.documents import conversation, document, history, save
from tests.home import Home
from tests.kept import Kept, KeptInBucket, KeptInDirectory, aside, finished, history_of
from tests.servers import create_bucket
from tests.servers.process import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.home import Outcome
    from tests.servers import Pool

USAGE = 2
THEIRS, OURS = conversation(4), conversation(3, about="something else")


@dataclass(frozen=True, slots=True)
class Two:
    """Two machines that archive sessions of one name to one place; `old` was there first."""

    old: Home
    new: Home
    kept: Kept


@pytest.fixture(params=["local", "ministack"])
def two(request: pytest.FixtureRequest, servers: Pool) -> Iterator[Two]:
    """Homes whose paths are short, because those of their sockets may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="td-") as path:
        old, new = (Home.make(Path(path, name)) for name in ("old", "new"))
        kept: Kept = KeptInDirectory(Path(path, "archive"))
        server = None if request.param == "local" else create_bucket(servers.get(request.param))
        if server:
            kept = KeptInBucket(server)
        for home in (old, new):
            home.environ["TRANSCRIPTD_MACHINE"] = home.path.name
            if server:
                home.use(server)
            else:
                home.environ["TRANSCRIPTD_LOCAL__PATH"] = str(Path(path, "archive"))
        yield Two(old, new, kept)


def archive(two: Two, *session_ids: str) -> None:
    """Archive different histories of these sessions, first there, then here."""
    for home, messages in ((two.old, THEIRS), (two.new, OURS)):
        for session_id in session_ids:
            save(home.sessions, document(messages, session_id))
        assert home.run("sync").status == 0


def is_ours(two: Two, session_id: str) -> bool:
    """Say whose history stands under a session's key; wherever the other one is, it is kept."""
    stands = history_of(two.kept, session_id)
    if stands == history(OURS):
        assert finished(two.kept, session_id) == [history(THEIRS)]
        return True
    assert stands == history(THEIRS)
    assert list(aside(two.kept, session_id).values()) == [history(OURS)]
    return False


@pytest.mark.parametrize("beside_a_daemon", [True, False], ids=["daemon", "alone"])
async def test_what_is_taken_over_stands_under_its_own_key_and_the_other_is_preserved(
    two: Two, *, beside_a_daemon: bool
) -> None:
    await asyncio.to_thread(archive, two, "one", "two")
    assert not is_ours(two, "one")
    async with AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(running(two.new)) if beside_a_daemon else None
        outcome = await asyncio.to_thread(two.new.run, "takeover", "--from", "old")
        assert outcome.status == 0, outcome.out + outcome.err
        assert [line.rpartition(".")[0] for line in sorted(outcome.out.splitlines())] == [
            "one  taken over from old",
            "two  taken over from old",
        ]
        if daemon:
            assert (await daemon.sync()).is_ok
            for session_id in ("one", "two"):
                assert (await daemon.state_of(session_id))["state"] == "current"
    assert is_ours(two, "one")
    assert is_ours(two, "two")


def test_only_the_sessions_that_are_named_are_taken_over(two: Two) -> None:
    archive(two, "one", "two")
    outcome = two.new.run("takeover", "two", "--json")
    (taken,) = json.loads(outcome.out)["taken"]
    assert (taken["session"], taken["path"]) == ("two", str(two.new.sessions / "two.json"))
    assert [writer.partition(".")[0] for writer in taken["writers"]] == ["old"]
    assert (is_ours(two, "one"), is_ours(two, "two")) == (False, True)


def test_all_means_every_session_in_conflict(two: Two) -> None:
    archive(two, "one", "two")
    assert two.new.run("takeover", "--all").status == 0
    assert (is_ours(two, "one"), is_ours(two, "two")) == (True, True)


@pytest.mark.parametrize("beside_a_daemon", [True, False], ids=["daemon", "alone"])
async def test_where_there_is_nothing_to_take_over_that_is_said(
    two: Two, *, beside_a_daemon: bool
) -> None:
    def nothing(outcome: Outcome) -> bool:
        return (outcome.status, outcome.out, outcome.err) == (
            1,
            "Nothing to take over: no such session is in conflict.\n",
            "",
        )

    await asyncio.to_thread(archive, two, "one")
    async with AsyncExitStack() as stack:
        if beside_a_daemon:
            await stack.enter_async_context(running(two.new))
            await stack.enter_async_context(running(two.old))
        assert nothing(await asyncio.to_thread(two.new.run, "takeover", "--from", "elsewhere"))
        assert nothing(await asyncio.to_thread(two.new.run, "takeover", "no-such-session"))
        assert nothing(await asyncio.to_thread(two.old.run, "takeover", "--all"))
        outcome = await asyncio.to_thread(two.old.run, "takeover", "--all", "--json")
        assert (outcome.status, json.loads(outcome.out)) == (1, {"taken": []})
    assert not is_ours(two, "one")


def test_a_machine_whose_history_gave_way_keeps_the_rest_of_it_aside(two: Two) -> None:
    archive(two, "one")
    assert two.new.run("takeover", "one").status == 0
    more = conversation(6)
    save(two.old.sessions, document(more, "one"))
    assert two.old.run("sync").status == 0
    assert is_ours(two, "one")
    assert history(more) in aside(two.kept, "one").values()


def test_what_to_take_over_has_to_be_said(two: Two) -> None:
    outcome = two.new.run("takeover")
    assert outcome.status == USAGE
    assert "--all" in outcome.err


@pytest.mark.parametrize("two", ["ministack"], indirect=True)
async def test_while_the_archive_does_not_answer_that_is_said_and_nothing_is_taken(
    two: Two,
) -> None:
    await asyncio.to_thread(archive, two, "one")
    two.new.environ["CODETETHER_HISTORY_S3_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    outcome = await asyncio.to_thread(two.new.run, "takeover", "one")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.splitlines()[-1].startswith("Error: ")
    assert not is_ours(two, "one")


def test_a_session_that_was_behind_begins_anew_when_it_is_taken_over(
    two: Two,
) -> None:
    start = THEIRS[:2]
    for home, messages in ((two.old, THEIRS), (two.new, start)):
        save(home.sessions, document(messages, "one"))
        home.run("sync")
    assert history_of(two.kept, "one") == history(THEIRS), "what is longer was replaced unasked"
    assert two.new.run("takeover", "one").status == 0
    assert history_of(two.kept, "one") == history(start)
    save(two.new.sessions, document([*start, *OURS], "one"))
    assert two.new.run("sync").status == 0
    assert history_of(two.kept, "one") == history([*start, *OURS])
    assert finished(two.kept, "one") == [history(THEIRS)]
    assert aside(two.kept, "one") == {}
