"""`transcriptd cat`: the archived bytes, through a pipe, from a local archive and from servers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.documents import conversation, document, history, save
from tests.home import PATIENCE_S, Home
from tests.planted import planted
from tests.servers import create_bucket

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Pool, Server

LONG, SHORT = conversation(5), conversation(2, about="tests")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.make(tmp_path / "home")


@pytest.fixture(params=["local", "swift", "ministack"])
def archived(request: pytest.FixtureRequest, home: Home, servers: Pool) -> Home:
    """A session that was archived, undone and archived again."""
    if request.param != "local":
        home.use(create_bucket(servers.get(request.param)))
    for messages in (LONG, SHORT):
        save(home.sessions, document(messages, "one"))
        assert home.run("sync").status == 0
    return home


def cat(home: Home, *arguments: str) -> bytes:
    with home.start("cat", *arguments) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, b"")
    return out


def test_the_bytes_of_each_generation_are_printed_as_they_are(archived: Home) -> None:
    old, new = history(LONG), history(SHORT)
    assert cat(archived, "one") == cat(archived, "history/one/history.jsonl") == new
    assert cat(archived, "one", "--generation", "1") == new
    assert cat(archived, "one", "--generation", "0") == old
    assert cat(archived, "one", "--bytes", "3-10") == new[3:10]
    assert cat(archived, "one", "--bytes", "3-") == new[3:]
    assert cat(archived, "one", "--bytes", "3-999999") == new[3:]
    assert cat(archived, "one", "--generation", "0", "--bytes", "200-201") == old[200:201]


@pytest.mark.parametrize("place", ["local", "swift", "ministack"])
async def test_the_tail_is_printed_with_its_base(home: Home, servers: Pool, place: str) -> None:
    server = None if place == "local" else create_bucket(servers.get(place))
    if server:
        home.use(server)
    whole = history(LONG)
    async with planted(home, server) as archive:
        await archive.base("one", whole[:100])
        await archive.segment("one", whole, 100, 300)
        await archive.segment("one", whole, 300, len(whole))
    assert cat(home, "one") == whole
    assert cat(home, "one", "--bytes", "90-310") == whole[90:310]
    assert cat(home, "one", "--bytes", "300-") == whole[300:]


def test_lines_are_counted_from_0_and_printed_whole(archived: Home) -> None:
    lines = history(LONG).splitlines(keepends=True)
    for said, expected in (
        ("0-1", lines[:1]),
        ("1-3", lines[1:3]),
        ("4-", lines[4:]),
        ("0-99", lines),
    ):
        assert cat(archived, "one", "--generation", "0", "--lines", said) == b"".join(expected)
    outcome = archived.run("cat", "one", "--lines", "99-")
    assert (outcome.status, outcome.out) == (1, "")
    assert "history/one/history.jsonl ends before line 99" in outcome.err


async def test_what_is_not_as_it_should_be_is_said_and_exit_status_1(home: Home) -> None:
    whole = history(LONG)
    async with planted(home) as archive:
        await archive.base("one", whole[:100])
        await archive.segment("one", whole, 100, 300)
        stray = await archive.segment("one", whole, 200, 400)
        await archive.base("two", whole[:100])
        wrong = await archive.segment("two", whole, 100, 300, pre="00" * 32)
    for session, printed, said in (
        ("one", whole[:300], f"{stray} begins before what precedes it ends; it was left out"),
        ("two", whole[:100], f"{wrong} does not continue what is before it; nothing was read"),
    ):
        outcome = home.run("cat", session)
        assert (outcome.status, outcome.out.encode()) == (1, printed)
        assert said in outcome.err


async def test_a_gap_in_the_tail_is_said_with_what_can_be_done(home: Home) -> None:
    whole = history(LONG)
    async with planted(home) as archive:
        await archive.base("one", whole[:100])
        await archive.segment("one", whole, 200, 300)
    outcome = home.run("cat", "one")
    assert (outcome.status, outcome.out) == (1, "")
    assert "the tail has a gap at byte 100" in outcome.err
    assert "range" in outcome.err
    assert cat(home, "one", "--bytes", "0-100") == whole[:100]


def test_what_is_not_there_is_exit_status_1_with_a_reason(archived: Home) -> None:
    for arguments, said in (
        (["two"], "There is no history/two/history.jsonl in "),
        (["one", "--generation", "9"], "history/one/history.jsonl. Those there are: 0, 1."),
        (["one", "--bytes", "999999-"], "ends before byte 999999"),
    ):
        outcome = archived.run("cat", *arguments)
        assert (outcome.status, outcome.out) == (1, "")
        assert said in outcome.err
        assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["a.b"],
        ["one", "--bytes", "5-5"],
        ["one", "--bytes", "x"],
        ["one", "--lines", "2-1"],
        ["one", "--bytes", "0-1", "--lines", "0-1"],
    ],
)
def test_what_means_nothing_is_exit_status_2(home: Home, arguments: list[str]) -> None:
    assert home.run("cat", *arguments).status == 2


def test_a_session_that_is_known_and_not_archived_is_said_to_be_so(home: Home) -> None:
    (home.sessions / "bad.json").write_text("{")
    assert home.run("sync").status == 1
    outcome = home.run("cat", "bad")
    assert outcome.status == 1
    assert f"There is no history/bad/history.jsonl in {home.archive}.\n" in outcome.err
    assert f"({home.sessions / 'bad.json'}) is quarantined: invalid_json: " in outcome.err
    assert "S3" not in outcome.err


def test_a_pointer_is_printed_too(home: Home, bucket: Server) -> None:
    home.use(bucket)
    save(home.sessions, document(LONG, "one"))
    assert home.run("sync").status == 0
    pointer = '{"bucket":"%s","key":"history/one/history.jsonl","byte_range":[4,9]}'
    assert cat(home, pointer % bucket.bucket) == history(LONG)[4:9]
    other = home.run("cat", pointer % "another")
    assert other.status == 1
    assert "another" in other.err


def test_a_reader_that_has_seen_enough_is_no_error_to_talk_about(home: Home) -> None:
    save(home.sessions, document(conversation(20_000), "one"))
    assert home.run("sync").status == 0
    with home.start("cat", "one") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert os.read(process.stdout.fileno(), 10) == history(conversation(1))[:10]
        process.stdout.close()
        assert process.stderr.read() == b""
