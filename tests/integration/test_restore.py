"""`transcriptd restore`: a laptop that is gone comes back on the next one, by one command."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.daemon import running
from tests.documents import conversation, document, history, save
from tests.home import PATIENCE_S, Home
from tests.kept import KeptInBucket, KeptInDirectory
from tests.proxy import ACCESS_DENIED, in_thread
from tests.servers import create_bucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kept import Kept
    from tests.servers import Pool

SESSIONS = {f"s{number}": conversation(2 + number) for number in range(12)}


@pytest.fixture
def old() -> Iterator[Home]:
    """A home whose path is short, because that of the socket below it may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="td-") as path:
        yield Home.make(Path(path, "old"))


@pytest.fixture(params=["local", "ministack"])
def archived(request: pytest.FixtureRequest, old: Home, servers: Pool) -> Home:
    """The old laptop: all it had is archived."""
    if request.param != "local":
        old.use(create_bucket(servers.get(request.param)))
    else:
        old.environ["TRANSCRIPTD_LOCAL__PATH"] = str(old.path.parent / "archive")
    old.environ["TRANSCRIPTD_MACHINE"] = "old"
    for name, messages in SESSIONS.items():
        save(old.sessions, document(messages, name))
    assert old.run("sync").status == 0
    return old


@pytest.fixture
def new(archived: Home) -> Home:
    """The next one, pointed at the same archive."""
    home = Home.make(archived.path.parent / "new")
    home.environ = archived.environ | {"TRANSCRIPTD_MACHINE": "new"}
    return home


def restored(home: Home) -> dict[str, Any]:
    files = {path.stem: json.loads(path.read_bytes()) for path in home.sessions.glob("*.json")}
    assert all(value["id"] == name for name, value in files.items())
    return {name: value["messages"] for name, value in files.items()}


def kept(home: Home, servers: Pool) -> Kept:
    if "TRANSCRIPTD_LOCAL__PATH" in home.environ:
        return KeptInDirectory(home.path.parent / "archive")
    bucket = home.environ["CODETETHER_HISTORY_S3_BUCKET"]
    return KeptInBucket(replace(servers.get("ministack"), bucket=bucket))


async def test_one_command_brings_everything_back_and_the_daemon_goes_on(
    new: Home, servers: Pool
) -> None:
    outcome = await asyncio.to_thread(new.run, "restore", "--all")
    assert (outcome.status, outcome.out) == (0, "12 restored, 0 already there\n")
    assert restored(new) == SESSIONS
    async with running(new, TRANSCRIPTD_MACHINE="new") as daemon:
        await daemon.current(len(SESSIONS))
        longer = [*SESSIONS["s3"], *conversation(2, about="tests")]
        save(new.sessions, document(longer, "s3"))
        size = len(history(longer))
        await daemon.logged("session.archived", session="s3", length_bytes=size)
    told = await asyncio.to_thread(new.run, "cat", "s3")
    assert told.out.encode() == history(longer)
    assert not [key for key in kept(new, servers).listing() if "/.conflicts/" in key]


def test_killed_in_the_middle_it_goes_on_where_it_was(new: Home) -> None:
    new.environ["TRANSCRIPTD_FAILPOINT"] = "landed"
    assert new.run("restore", "--all").status == -signal.SIGKILL
    assert len(restored(new)) == 1
    new.environ["TRANSCRIPTD_FAILPOINT"] = "landing"
    assert new.run("restore", "--all").status == -signal.SIGKILL
    assert len(restored(new)) == 1
    del new.environ["TRANSCRIPTD_FAILPOINT"]
    outcome = new.run("restore", "--all")
    assert (outcome.status, outcome.out) == (0, "11 restored, 1 already there\n")
    assert restored(new) == SESSIONS
    assert {path.suffix for path in new.sessions.iterdir()} == {".json"}


def test_what_holds_more_is_named_and_replaced_only_by_force(new: Home) -> None:
    longer = [*SESSIONS["s1"], *conversation(1)]
    path = save(new.sessions, document(longer, "s1"))
    outcome = new.run("restore", "--all")
    assert outcome.status == 1
    assert "11 restored, 0 already there, 1 kept as they are" in outcome.out
    assert f"s1  {path}  kept; it holds more messages than the archive" in outcome.out
    forced = new.run("restore", "s1", "--force", "--json")
    assert forced.status == 0
    (said,) = json.loads(forced.out)["sessions"]
    assert (said["fate"], said["kept_as"]) == ("restored", f"{path}.before-restore")
    assert restored(new) == SESSIONS


def test_what_cannot_be_restored_is_listed_and_the_others_are_there(new: Home) -> None:
    outcome = new.run("restore", "s1", "gone", "s2")
    assert outcome.status == 1
    assert "2 restored, 0 already there, 1 not restored" in outcome.out
    assert "gone" in outcome.out
    assert set(restored(new)) == {"s1", "s2"}
    assert "Traceback" not in outcome.err


