"""`transcriptd restore` for what is mirrored: Claude Code's, Codex's and ZeroClaw's sessions."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.daemon import eventually
from tests.home import PATIENCE_S, Home, Outcome
from tests.kept import KeptInBucket, KeptInDirectory
from tests.proxy import BlackHole, in_thread
from tests.servers import create_bucket
from transcriptd.remap import project_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kept import Kept
    from tests.servers import Pool

SAMPLES = Path(__file__).parents[1] / "data" / "mirrors"
PARENT = "0f0e7a52-6c1d-4b8e-9a57-3d2c1b0a9f8e"
LIVE = "0194c9aa-3e10-7a30-8f51-6a2b7c8d9e0f"
DIRECTORIES = (".claude/projects", ".codex", ".zeroclaw")


@pytest.fixture
def old() -> Iterator[Home]:
    """A home with sessions of three agents."""
    with tempfile.TemporaryDirectory(prefix="td-") as path:
        home = Home.make(Path(path, "old"))
        shutil.copytree(SAMPLES / "claude", home.path / ".claude" / "projects")
        shutil.copytree(SAMPLES / "codex", home.path / ".codex")
        sessions = home.path / ".zeroclaw" / "data" / "sessions"
        sessions.mkdir(parents=True)
        (sessions / "telegram_1.jsonl").write_bytes(b'{"role":"user","content":"hello"}\nto')
        home.environ["TRANSCRIPTD_MACHINE"] = "old"
        yield home


@pytest.fixture(params=["local", "ministack"])
def archived(request: pytest.FixtureRequest, old: Home, servers: Pool) -> Home:
    if request.param != "local":
        old.use(create_bucket(servers.get(request.param)))
    else:
        old.environ["TRANSCRIPTD_LOCAL__PATH"] = str(old.path.parent / "archive")
    quieten(old)
    assert old.run("sync").status == 0
    return old


@pytest.fixture
def new(archived: Home) -> Home:
    home = Home.make(archived.path.parent / "new")
    home.environ = archived.environ | {"TRANSCRIPTD_MACHINE": "new"}
    return home


here = pytest.mark.parametrize("archived", ["local"], indirect=True)
there = pytest.mark.parametrize("archived", ["ministack"], indirect=True)


def quieten(home: Home) -> None:
    """Let every file be as old as one that is finished."""
    for path in home.path.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))


def files(home: Home) -> dict[str, bytes]:
    found = (p for name in DIRECTORIES for p in (home.path / name).rglob("*") if p.is_file())
    return {str(path.relative_to(home.path)): path.read_bytes() for path in found}


def kept(home: Home, servers: Pool) -> Kept:
    if "TRANSCRIPTD_LOCAL__PATH" in home.environ:
        return KeptInDirectory(home.path.parent / "archive")
    bucket = home.environ["CODETETHER_HISTORY_S3_BUCKET"]
    return KeptInBucket(replace(servers.get("ministack"), bucket=bucket))


def test_another_machines_sessions_come_back_by_its_name(new: Home, archived: Home) -> None:
    outcome = new.run("restore", "--machine", "old")
    many = len(files(archived))
    assert (outcome.status, outcome.out) == (0, f"{many} restored, 0 already there\n")
    assert files(new) == files(archived)
    quieten(new)
    assert new.run("sync").status == 0, "this machine archives them as its own"
    again = new.run("restore", "--all")
    assert (again.status, again.out) == (0, f"0 restored, {many} already there\n")


def test_this_machines_come_back_with_all_and_go_on(archived: Home, servers: Pool) -> None:
    before, listing = files(archived), kept(archived, servers).listing()
    for name in (*DIRECTORIES, ".local/state"):
        shutil.rmtree(archived.path / name)
    outcome = archived.run("restore", "--all")
    assert (outcome.status, outcome.out) == (0, f"{len(before)} restored, 0 already there\n")
    assert files(archived) == before
    quieten(archived)
    (live,) = (archived.path / ".codex" / "sessions").rglob(f"*{LIVE}.jsonl")
    with live.open("ab") as file:
        file.write(b'{"type":"event_msg"}\n')
    assert archived.run("sync").status == 0
    more = {key for key in kept(archived, servers).listing() if key not in listing}
    assert not [key for key in more if ".generations/" in key or ".conflicts/" in key]
    assert archived.run("verify", "--deep").status == 0


@here
def test_a_machine_that_stored_nothing_is_told_with_those_that_did(new: Home) -> None:
    outcome = new.run("restore", "--machine", "older")
    assert (outcome.status, outcome.out) == (1, "")
    assert "no mirrored sessions of machine older; it has those of: old" in outcome.err
    everything = new.run("restore", "--all")
    assert everything.status == 1
    assert "It has mirrored sessions of: old" in everything.err


@here
def test_a_session_brings_what_belongs_to_it(new: Home, archived: Home) -> None:
    outcome = new.run("restore", PARENT, "--machine", "old")
    assert outcome.status == 0
    wanted = {name: body for name, body in files(archived).items() if PARENT in name}
    assert files(new) == wanted
    assert len(wanted) > 1
    elsewhere = new.run("restore", PARENT[:9], "--machine", "old", "--to", "copies")
    assert elsewhere.status == 0
    copies = new.path / "copies" / "claude"
    assert sum(path.is_file() for path in copies.rglob("*")) == len(wanted)


@here
def test_a_dry_run_says_what_would_be_done_and_does_nothing(new: Home) -> None:
    outcome = new.run("restore", "--machine", "old", "--agent", "codex", "--dry-run")
    assert outcome.status == 0
    assert "4 to be restored, 0 already there" in outcome.out
    assert str(new.path / ".codex" / "archived_sessions") in outcome.out
    assert not (new.path / ".codex").exists()
    assert not new.state.exists()


def test_killed_in_the_middle_it_goes_on_where_it_was(new: Home, archived: Home) -> None:
    for where in ("landed", "landing"):
        new.environ["TRANSCRIPTD_FAILPOINT"] = where
        assert new.run("restore", "--machine", "old").status == -signal.SIGKILL
        strange = set(files(new)) - set(files(archived))
        assert all(name.endswith(".new") for name in strange)
    del new.environ["TRANSCRIPTD_FAILPOINT"]
    assert new.run("restore", "--machine", "old").status == 0
    assert files(new) == files(archived)


@there
def test_ctrl_c_says_that_it_goes_on_and_leaves_nothing_half_written(
    new: Home, archived: Home, servers: Pool
) -> None:
    bucket = servers.get("ministack").with_bucket(new.environ["CODETETHER_HISTORY_S3_BUCKET"])
    with in_thread(bucket) as front:
        new.environ["CODETETHER_HISTORY_S3_ENDPOINT"] = front.server.endpoint
        front.add(BlackHole(), method="GET", key="raw/zeroclaw/")
        with new.start("restore", "--machine", "old") as process:
            try:
                asyncio.run(eventually(lambda: front.count("GET", "raw/zeroclaw/")))
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
        assert process.returncode == 1
    assert b"Aborted" not in err
    assert b"the same command goes on where this one ended" in err
    assert b"Traceback" not in err
    assert files(new).items() <= files(archived).items()
    new.environ["CODETETHER_HISTORY_S3_ENDPOINT"] = bucket.endpoint
    assert new.run("restore", "--machine", "old").status == 0
    assert files(new) == files(archived)


def limited(home: Home, script: str, *arguments: str) -> Outcome:
    """Run a verb, `"$@"` in a shell script that narrows what it may do."""
    inherited = {name: os.environ[name] for name in {"PATH", "PYTHONPATH"} & set(os.environ)}
    verb = (sys.executable, "-m", "transcriptd", *arguments)
    done = subprocess.run(
        ["sh", "-c", script, "sh", *verb],
        env={**inherited, "HOME": str(home.path), **home.environ},
        cwd=home.path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


@here
def test_a_file_that_may_not_be_so_large_is_named_and_the_others_are_there(
    old: Home, new: Home
) -> None:
    large = old.path / ".claude" / "projects" / "-srv" / "large.jsonl"
    large.parent.mkdir()
    large.write_bytes(b'{"n":1}\n' * 300_000)
    quieten(old)
    assert old.run("sync").status == 0
    outcome = limited(new, 'ulimit -f 1000 && exec "$@"', "restore", "--machine", "old")
    assert outcome.status == 1
    assert "large" in outcome.out
    assert "File too large" in outcome.out
    assert "The same command goes on" in outcome.out
    assert set(files(old)) - set(files(new)) == {".claude/projects/-srv/large.jsonl"}
    assert new.run("restore", "--machine", "old").status == 0
    assert files(new) == files(old)


@here
def test_a_full_disk_ends_it_and_leaves_nothing_half_written(old: Home, new: Home) -> None:
    for number in range(20):
        large = old.path / ".claude" / "projects" / "-srv" / f"large{number}.jsonl"
        large.parent.mkdir(exist_ok=True)
        large.write_bytes(b'{"n":1}\n' * 30_000)
    quieten(old)
    assert old.run("sync").status == 0
    inside = (
        'mount -t tmpfs -o size=2m tmpfs "$HOME" && cd "$HOME" && { "$@"; echo "status $?"; '
        "find . -type f '(' -name '*.new' -o -name 'large*' -size -240000c ')'; }"
    )
    new.environ["INSIDE"] = inside
    outcome = limited(
        new, 'exec unshare --mount sh -c "$INSIDE" sh "$@"', "restore", "--machine", "old"
    )
    if "status" not in outcome.out:
        pytest.skip(f"a small disk cannot be mounted here: {outcome.err}")
    assert "No space left on device" in outcome.out
    assert "not tried, because of another one" in outcome.out
    assert "The same command goes on" in outcome.out
    assert outcome.out.endswith("status 1\n"), "nothing half-written is left"


@here
def test_a_project_that_moved_comes_back_where_it_is_now(archived: Home, servers: Pool) -> None:
    before = files(archived)
    listing = set(kept(archived, servers).listing())
    for name in (*DIRECTORIES, ".local/state"):
        shutil.rmtree(archived.path / name)
    (archived.path / "shop").mkdir()
    moved = str(archived.path / "shop")
    outcome = archived.run(
        "restore", "--all", "--project", "/srv/shop", "--map", f"/srv/shop={moved}"
    )
    assert outcome.status == 0, outcome.out
    now = files(archived)
    assert {name for name in before if "-srv-shop/" in name} == {
        name.replace(project_name(moved), "-srv-shop") for name in now if "claude" in name
    }
    parent = now[f".claude/projects/{project_name(moved)}/{PARENT}.jsonl"]
    assert (
        parent.replace(moved.encode(), b"/srv/shop")
        == before[f".claude/projects/-srv-shop/{PARENT}.jsonl"]
    )
    rollouts = [name for name in now if "rollout-" in name]
    assert rollouts
    assert all(
        json.loads(now[name].split(b"\n")[0])["payload"]["cwd"].startswith(moved)
        for name in rollouts
    )

    quieten(archived)
    assert archived.run("sync").status == 0
    again = set(kept(archived, servers).listing())
    assert listing <= again, "the archive keeps all that it had"
    new = again - listing
    assert all(f"raw/claude/{project_name(moved)}/" in k for k in new if "/claude/" in k)
    finished = {key for key in new if key.startswith("history/.generations/old/raw/codex/")}
    assert {key.split("/raw/codex/")[1].rpartition("/")[0] for key in finished} == {
        name.removeprefix(".codex/") for name in rollouts if now[name] != before[name]
    }
    assert archived.run("verify", "--deep").status == 0
