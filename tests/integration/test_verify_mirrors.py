"""`transcriptd verify` on what is mirrored, and what may lie beside it in the archive."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from tests.daemon import running
from tests.documents import conversation, document, save
from tests.home import Home
from tests.planted import planted
from tests.servers import create_bucket
from transcriptd.layout import mirrored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Pool, Server

PREFIX = "history/"
UUID = "0f0e7a52-6c1d-4b8e-9a57-3d2c1b0a9f8e"
LINES = b'{"a":1}\n{"torn":\n\0\0\0\n{"b":"\xff"}\n'
BLOCK = 1 << 20
SCHEMA = """
    CREATE TABLE sessions (id INTEGER PRIMARY KEY AUTOINCREMENT, session_key TEXT, role TEXT,
        content TEXT, created_at TEXT);
    INSERT INTO sessions (session_key, role, content) VALUES ('key/1', 'user', 'hello');
    INSERT INTO sessions (session_key, role, content) VALUES ('two', 'user', 'hello, too');
"""


@pytest.fixture
def home() -> Iterator[Home]:
    """A home whose path is short, because that of the socket below it may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="td-") as path:
        yield Home.make(Path(path, "home"))


@pytest.fixture
def server(servers: Pool) -> Server:
    return create_bucket(servers.get("ministack"))


@pytest.fixture
def claude(home: Home) -> Path:
    """A session of Claude Code."""
    return write(home.path / ".claude" / "projects" / "-srv" / f"{UUID}.jsonl", LINES)


@pytest.fixture
def rollout(home: Home) -> Path:
    """A session of Codex."""
    day = home.path / ".codex" / "sessions" / "2026" / "11" / "02"
    return write(day / f"rollout-2026-11-02T10-00-00-{UUID}.jsonl", LINES)


