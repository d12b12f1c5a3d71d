"""`transcriptd cat`: the archived bytes, through a pipe, from a local archive and from servers."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from tests.documents import conversation, document, history, save
from tests.home import Home
from tests.planted import PREFIX, planted
from tests.proxy import FaultProxy
from tests.servers import create_bucket
from transcriptd.layout import mirror_key

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
    ended = home.ended("cat", *arguments)
    assert (ended.status, ended.err) == (0, b"")
    return ended.out


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
        (["two"], "There is no session two in "),
        (["a.b"], "There is no session a.b in "),
        (["history/two/history.jsonl"], "There is no history/two/history.jsonl in "),
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
        [""],
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
    assert f"There is no session bad in {home.archive}.\n" in outcome.err
    assert f"({home.sessions / 'bad.json'}) is quarantined: invalid_json: " in outcome.err
    assert "S3" not in outcome.err


UUID = "0f0e7a52-6c1d-4b8e-9a57-3d2c1b0a9f8e"
ANYTHING = b'{"a":1}\n\0\0\xff\xfe{"torn":\n' + b"x" * (3 << 20) + b"\nthe rest"


@pytest.mark.parametrize("place", ["local", "swift", "ministack"])
async def test_a_mirror_is_found_by_its_id_and_printed_byte_for_byte(
    home: Home, servers: Pool, place: str
) -> None:
    server = None if place == "local" else create_bucket(servers.get(place))
    if server:
        home.use(server)
    path = f"-srv-ü/{UUID}.jsonl"
    key = mirror_key(PREFIX, "m1", "claude", path.encode())
    agent = f"{UUID}/subagents/agent-1"
    async with planted(home, server) as archive:
        await archive.base(key, ANYTHING[: 1 << 20])
        await archive.segment(key, ANYTHING, 1 << 20, len(ANYTHING))
        await archive.base(mirror_key(PREFIX, "m1", "claude", f"p/{agent}.jsonl".encode()), b"{}\n")
    for what in (UUID, UUID[:8], path, key):
        assert cat(home, "--", what) == ANYTHING
    assert cat(home, agent) == b"{}\n"
    assert cat(home, UUID, "--bytes", "8-14") == ANYTHING[8:14]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("0-1", b'{"a":1}\n'),
        ("1-2", b'\0\0\xff\xfe{"torn":\n'),
        ("2-3", b"x" * (3 << 20) + b"\n"),
        ("3-", b"the rest"),
        ("3-9", b"the rest"),
    ],
)
async def test_the_lines_of_a_mirror_are_what_is_between_line_feeds(
    home: Home, said: str, expected: bytes
) -> None:
    async with planted(home) as archive:
        await archive.base(mirror_key(PREFIX, "m1", "codex", b"sessions/r.jsonl"), ANYTHING)
    assert cat(home, "sessions/r.jsonl", "--lines", said) == expected
    outcome = home.run("cat", "sessions/r.jsonl", "--lines", "4-")
    assert (outcome.status, outcome.out) == (1, "")


async def test_a_name_that_several_mirrors_have_is_exit_status_1_and_their_keys(
    home: Home,
) -> None:
    keys = [mirror_key(PREFIX, "m1", "claude", f"{p}/{UUID}.jsonl".encode()) for p in "ab"]
    async with planted(home) as archive:
        for key in keys:
            await archive.base(key, b"{}\n")
    for what in (UUID, UUID[:8]):
        outcome = home.run("cat", what)
        assert (outcome.status, outcome.out) == (1, "")
        assert outcome.err.splitlines()[1:] == [f"  {key}" for key in keys]


async def test_of_a_session_that_two_machines_have_this_machines_is_printed(home: Home) -> None:
    home.environ["TRANSCRIPTD_MACHINE"] = "new"
    path = f"-srv/{UUID}.jsonl".encode()
    async with planted(home) as archive:
        await archive.base(mirror_key(PREFIX, "new", "claude", path), b"{}\n{}\n")
        await archive.base(mirror_key(PREFIX, "old", "claude", path), b"{}\n")
    for what in (UUID, UUID[:8]):
        assert cat(home, what) == b"{}\n{}\n"
    assert cat(home, mirror_key(PREFIX, "old", "claude", path)) == b"{}\n"
    home.environ["TRANSCRIPTD_MACHINE"] = "third"
    assert "may be any of these" in home.run("cat", UUID).err


async def test_a_session_of_codetether_goes_before_a_mirror_and_nothing_is_listed(
    home: Home, bucket: Server
) -> None:
    async with planted(home, bucket) as archive:
        await archive.base(UUID, history(SHORT))
        await archive.base(mirror_key(PREFIX, "m1", "claude", f"p/{UUID}.jsonl".encode()), b"{}\n")
    async with FaultProxy(bucket) as proxy:
        home.use(proxy.server)
        assert await asyncio.to_thread(cat, home, UUID) == history(SHORT)
        listings = [seen.target for seen in proxy.requests if "list-type" in seen.target]
    assert len(listings) == 1
    assert f"history/.tail/{UUID}/" in unquote(listings[0])


async def test_a_generation_of_a_mirror_is_printed_or_said_not_to_be_there(home: Home) -> None:
    key = mirror_key(PREFIX, "m1", "claude", f"p/{UUID}.jsonl".encode())
    async with planted(home) as archive:
        await archive.base(key, b"{}\n", generation=1)
        await archive.closed(key, ANYTHING, 0)
    assert cat(home, UUID, "--generation", "0") == ANYTHING
    for what in (UUID, key):
        outcome = home.run("cat", what, "--generation", "7")
        assert f"There is no generation 7 of {key}. Those there are: 0, 1." in outcome.err
    assert f"{key} ends before byte 99" in home.run("cat", UUID, "--bytes", "99-").err


async def test_an_object_that_is_not_what_it_says_is_printed_and_said(home: Home) -> None:
    async with planted(home) as archive:
        await archive.base("one", history(SHORT))
    path = home.archive / "history" / "one" / "history.jsonl"
    path.write_bytes(history(SHORT).replace(b"tests", b"TESTS"))
    outcome = home.run("cat", "one")
    assert outcome.status == 1
    assert "TESTS" in outcome.out
    assert "history/one/history.jsonl is not what its metadata describe" in outcome.err


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