def test_elsewhere_nothing_of_this_machine_is_touched(new: Home, servers: Pool) -> None:
    before = kept(new, servers).listing()
    outcome = new.run("restore", "--all", "--to", "copies/here")
    assert outcome.status == 0
    assert {path.name for path in (new.path / "copies" / "here").iterdir()} == {
        f"{name}.json" for name in SESSIONS
    }
    assert kept(new, servers).listing() == before
    assert not (new.path / ".local" / "share" / "codetether-agent").exists()
    assert not new.state.exists()


@pytest.mark.parametrize("archived", ["ministack"], indirect=True)  # a directory is not claimed
def test_an_archive_that_may_only_be_read_is_enough(new: Home, servers: Pool) -> None:
    bucket = servers.get("ministack").with_bucket(new.environ["CODETETHER_HISTORY_S3_BUCKET"])
    with in_thread(bucket) as front:
        front.add(ACCESS_DENIED, method="PUT")
        new.environ["CODETETHER_HISTORY_S3_ENDPOINT"] = front.server.endpoint
        outcome = new.run("restore", "--all")
    assert outcome.status == 0
    assert outcome.err.count("could not be told") == 1
    assert restored(new) == SESSIONS


def test_there_is_nothing_in_an_archive_that_is_empty(old: Home) -> None:
    outcome = old.run("restore", "--all")
    assert outcome.status == 1
    assert f"There is no session in {old.archive}" in outcome.err


@pytest.fixture
def claudes(old: Home) -> tuple[Path, str]:
    """A session of Claude Code and a file that belongs to it, both archived; and its id."""
    name = "0f0e7a52-6c1d-4b8e-9a57-3d2c1b0a9f8e"
    file = old.path / ".claude" / "projects" / "-srv" / f"{name}.jsonl"
    inner = file.with_suffix("") / "subagents" / "agent-1.jsonl"
    inner.parent.mkdir(parents=True)
    for each in (file, inner):
        each.write_bytes(b"{}\n")
    old.environ["TRANSCRIPTD_MACHINE"] = "old"
    assert old.run("sync").status == 0
    for each in (inner, file):
        each.unlink()
    return inner, name


@pytest.mark.parametrize("what", ["nothing", "a.b"])
def test_an_id_that_is_not_archived_is_said_to_be_so_without_a_path(old: Home, what: str) -> None:
    outcome = old.run("restore", what, "--json")
    (session,) = json.loads(outcome.out)["sessions"]
    assert outcome.status == 1
    assert session["message"] == f"there is no session {what} in the archive"
    assert (session["path"], session["reason"]) == (None, "not_archived")
    assert "stream" not in old.run("restore", "nothing/history.jsonl").out


def test_another_agents_session_is_told_with_its_agent(
    old: Home, claudes: tuple[Path, str]
) -> None:
    assert (
        "a session of claude: say --agent claude"
        in old.run("restore", claudes[1], "--agent", "codex").out
    )
    old.environ["TRANSCRIPTD_MACHINE"] = "new"
    assert (
        "say --machine old --agent claude" in old.run("restore", claudes[1], "--agent", "codex").out
    )


def test_without_the_generation_asked_for_nothing_that_belongs_to_it_comes(
    old: Home, claudes: tuple[Path, str]
) -> None:
    inner, name = claudes
    outcome = old.run("restore", name, "--generation", "3")
    assert outcome.status == 1
    assert "no generation 3" in outcome.out
    assert not inner.exists()
    assert old.run("restore", name, "--generation", "0").status == 0
    assert inner.exists()


@pytest.mark.usefixtures("claudes")
def test_on_a_new_machine_it_is_said_how_to_have_those_of_another_one(old: Home) -> None:
    old.environ["TRANSCRIPTD_MACHINE"] = "new"
    outcome = old.run("restore", "--all")
    assert outcome.status == 1
    assert "transcriptd restore --machine old\n" in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--all", "s1"],
        ["--all", "--generation", "1"],
        ["--project", "/srv", "s1"],
        ["--agent", "zeroclaw", "--project", "/srv"],
        ["--agent", "codetether", "--machine", "old"],
        ["--all", "--map", "/srv"],
        ["--all", "--map", "here=/srv"],
        ["--all", "--map", "/a=/b", "--map", "/a=/c"],
    ],
)
def test_what_means_nothing_is_exit_status_2(old: Home, arguments: list[str]) -> None:
    assert old.run("restore", *arguments).status == 2


def test_progress_is_shown_on_a_terminal_only(new: Home) -> None:
    assert new.run("restore", "--all", "--to", "one").err == ""
    ours, theirs = pty.openpty()
    environ = {name: os.environ[name] for name in {"PATH", "PYTHONPATH"} & set(os.environ)}
    process = subprocess.run(
        [sys.executable, "-m", "transcriptd", "restore", "--all", "--to", "two"],
        env={**environ, "HOME": str(new.path), "TERM": "xterm", **new.environ},
        cwd=new.path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=PATIENCE_S,
        check=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # Linux: nobody holds the other end any more
        pass
    finally:
        os.close(ours)
    assert b"restoring" in shown
    assert process.stdout == b"12 restored, 0 already there\n"