def write(path: Path, content: bytes, *, age_s: float = 60.0) -> Path:
    """Write a file that was last changed so long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return aged(path, age_s)


def aged(path: Path, age_s: float) -> Path:
    at = path.stat().st_mtime - age_s
    os.utime(path, (at, at))
    return path


def compress(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.zst")
    return write(packed, zstandard.ZstdCompressor().compress(path.read_bytes()))


def every_kind(home: Home) -> None:
    """Write a session of each agent, with all that may lie beside it."""
    save(home.sessions, document(conversation(3), "one"))
    project = home.path / ".claude" / "projects" / "-srv"
    write(project / f"{UUID}.jsonl", LINES * (BLOCK // 8) + b"a rest")
    write(project / UUID / "subagents" / "agent-1.jsonl", LINES)
    write(project / UUID / "subagents" / "agent-1.meta.json", b'{"type":"x"}')
    write(project / UUID / "tool-results" / "t.txt", b"a\0b\n\nno end")
    codex = home.path / ".codex"
    write(codex / "archived_sessions" / f"rollout-2-{UUID}.jsonl", LINES)
    zeroclaw = home.path / ".zeroclaw" / "data" / "sessions"
    for name in ("a.jsonl", "a.jsonl.importing", "b.jsonl.migrated", ".jsonl"):
        write(zeroclaw / name, LINES)
    with closing(sqlite3.connect(zeroclaw / "sessions.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA)


def sync(home: Home, *arguments: str) -> None:
    outcome = home.run("sync", *arguments)
    assert outcome.status == 0, outcome.err


def verify(home: Home, *arguments: str, status: int = 0) -> list[dict[str, Any]]:
    outcome = home.run("verify", "--json", *arguments)
    assert (outcome.status, outcome.err) == (status, ""), outcome.out
    return [json.loads(line) for line in outcome.out.splitlines()]


def change(path: Path, turn: int) -> None:
    """Let a file grow, up to the middle of a line; at each sixth turn it is rewritten."""
    if turn % 6:
        with path.open("ab") as file:
            file.write(LINES[turn % 7 :] * 500 + b'{"half":')
    else:
        path.write_bytes(LINES * turn)


def states(home: Home, *arguments: str) -> list[tuple[str, str]]:
    found = verify(home, *arguments)
    assert not any(line["findings"] for line in found)
    return sorted((line["session"], line["state"]) for line in found)


def what(line: dict[str, Any]) -> list[str]:
    return [finding["what"] for finding in line["findings"]]


def test_mirrors_of_every_kind_are_well_with_a_journal_and_without(
    home: Home, server: Server
) -> None:
    home.use(server)
    every_kind(home)
    sync(home)
    for journal in ("kept", "lost"):
        if journal == "lost":
            shutil.rmtree(home.state)
        for depth in ([], ["--deep"]):
            found = verify(home, *depth)
            assert {(line["state"], *what(line)) for line in found} == {("current",)}
            ids = {(line["source"], line["session"]) for line in found}
            assert {("claude", UUID), ("codex", UUID), ("zeroclaw", "a")} < ids
            assert {("zeroclaw", "sessions.db/two"), ("codetether", "one")} < ids
            assert len(found) == 12


@pytest.mark.parametrize("place", ["local", "s3"])
def test_a_mirror_is_verified_alone_by_its_id_or_key(
    home: Home, server: Server, place: str, claude: Path
) -> None:
    if place == "s3":
        home.use(server)
    write(claude.with_name(f"{UUID}.jsonl.meta.json"), b"{}")  # its key begins with the other's
    save(home.sessions, document(conversation(3), "one"))
    sync(home)
    (line,) = verify(home, UUID)
    assert (line["state"], line["path"]) == ("current", str(claude))
    assert states(home, line["key"], "--deep") == [(UUID, "current")]
    claude.unlink()
    shutil.rmtree(home.state)
    assert states(home, UUID) == [(UUID, "source_gone")]


def test_the_beginning_of_an_id_means_all_mirrors_that_begin_so(
    home: Home, claude: Path, rollout: Path
) -> None:
    other = write(claude.with_name(f"{UUID[:8]}-other.jsonl"), LINES)
    sync(home)
    found = verify(home, UUID[:8])
    assert {line["path"] for line in found} == {str(claude), str(other), str(rollout)}
    assert [line["path"] for line in verify(home, f"{UUID[:8]}-o")] == [str(other)]
    unknown = home.run("verify", f"{UUID[:7]}9")
    assert unknown.status == 1
    assert f"There is no session {UUID[:7]}9: " in unknown.err


def test_a_rest_without_an_end_is_nothing_to_do_until_nothing_came_for_a_while(
    home: Home, claude: Path
) -> None:
    claude.write_bytes(LINES + b'{"half":')
    sync(home)
    for depth in ([], ["--deep"]):
        assert states(home, *depth) == [(UUID, "current")]
    assert verify(home)[0]["length"] == len(LINES)
    aged(claude, 60.0)
    for depth in ([], ["--deep"]):
        assert states(home, *depth) == [(UUID, "pending")]
    sync(home)
    for depth in ([], ["--deep"]):
        assert states(home, *depth) == [(UUID, "current")]
    os.utime(claude)  # it is touched, and nothing came
    for depth in ([], ["--deep"]):
        assert states(home, *depth) == [(UUID, "current")]


def test_a_mirror_whose_file_is_gone_is_no_loss(home: Home) -> None:
    every_kind(home)
    sync(home)
    for directory in (".claude", ".codex", ".zeroclaw"):
        shutil.rmtree(home.path / directory)
    for depth in ([], ["--deep"]):
        found = [line for line in verify(home, *depth) if line["source"] != "codetether"]
        assert {(line["state"], line["path"], *what(line)) for line in found} == {
            ("source_gone", "")
        }
        assert len(found) == 11


def test_a_rollout_that_is_compressed_is_the_same_session(home: Home, rollout: Path) -> None:
    sync(home)
    packed = compress(rollout)
    for depth in ([], ["--deep"]):
        assert states(home, *depth) == [(UUID, "current")]
        assert verify(home, *depth)[0]["path"] == str(rollout)
    rollout.unlink()
    for _ in range(2):
        for depth in ([], ["--deep"]):
            assert states(home, *depth) == [(UUID, "current")]
            assert verify(home, *depth)[0]["path"] == str(packed)
        sync(home)


def test_a_rollout_that_moved_is_archived_under_both_names(home: Home, rollout: Path) -> None:
    sync(home)
    moved = home.path / ".codex" / "archived_sessions" / rollout.name
    moved.parent.mkdir()
    rollout.rename(moved)
    sync(home)
    for depth in ([], ["--deep"]):
        assert states(home, *depth) == [(UUID, "current"), (UUID, "source_gone")]


def test_damage_to_a_mirror_is_found_and_the_file_still_has_it(home: Home, claude: Path) -> None:
    sync(home)
    (key,) = (line["key"] for line in verify(home))
    archived = home.archive / key
    archived.write_bytes(archived.read_bytes().replace(b"a", b"A"))
    assert states(home) == [(UUID, "current")]
    (line,) = verify(home, "--deep", status=1)
    assert (what(line), line["state"]) == (["digest", "missing"], "pending")
    claude.unlink()
    (line,) = verify(home, "--deep", status=1)
    assert (what(line), line["state"]) == (["digest", "lost"], "lost")


def test_a_rewrite_of_the_same_size_waits_to_be_archived(home: Home, claude: Path) -> None:
    sync(home)
    before = claude.stat()
    claude.write_bytes(LINES.replace(b"a", b"A"))
    os.utime(claude, ns=(before.st_atime_ns, before.st_mtime_ns))
    for depth in ([], ["--deep"]):
        assert states(home, *depth) == [(UUID, "pending")]
    sync(home)
    assert states(home, "--deep") == [(UUID, "current")]


@pytest.mark.parametrize("place", ["local", "s3"])
async def test_beside_a_daemon_that_mirrors_all_the_time_nothing_is_wrong(
    home: Home, server: Server, claude: Path, place: str
) -> None:
    if place == "s3":
        home.use(server)
    async with running(home, TRANSCRIPTD_MACHINE="m1") as daemon:
        home.environ["TRANSCRIPTD_MACHINE"] = "m1"
        for depth in ([], ["--deep"]):
            with home.start("verify", "--json", *depth) as process:
                turns = 0
                while process.poll() is None:
                    turns += 1
                    change(claude, turns)
                    await daemon.sync()
                out, err = process.communicate()
            assert (process.returncode, err) == (0, b""), out.decode()
        await daemon.sync()
        assert {state for _, state in states(home, "--deep")} == {"current"}


async def test_nothing_but_mirrors_lies_below_raw(home: Home, server: Server) -> None:
    home.use(server)
    home.environ["TRANSCRIPTD_MACHINE"] = "m1"
    every_kind(home)
    path = home.path / ".claude" / "projects" / "-srv" / f"{UUID}.jsonl"
    for content in (b"x" * (64 << 10) + b"\n" + LINES, LINES, LINES * 2 + b"rest"):
        write(path, content)  # grown, and rewritten: segments and generations
        sync(home)
    write(path, LINES * 2 + b"rest" + LINES * 4)
    sync(home, "--seal")
    raw = f"{PREFIX}m1/raw/"
    roots = {
        "claude": home.path / ".claude" / "projects",
        "codex": home.path / ".codex",
        "zeroclaw": home.path / ".zeroclaw" / "data" / "sessions",
    }
    seen = set()
    async with planted(home, server) as archive:
        keys = [entry.key async for entry in archive.store.list("")]
        assert any(key.startswith(f"{PREFIX}.generations/m1/raw/") for key in keys)
        for key in keys:
            if not key.startswith(raw):
                assert "/raw/" not in key.removeprefix(PREFIX) or key[len(PREFIX)] == "."
                continue
            file = mirrored(PREFIX, key)
            assert file is not None
            seen.add(file.agent)
            if "sessions.db/" in file.path:
                continue
            async with archive.store.read(key) as reading:
                archived = b"".join([chunk async for chunk in reading.chunks])
            assert archived == (roots[file.agent] / file.path).read_bytes()
    assert seen == {"claude", "codex", "zeroclaw"}
    outcome = home.run("verify", "--deep")
    assert outcome.status == 0, outcome.out


async def test_a_name_that_is_no_text_or_commands_a_terminal_is_shown_as_none(home: Home) -> None:
    async with planted(home) as archive:
        await archive.store.put(f"{PREFIX}m1/raw/pi/%FF%1B.jsonl", b"{}\n", {})
    outcome = home.run("verify")
    assert (outcome.status, outcome.err) == (1, "")
    assert outcome.out.startswith("\ufffd\ufffd  foreign: ")
    (line,) = verify(home, status=1)
    assert line["session"] == "\ufffd\x1b"
    assert home.run("ls").out.splitlines()[1].startswith("\ufffd\ufffd  ")


async def test_an_object_below_raw_that_is_no_mirror_is_a_stranger(home: Home) -> None:
    async with planted(home) as archive:
        for name in ("raw/x", "raw/claude/%2E%2E/x.jsonl", "raw/claude/p/%61.jsonl"):
            await archive.store.put(f"{PREFIX}m1/{name}", b"x", {})
    found = verify(home, status=1)
    assert [what(line) for line in found] == [["stranger"]] * 3
