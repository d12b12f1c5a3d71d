"""`transcriptd ls`: what is archived, from a local archive and from servers, on any machine."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.documents import conversation, document, history, save
from tests.home import Home
from tests.planted import PREFIX, planted
from tests.proxy import FaultProxy
from tests.servers import create_bucket
from transcriptd.layout import mirror_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.planted import Planted
    from tests.servers import Pool, Server

WHOLE, OTHER = history(conversation(6)), history(conversation(2, about="tests"))
UUID = "5b0c7a52-3f0e-4d7e-9a63-1d2f8c4e7a10"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.make(tmp_path / "home")


@pytest.fixture
def server(servers: Pool) -> Server:
    return create_bucket(servers.get("ministack"))


@pytest.fixture(params=["local", "swift", "ministack"])
async def archive(
    request: pytest.FixtureRequest, home: Home, servers: Pool
) -> AsyncIterator[Planted]:
    """An empty archive, which `home` uses."""
    server = None
    if request.param != "local":
        server = create_bucket(servers.get(request.param))
        home.use(server)
    async with planted(home, server) as archive:
        yield archive


def listed(home: Home, *arguments: str) -> list[dict[str, Any]]:
    outcome = home.run("ls", "--json", *arguments)
    assert (outcome.status, outcome.err) == (0, "")
    return [json.loads(line) for line in outcome.out.splitlines()]


async def test_what_others_archived_is_listed_with_all_that_belongs_to_it(
    home: Home, archive: Planted
) -> None:
    started = time.time()
    await archive.base("one", WHOLE[:100], generation=1)
    await archive.closed("one", OTHER, 0)
    theirs = await archive.conflict("one", "m2.abc", OTHER)
    await archive.base("two", WHOLE[:100])
    await archive.segment("two", WHOLE, 100, 300)
    await archive.segment("two", WHOLE, 300, len(WHOLE))
    mirrored = mirror_key(PREFIX, "m3", "claude", b"-srv/x.jsonl")
    await archive.base(mirrored, OTHER)
    mirror, one, two = listed(home)
    assert (mirror["session"], mirror["agent"], mirror["machine"]) == ("x", "claude", "m3")
    assert (mirror["source"], mirror["mirror_path"]) == ("claude", "-srv/x.jsonl")
    assert (mirror["key"], mirror["bytes"]) == (mirrored, len(OTHER))
    assert (one["session"], one["source"], one["agent"]) == ("one", "codetether", "codetether")
    assert (one["machine"], one["mirror_path"], one["belongs_to"]) == (None, None, None)
    assert (one["key"], one["generation"]) == ("history/one/history.jsonl", 1)
    assert (one["closed"], one["closed_bytes"]) == ([0], len(OTHER))
    assert (one["bytes"], one["tail_bytes"]) == (100, 0)
    (conflict,) = one["conflicts"]
    assert (conflict["session"], conflict["conflict"]) == ("one", "m2.abc")
    assert (conflict["key"], conflict["bytes"]) == (theirs, len(OTHER))
    assert (two["bytes"], two["tail_bytes"]) == (len(WHOLE), len(WHOLE) - 100)
    assert two["conflicts"] == []
    for each in (mirror, one, two):
        assert abs(each["changed_at"] - started) < 60
        assert (each["state"], each["path"], each["workspace"]) == (None, None, None)


async def test_asked_for_more_each_session_says_what_it_knows(home: Home, archive: Planted) -> None:
    await archive.base("one", OTHER, generation=3)
    await archive.document("one", "/srv/app")
    await archive.base("two", WHOLE[:100])
    await archive.segment("two", WHOLE, 100, 300)
    one, two = listed(home, "--long")
    assert (one["generation"], one["records"], one["writer"]) == (3, 2, "m1.0")
    assert one["workspace"] == "/srv/app"
    assert (two["records"], two["workspace"]) == (None, None)


async def test_a_workspace_is_that_of_the_document_wherever_it_was_archived(
    home: Home, archive: Planted
) -> None:
    for session, directory in (
        ("one", "/srv/app"),
        ("two", "/srv/app/sub"),
        ("three", "/srv/app-2"),
        ("four", "/srv"),
    ):
        await archive.base(session, OTHER)
        await archive.document(session, directory)
    await archive.base("five", OTHER)
    found = listed(home, "--workspace", "/srv/app")
    assert [(each["session"], each["workspace"]) for each in found] == [
        ("one", "/srv/app"),
        ("two", "/srv/app/sub"),
    ]
    nothing = home.run("ls", "--workspace", "/srv/other")
    assert (nothing.status, nothing.out) == (1, "")
    said = "Nothing of CodeTether's of workspace /srv/other is archived under history/ in "
    assert said in nothing.err
    assert "`transcriptd restore --project DIR --dry-run`" in nothing.err


async def test_an_archive_with_nothing_in_it_is_exit_status_1(home: Home, archive: Planted) -> None:
    for arguments in (["ls"], ["ls", "--json"]):
        outcome = home.run(*arguments)
        assert (outcome.status, outcome.out) == (1, "")
        assert "Error: Nothing is archived under history/ in " in outcome.err
        assert "Traceback" not in outcome.err


def test_what_this_machine_knows_stands_with_its_sessions(home: Home) -> None:
    own = home.path / ".codetether-agent" / "sessions"
    own.mkdir(parents=True)
    save(home.sessions, document(conversation(3), "one"))
    unnamed = document(conversation(2), "two", metadata={"model": None})
    path = save(own, unnamed)
    assert home.run("sync").status == 0
    one, two = listed(home)
    assert (one["state"], one["path"]) == ("current", str(home.sessions / "one.json"))
    assert (one["records"], one["reason"], one["workspace"]) == (3, "", None)
    assert (two["path"], two["workspace"]) == (str(path), str(home.path))
    found = listed(home, "--workspace", str(home.path))
    assert [each["session"] for each in found] == ["two"]
    found = listed(home, "--workspace", "/srv/app")
    assert [each["session"] for each in found] == ["one"]


async def test_what_the_archive_has_beyond_the_journal_is_not_counted_by_it(home: Home) -> None:
    save(home.sessions, document(conversation(3), "one"))
    assert home.run("sync").status == 0
    async with planted(home) as archive:
        await archive.base("one", WHOLE)
    (one,) = listed(home)
    assert (one["state"], one["bytes"], one["records"]) == ("current", len(WHOLE), None)


async def test_what_the_journal_says_of_another_archive_is_not_said_of_this_one(
    home: Home, server: Server
) -> None:
    save(home.sessions, document(conversation(3), "one"))
    assert home.run("sync").status == 0
    home.use(server)
    async with planted(home, server) as archive:
        await archive.base("one", OTHER)
    (one,) = listed(home)
    assert (one["state"], one["path"], one["records"]) == (None, None, None)


async def test_a_table_fits_80_columns_and_is_one_row_a_stream(home: Home) -> None:
    async with planted(home) as archive:
        await archive.base(UUID, WHOLE)
        await archive.closed(UUID, OTHER, 0)
        await archive.conflict(UUID, "laptop.0123456789ab", OTHER)
    outcome = home.run("ls")
    assert outcome.status == 0
    header, row, conflict, total = outcome.out.splitlines()
    assert header.split() == ["SESSION", "SIZE", "GENS", "LAST", "CHANGE", "STATE"]
    assert row.startswith(f"{UUID}  ")
    assert "  2  " in row
    assert conflict.startswith("  conflict laptop.0123456789ab  ")
    assert total.startswith("1 session, ")
    assert all(len(line) <= 80 for line in (header, row, conflict))
    assert "\x1b" not in outcome.out
    long = home.run("ls", "--long").out.splitlines()[2]
    assert long.strip().startswith("6 records, generation 0, finished ones ")


@pytest.fixture
async def mirrored(home: Home) -> Home:
    """CodeTether's and other agents' sessions of two machines."""
    async with planted(home) as archive:
        await archive.base("one", WHOLE)
        for machine, agent, path in (
            ("m1", "claude", f"-srv/{UUID}.jsonl"),
            ("m1", "claude", f"-srv/{UUID}/subagents/agent-1.jsonl"),
            ("m1", "claude", f"-srv/{UUID}/subagents/agent-1.meta.json"),
            ("m1", "claude", f"-srv/{UUID}/tool-results/t.txt"),
            ("m1", "claude", "-srv/lost/tool-results/a.txt"),
            ("m1", "claude", "-srv/lost/tool-results/b.txt"),
            ("m1", "codex", f"archived_sessions/rollout-1-{UUID}.jsonl"),
            ("m1", "codex", f"sessions/2026/11/02/rollout-1-{UUID}.jsonl"),
            ("laptop", "pi", "a/\x1b[2J.jsonl"),
        ):
            await archive.base(mirror_key(PREFIX, machine, agent, path.encode()), OTHER)
    return home


def test_a_table_shows_mirrors_as_sessions_with_their_files(mirrored: Home) -> None:
    outcome = mirrored.run("ls")
    assert outcome.status == 0
    header, *rows, total = outcome.out.splitlines()
    columns = ["SESSION", "AGENT", "MACHINE", "FILES", "SIZE", "GENS", "LAST", "CHANGE", "STATE"]
    assert header.split() == columns
    shown = [row.split()[:4] for row in rows]
    assert shown[0][:2] == ["one", "codetether"]
    assert shown[1:] == [
        ["a/\ufffd[2J", "pi", "laptop", "1"],
        [UUID, "claude", "m1", "4"],
        ["lost/tool-results/a.txt", "claude", "m1", "2"],
        [UUID, "codex", "m1", "2"],
    ]
    assert total.startswith("5 sessions (10 files), ")
    assert all(len(row) == len(rows[0]) for row in rows)
    each_file = mirrored.run("ls", "--all").out.splitlines()
    assert len(each_file) == 12
    assert any(row.startswith(f"{UUID}/tool-results/t.txt  ") for row in each_file)


def test_only_an_agents_or_a_machines_sessions_are_listed(mirrored: Home) -> None:
    codex = listed(mirrored, "--agent", "codex")
    assert {(each["agent"], each["session"]) for each in codex} == {("codex", UUID)}
    assert [each["agent"] for each in listed(mirrored, "--machine", "laptop")] == ["pi"]
    assert [each["session"] for each in listed(mirrored, "--agent", "codetether")] == ["one"]
    assert len(mirrored.run("ls", "--agent", "codetether").out.splitlines()[0]) <= 80
    nothing = mirrored.run("ls", "--machine", "desk", "--agent", "pi")
    assert (nothing.status, nothing.out) == (1, "")
    assert "Nothing of agent pi of machine desk is archived under history/ in " in nothing.err
    assert nothing.err.rstrip().endswith("Machines of which something is: laptop, m1.")


def test_json_has_each_mirrored_file_and_says_what_it_belongs_to(mirrored: Home) -> None:
    found = listed(mirrored, "--agent", "claude")
    own = f"-srv/{UUID}.jsonl"
    assert {each["mirror_path"]: each["belongs_to"] for each in found} == {
        own: None,
        f"-srv/{UUID}/subagents/agent-1.jsonl": own,
        f"-srv/{UUID}/subagents/agent-1.meta.json": own,
        f"-srv/{UUID}/tool-results/t.txt": own,
        "-srv/lost/tool-results/a.txt": "-srv/lost.jsonl",
        "-srv/lost/tool-results/b.txt": "-srv/lost.jsonl",
    }
    assert f"{UUID}/subagents/agent-1" in {each["session"] for each in found}


def test_a_mirror_of_this_machine_stands_with_what_is_known_of_it_here(home: Home) -> None:
    project = home.path / ".claude" / "projects" / "-srv"
    (project / UUID / "subagents").mkdir(parents=True)
    (project / f"{UUID}.jsonl").write_bytes(OTHER)
    (project / UUID / "subagents" / "agent-1.jsonl").write_bytes(OTHER)
    assert home.run("sync").status == 0
    session, agent = listed(home)
    assert (session["state"], session["records"]) == ("current", 2)
    assert session["path"] == str(project / f"{UUID}.jsonl")
    assert agent["path"] == str(project / UUID / "subagents" / "agent-1.jsonl")
    (row,) = home.run("ls").out.splitlines()[1:-1]
    assert row.endswith("  current")
    (project / UUID / "subagents" / "agent-1.jsonl").unlink()
    assert home.run("sync").status == 0
    (row,) = home.run("ls").out.splitlines()[1:-1]
    assert row.endswith("  current")


def test_what_an_agent_deletes_soon_is_said_with_its_state(home: Home) -> None:
    project = home.path / ".claude" / "projects" / "-srv"
    project.mkdir(parents=True)
    for name, age_days in (("old", 28), ("new", 1)):
        path = project / f"{name}.jsonl"
        path.write_bytes(OTHER)
        os.utime(path, (0, time.time() - age_days * 86_400 + 600))
    assert home.run("sync").status == 0
    new, old = listed(home)
    assert abs(old["expires_at"] - time.time() - 2 * 86_400 - 600) < 60
    assert abs(new["expires_at"] - time.time() - 29 * 86_400 - 600) < 60
    rows = home.run("ls").out.splitlines()[1:-1]
    assert [row.rpartition("  ")[2] for row in rows] == [
        "current",
        "current, deleted here in 2 d 0 h",
    ]
    (project / "old.jsonl").unlink()
    assert [each["expires_at"] for each in listed(home)][1] is None


async def test_what_a_document_says_cannot_command_a_terminal(home: Home) -> None:
    async with planted(home) as archive:
        await archive.base("one", OTHER)
        await archive.document("one", "/srv/\x1b[2Japp\n")
    outcome = home.run("ls", "--long")
    assert "/srv/\ufffd[2Japp\ufffd" in outcome.out


async def test_one_listing_is_all_that_is_asked(home: Home, server: Server) -> None:
    async with planted(home, server) as archive:
        for number in range(5):
            await archive.base(f"s{number}", OTHER)
    async with FaultProxy(server) as proxy:
        home.use(proxy.server)
        outcome = await asyncio.to_thread(home.run, "ls")
        assert proxy.count() == 1
    assert outcome.status == 0


async def test_an_archive_that_cannot_be_read_is_said(home: Home, server: Server) -> None:
    home.use(server)
    home.environ["CODETETHER_HISTORY_S3_BUCKET"] = "there-is-none"
    outcome = home.run("ls")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("Error: ")
    assert "Traceback" not in outcome.err


def test_an_archive_that_is_configured_in_part_is_said(home: Home) -> None:
    home.environ["CODETETHER_HISTORY_S3_BUCKET"] = "b"
    outcome = home.run("ls")
    assert outcome.status == 1
    assert "missing" in outcome.err


async def test_a_reader_that_has_seen_enough_is_no_error_to_talk_about(home: Home) -> None:
    async with planted(home) as archive:
        for number in range(250):
            await archive.base(f"s{number}", OTHER)
    with home.start("ls", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert os.read(process.stdout.fileno(), 1) == b"{"
        process.stdout.close()
        assert process.stderr.read() == b""
