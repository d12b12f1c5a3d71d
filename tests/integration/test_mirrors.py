"""Files of Claude Code, Codex and ZeroClaw, mirrored by the daemon as a process, to a real server.

The archive is read without our code.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

from tests.daemon import eventually, running
from tests.home import Home
from tests.kept import KeptInBucket, stream_of
from tests.proxy import FaultProxy
from tests.servers import Missing, create_bucket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.servers import Pool, Server

UUID = "0199aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"
ROLLOUT = f"rollout-2026-11-21T10-00-00-{UUID}.jsonl"
RAW = "history/m1/raw"
LINE = b'{"type":"user","message":{"role":"user","content":"%06d"}}\n'


def lines(count: int, first: int = 0) -> bytes:
    return b"".join(LINE % number for number in range(first, first + count))


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="td-") as path:
        home = Home.make(Path(path, "home"))
        home.environ["TRANSCRIPTD_MACHINE"] = "m1"
        yield home


@pytest.fixture
def server(servers: Pool, home: Home) -> Server:
    try:
        server = create_bucket(servers.get("minio"))
    except Missing:
        server = create_bucket(servers.get("ministack"))
    home.use(server)
    return server


@pytest.fixture
async def proxy(server: Server, home: Home) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(server) as proxy:
        home.use(proxy.server)
        yield proxy


def claude(home: Home, name: str = f"{UUID}.jsonl") -> Path:
    path = home.path / ".claude" / "projects" / "-srv-app" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def codex(home: Home, folder: str = "sessions/2026/11/21") -> Path:
    path = home.path / ".codex" / folder / ROLLOUT
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def sent(proxy: FaultProxy, key: str) -> int:
    """Return how many bytes of bodies went to keys that match."""
    return sum(seen.body_bytes for seen in proxy.seen("PUT|POST", key))


def kept(server: Server, path: str) -> bytes | None:
    return stream_of(KeptInBucket(server), f"{RAW}/{path}")


def old(path: Path) -> Path:
    """Let a file be as old as one that has been quiet."""
    os.utime(path, (1, 1))
    return path


class TestClaude:
    async def test_each_append_is_archived_as_it_comes_and_sealed_it_is_the_file(
        self, home: Home, proxy: FaultProxy, server: Server
    ) -> None:
        path, key = claude(home), f"claude/-srv-app/{UUID}.jsonl"
        path.write_bytes(lines(2000))
        async with running(home) as daemon:
            await eventually(lambda: kept(server, key) == lines(2000))
            before = sent(proxy, UUID)
            for number in range(2000, 2020):
                with path.open("ab") as file:
                    file.write(lines(1, number))
                whole = lines(number + 1)
                await eventually(lambda w=whole: kept(server, key) == w)
            assert sent(proxy, UUID) - before <= len(lines(20))
            assert (await daemon.sync(seal=True)).is_ok
        base = KeptInBucket(server).look(f"{RAW}/{key}")
        assert base is not None
        assert base.body == path.read_bytes()

    async def test_everything_that_belongs_to_a_session_is_mirrored_and_nothing_else(
        self, home: Home, server: Server
    ) -> None:
        files = {
            f"{UUID}.jsonl": lines(3),
            f"{UUID}/subagents/agent-a1.jsonl": lines(2),
            f"{UUID}/subagents/agent-a1.meta.json": b'{"agentType":"general"}',
            f"{UUID}/tool-results/toolu_1.txt": b"no line feed, \xff\x00 no text",
        }
        for name, content in files.items():
            claude(home, name).parent.mkdir(parents=True, exist_ok=True)
            claude(home, name).write_bytes(content)
        claude(home, "notes.txt").write_bytes(b"not a session")
        claude(home, f"{UUID}/tool-results/empty.txt").touch()
        outcome = home.run("sync", "--seal")
        assert outcome.status == 0, outcome.out + outcome.err
        found = KeptInBucket(server).listing(f"{RAW}/")
        assert found == sorted(f"{RAW}/claude/-srv-app/{name}" for name in files)
        assert {kept(server, key.removeprefix(f"{RAW}/")) for key in found} == {*files.values()}

    async def test_a_session_in_a_new_project_is_noticed_by_its_event(
        self, home: Home, server: Server
    ) -> None:
        (home.path / ".claude" / "projects").mkdir(parents=True)
        async with running(home, TRANSCRIPTD_WATCH__RESCAN="3600") as daemon:
            claude(home).write_bytes(lines(1))
            await eventually(lambda: kept(server, f"claude/-srv-app/{UUID}.jsonl") == lines(1))
            deep = f"{UUID}/subagents/workflows/w1/agent-b.jsonl"
            claude(home, deep).write_bytes(lines(4))
            await eventually(lambda: kept(server, f"claude/-srv-app/{deep}") == lines(4))
            await daemon.current(2)

    async def test_an_unfinished_line_waits_until_it_is_finished_or_old(
        self, home: Home, server: Server
    ) -> None:
        path, key = claude(home), f"claude/-srv-app/{UUID}.jsonl"
        path.write_bytes(lines(2) + LINE[:20])
        async with running(home) as daemon:
            await eventually(lambda: kept(server, key) == lines(2))
            old(path)
            await daemon.sync()
            assert kept(server, key) == lines(2) + LINE[:20]
            with path.open("ab") as file:
                file.write(LINE[20:])
            await eventually(lambda: kept(server, key) == lines(2) + LINE)
            assert not KeptInBucket(server).listing("history/.generations/")

    async def test_a_session_that_its_agent_deletes_stays_archived_whole(
        self, home: Home, server: Server
    ) -> None:
        path, key = claude(home), f"claude/-srv-app/{UUID}.jsonl"
        path.write_bytes(lines(3000))
        async with running(home) as daemon:
            await daemon.archives(UUID, len(lines(3000)))
            with path.open("ab") as file:
                file.write(lines(1, 3000))
            await daemon.archives(UUID, len(lines(3001)))
            path.unlink()
            await daemon.reports(lambda s: s["totals"]["states"]["source_gone"] == 1)
            await eventually(
                lambda: (
                    not KeptInBucket(server).listing(
                        "history/.tail/m1/raw/claude/-srv-app/" + UUID + ".jsonl/0"
                    )
                )
            )
        base = KeptInBucket(server).look(f"{RAW}/{key}")
        assert base is not None
        assert base.body == lines(3001)

    async def test_a_rewrite_in_place_is_the_next_generation(
        self, home: Home, server: Server
    ) -> None:
        path, key = claude(home), f"claude/-srv-app/{UUID}.jsonl"
        before, after = lines(100), lines(50) + lines(50).replace(b"user", b"blank")
        path.write_bytes(before)
        assert home.run("sync").status == 0
        path.write_bytes(after)
        assert home.run("sync", "--seal").status == 0
        assert kept(server, key) == after
        (finished,) = KeptInBucket(server).listing("history/.generations/")
        found = KeptInBucket(server).look(finished)
        assert found is not None
        assert found.body == before


class TestCodex:
    async def test_a_rollout_that_moves_to_the_archive_is_copied_and_not_sent_again(
        self, home: Home, proxy: FaultProxy, server: Server
    ) -> None:
        if server.name != "minio":
            pytest.skip("minio is missing, whose server copies parts")
        active, moved = codex(home), codex(home, "archived_sessions")
        active.write_bytes(lines(5000))
        async with running(home) as daemon:
            await daemon.archives(UUID, len(lines(5000)))
            before = sent(proxy, "rollout")
            active.rename(moved)
            await eventually(
                lambda: kept(server, f"codex/archived_sessions/{ROLLOUT}") == lines(5000)
            )
            assert sent(proxy, "rollout") - before < 2000  # what ends an upload, in XML
            with moved.open("ab") as file:
                file.write(lines(1, 5000))
            await eventually(
                lambda: kept(server, f"codex/archived_sessions/{ROLLOUT}") == lines(5001)
            )
        assert kept(server, f"codex/sessions/2026/11/21/{ROLLOUT}") == lines(5000)

    async def test_a_rollout_that_is_compressed_is_archived_already(
        self, home: Home, proxy: FaultProxy, server: Server
    ) -> None:
        path = codex(home)
        path.write_bytes(lines(500))
        compressed = path.with_name(f"{path.name}.zst")
        async with running(home) as daemon:
            await daemon.archives(UUID, len(lines(500)))
            before = sent(proxy, "rollout")
            compressed.write_bytes(zstandard.compress(lines(500)))
            path.unlink()
            await daemon.reports(lambda s: s["totals"]["states"]["source_gone"] == 1)
            assert (await daemon.sync(seal=True)).is_ok
            assert sent(proxy, "rollout") == before
            path.write_bytes(lines(501))  # it comes back, and is appended to
            compressed.unlink()
            key = f"codex/sessions/2026/11/21/{ROLLOUT}"
            await eventually(lambda: kept(server, key) == lines(501))
        assert not KeptInBucket(server).listing("history/.generations/")
        assert not KeptInBucket(server).listing("history/.conflicts/")

    async def test_a_rollout_that_grew_before_it_was_compressed_goes_on_where_that_ended(
        self, home: Home, server: Server
    ) -> None:
        path, key = codex(home), f"codex/sessions/2026/11/21/{ROLLOUT}"
        path.write_bytes(lines(500))
        compressed = path.with_name(f"{path.name}.zst")
        async with running(home) as daemon:
            await daemon.archives(UUID, len(lines(500)))
            compressed.write_bytes(zstandard.compress(lines(520)))
            path.unlink()
            await eventually(lambda: kept(server, key) == lines(520))
            assert (await daemon.sync(seal=True)).is_ok
            path.write_bytes(lines(560))
            compressed.unlink()
            await daemon.archives(UUID, len(lines(560)))
            assert kept(server, key) == lines(560)

    async def test_a_rollout_that_is_compressed_again_is_not_sent_again(
        self, home: Home, proxy: FaultProxy, server: Server
    ) -> None:
        path, key = codex(home), f"codex/sessions/2026/11/21/{ROLLOUT}"
        compressed = path.with_name(f"{path.name}.zst")
        async with running(home) as daemon:
            for count in (500, 800):
                path.write_bytes(lines(count))
                compressed.unlink(missing_ok=True)
                await eventually(lambda n=count: kept(server, key) == lines(n))
                assert (await daemon.sync(seal=True)).is_ok
                before = sent(proxy, "rollout")
                compressed.write_bytes(zstandard.compress(lines(count)))
                path.unlink()
                await daemon.reports(lambda s: s["totals"]["states"]["source_gone"] == 1)
                assert (await daemon.sync(seal=True)).is_ok
                assert sent(proxy, "rollout") == before

    def test_a_rollout_that_is_first_met_compressed_is_archived_by_its_content(
        self, home: Home, server: Server
    ) -> None:
        path = codex(home)
        path.with_name(f"{path.name}.zst").write_bytes(zstandard.compress(lines(500)))
        assert home.run("sync").status == 0
        assert KeptInBucket(server).listing(f"{RAW}/") == [
            f"{RAW}/codex/sessions/2026/11/21/{ROLLOUT}"
        ]
        assert kept(server, f"codex/sessions/2026/11/21/{ROLLOUT}") == lines(500)


class TestZeroClaw:
    def place(self, home: Home, name: str) -> Path:
        path = home.path / ".zeroclaw" / "workspace" / "sessions" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    async def test_a_session_is_followed_through_the_renames_of_a_migration(
        self, home: Home, server: Server
    ) -> None:
        path = self.place(home, "chat.jsonl")
        path.write_bytes(lines(1000))
        async with running(home) as daemon:
            await daemon.archives("chat", len(lines(1000)))
            for suffix in (".importing", ".migrated"):
                path = path.rename(path.with_name(f"chat.jsonl{suffix}"))
                key = f"zeroclaw/{path.name}"
                await eventually(lambda k=key: kept(server, k) == lines(1000))
        assert not KeptInBucket(server).listing("history/.conflicts/")

    async def test_clearing_and_writing_anew_begins_a_generation(
        self, home: Home, server: Server
    ) -> None:
        path = self.place(home, "chat.jsonl")
        path.write_bytes(lines(10))
        async with running(home) as daemon:
            await daemon.archives("chat", len(lines(10)))
            fresh = path.with_name("chat.tmp")
            fresh.write_bytes(lines(4))
            fresh.replace(path)
            await eventually(lambda: kept(server, "zeroclaw/chat.jsonl") == lines(4))
        (finished,) = KeptInBucket(server).listing("history/.generations/")
        found = KeptInBucket(server).look(finished)
        assert found is not None
        assert found.body == lines(10)

    async def test_the_sessions_of_the_database_are_archived_as_they_grow_each_for_itself(
        self, home: Home, server: Server
    ) -> None:
        place = self.place(home, "sessions.db")
        keys = {"a/b": "a%252Fb", "a_b": "a_b", "": "", "ü": "%25C3%25BC"}

        def expected(count: int, key: str) -> bytes:
            said = (f'{{"role":"user","content":"{key} {n}"}}\n' for n in range(count))
            return "".join(said).encode()

        agent = sqlite3.connect(place)
        agent.execute("PRAGMA journal_mode = WAL")
        agent.execute(
            "CREATE TABLE sessions (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " session_key TEXT NOT NULL, role TEXT NOT NULL,"
            " content TEXT NOT NULL, created_at TEXT NOT NULL)"
        )
        async with running(home):
            for number in range(3):
                for key in keys:
                    row = (key, "user", f"{key} {number}", "now")
                    agent.execute(
                        "INSERT INTO sessions (session_key, role, content, created_at)"
                        " VALUES (?, ?, ?, ?)",
                        row,
                    )
                agent.commit()
                for key, name in keys.items():
                    path, whole = f"zeroclaw/sessions.db/{name}.jsonl", expected(number + 1, key)
                    await eventually(lambda p=path, w=whole: kept(server, p) == w)
        agent.close()
        assert not KeptInBucket(server).listing("history/.generations/")
        assert not KeptInBucket(server).listing("history/.conflicts/")


class TestOthers:
    def test_an_agent_that_is_only_configured_is_mirrored(self, home: Home, server: Server) -> None:
        config = home.path / ".config" / "transcriptd" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(
            '[[sources]]\nname = "openclaw"\nroot = "~/.openclaw/agents"\n'
            'glob = "*/sessions/*.jsonl"\n'
        )
        path = home.path / ".openclaw" / "agents" / "main" / "sessions" / "s1.jsonl"
        path.parent.mkdir(parents=True)
        path.write_bytes(lines(2))
        path.with_name("s1.txt").write_bytes(b"not asked for")
        outcome = home.run("sync", "--seal")
        assert outcome.status == 0, outcome.out + outcome.err
        assert KeptInBucket(server).listing(f"{RAW}/") == [f"{RAW}/openclaw/main/sessions/s1.jsonl"]


def test_what_is_read_is_never_changed(home: Home, server: Server) -> None:
    claude(home).write_bytes(lines(3) + b"torn")
    codex(home).write_bytes(lines(3))
    shutil.copytree(home.path / ".claude", home.path / "before", copy_function=shutil.copy2)
    assert home.run("sync", "--seal").status == 0
    for path in (home.path / "before").rglob("*"):
        now = home.path / ".claude" / path.relative_to(home.path / "before")
        if path.is_file():
            assert now.read_bytes() == path.read_bytes()
            assert now.stat().st_mtime_ns == path.stat().st_mtime_ns
    del server
