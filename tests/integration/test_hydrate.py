"""`transcriptd hydrate`: a pod that starts empty has its sessions again, and the streams go on."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.daemon import archived, running, stored
from tests.documents import conversation, document, history, save
from tests.home import PATIENCE_S, Home, Outcome
from tests.kept import KeptInBucket
from tests.proxy import BlackHole, FaultProxy, in_thread
from tests.servers import Missing, Server, create_bucket
from tests.servers.process import free_port
from transcriptd.remap import project_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.exchange import Seen
    from tests.servers import Pool

MACHINE = "agent-0"
UUID = "0f0e7a52-6c1d-4b8e-9a57-3d2c1b0a9f8e"
MESSAGES = conversation(400)
MORE = [*MESSAGES, *conversation(3, about="what came after")]


@dataclass(slots=True)
class Pod:
    """A pod: its disk is a home, its name is the host's, and both are gone with it."""

    home: Home
    remote: Server | None = None
    name: str = "agent-5d9c7f-abcde"

    @property
    def server(self) -> Server:
        assert self.remote is not None, "its archive is a directory"
        return self.remote

    @property
    def projects(self) -> Path:
        return self.home.path / ".claude" / "projects"

    @property
    def file(self) -> Path:
        """The session's file, in the directory that Claude Code keeps for the workspace."""
        return self.projects / project_name(str(self.home.path)) / f"{UUID}.jsonl"

    @property
    def document(self) -> Path:
        return self.home.path / "data" / "sessions" / "s.json"

    def records(self, count: int, start: int = 0) -> bytes:
        lines = (
            {"cwd": str(self.home.path), "n": n, "text": "x" * 200}
            for n in range(start, start + count)
        )
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    def save(self, messages: list[Any], session_id: str = "s", **more: object) -> None:
        metadata = {"directory": str(self.home.path), **more}
        self.document.parent.mkdir(parents=True, exist_ok=True)
        save(self.document.parent, document(messages, session_id, metadata=metadata))

    def write(self, content: bytes, path: str = "") -> Path:
        file = self.file.with_suffix("") / path if path else self.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def lose(self) -> None:
        """Lose the pod, its disk and its name; the next one starts in its place."""
        shutil.rmtree(self.home.path)
        self.name = f"agent-5d9c7f-{len(self.name)}"
        again = Home.make(self.home.path)
        again.environ = self.home.environ
        self.home = again

    @property
    def under(self) -> list[str]:
        """The command that gives a process the pod's name as its host's."""
        return ["unshare", "--uts", "sh", "-c", f'hostname {self.name} && exec "$@"', "sh"]

    def hydrate(self, *arguments: str, **environ: str) -> Outcome:
        inherited = {name: os.environ[name] for name in {"PATH", "PYTHONPATH"} & set(os.environ)}
        done = subprocess.run(
            [*self.under, sys.executable, "-m", "transcriptd", "hydrate", *arguments],
            env={**inherited, "HOME": str(self.home.path), **self.home.environ, **environ},
            cwd=self.home.path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def server(servers: Pool) -> Server:
    try:
        return create_bucket(servers.get("minio"))
    except Missing as minio:
        try:
            return create_bucket(servers.get("ministack"))
        except Missing as ministack:
            pytest.skip(f"{minio}; {ministack}")


@pytest.fixture
def pod(server: Server) -> Iterator[Pod]:
    if subprocess.run(["unshare", "--uts", "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare --uts is missing or not allowed: a host name cannot be set")
    # A short path, because that of a daemon's socket below it may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="td-") as path:
        home = Home.make(Path(path, "pod"))
        home.environ |= {
            "TRANSCRIPTD_MACHINE": MACHINE,
            "CODETETHER_DATA_DIR": str(home.path / "data"),
        }
        home.use(server)
        yield Pod(home, server)


def sent(requests: list[Seen], key: str) -> int:
    """Return how many bytes of bodies went to a stream: its base and its tail."""
    below = key.removeprefix("history/")
    streams = [
        seen
        for seen in requests
        if seen.method in {"PUT", "POST"} and below in seen.key and "/writer-" not in seen.key
    ]
    return sum(seen.body_bytes for seen in streams)


async def archive(pod: Pod, count: int) -> None:
    """Let the daemon archive what is there, and die with the pod before it seals."""
    async with running(pod.home, under=pod.under, **pod.home.environ) as daemon:
        await daemon.current(count)
        assert (await daemon.sync()).status == 200


async def test_a_pod_that_starts_empty_goes_on_with_the_same_streams(pod: Pod) -> None:
    key = f"history/{MACHINE}/raw/claude/{project_name(str(pod.home.path))}/{UUID}.jsonl"
    first, more = pod.records(400), pod.records(3, 400)
    pod.save(MESSAGES[:300])
    pod.write(first[: len(first) // 2 + 1].rpartition(b"\n")[0] + b"\n")
    async with running(pod.home, under=pod.under, **pod.home.environ) as daemon:
        await daemon.current(2)
        pod.save(MESSAGES)
        pod.write(first)
        assert (await daemon.sync()).status == 200
        await daemon.reports(lambda s: s["totals"]["states"]["current"] == 2)
    tails = [
        each for each in KeptInBucket(pod.server).listing("history/.tail/") if "/000000-" in each
    ]
    assert len(tails) == 2, "both are to have a tail that nobody sealed"

    pod.lose()
    async with FaultProxy(pod.server) as proxy:
        pod.home.use(proxy.server)
        outcome = await asyncio.to_thread(pod.hydrate, "--json")
        assert outcome.status == 0, outcome.err
        said = json.loads(outcome.out)
        assert (said["restored"], said["problem"], said["notes"]) == (2, "", [])
        assert pod.file.read_bytes() == first
        assert json.loads(pod.document.read_bytes())["messages"] == MESSAGES

        with pod.file.open("ab") as file:
            file.write(more)
        pod.save(MORE)
        proxy.requests.clear()
        await archive(pod, 2)
        assert sent(proxy.requests, key) == len(more)
        assert sent(proxy.requests, "history/s/history.jsonl") == len(history(MORE)) - len(
            history(MESSAGES)
        )
    listing = KeptInBucket(pod.server).listing()
    assert not [each for each in listing if ".generations/" in each or ".conflicts/" in each]
    bases = {each for each in listing if not each.startswith("history/.")}
    assert bases == {key, "history/s/history.jsonl", "history/s/session.json"}
    pod.home.use(pod.server)
    assert archived(pod.server, "s") == history(MORE)
    assert pod.home.run("sync", "--seal").status == 0
    assert stored(pod.server, key) == first + more
    assert archived(pod.server, "s") == history(MORE)
    assert not [e for e in KeptInBucket(pod.server).listing() if ".generations/" in e]


ROLLOUT = f"rollout-2026-05-02T12-33-22-{UUID}.jsonl"
INNER = ("subagents/agent-1.jsonl", "subagents/agent-1.meta.json", "tool-results/1.txt")


@pytest.fixture
def local() -> Iterator[Pod]:
    """A pod whose archive is a directory that stays."""
    with tempfile.TemporaryDirectory(prefix="td-") as path:
        home = Home.make(Path(path, "pod"))
        home.environ |= {
            "TRANSCRIPTD_MACHINE": MACHINE,
            "CODETETHER_DATA_DIR": str(home.path / "data"),
            "TRANSCRIPTD_LOCAL__PATH": str(Path(path, "archive")),
        }
        yield Pod(home)


def archived_at(pod: Pod, *session_ids: str) -> None:
    """Archive sessions one after the other, so that each is newer than the one before."""
    for session_id in session_ids:
        pod.save(conversation(2, about=session_id), session_id)
        assert pod.home.run("sync").status == 0


def hydrated(pod: Pod, *arguments: str) -> dict[str, Any]:
    outcome = pod.home.run("hydrate", "--json", *arguments)
    assert outcome.status == 0, outcome.err
    said: dict[str, Any] = json.loads(outcome.out)
    return said


def test_what_belongs_to_a_session_comes_with_it(local: Pod) -> None:
    local.write(local.records(3))
    for path in INNER:
        local.write(b"{}\n", path)
    assert local.home.run("sync").status == 0
    local.lose()
    assert hydrated(local, "--max-sessions", "1")["restored"] == 1 + len(INNER)
    assert local.file.read_bytes() == local.records(3)
    assert all((local.file.with_suffix("") / path).read_bytes() == b"{}\n" for path in INNER)
    again = hydrated(local)
    assert (again["restored"], again["there"], again["left"]) == (0, 1, 0)


def test_all_agents_have_theirs_again_and_one_alone_where_it_is_named(local: Pod) -> None:
    local.save(MESSAGES[:2])
    local.write(local.records(3))
    meta = {"type": "session_meta", "payload": {"id": UUID, "cwd": str(local.home.path)}}
    rollout = local.home.path / ".codex" / "sessions" / "2026" / ROLLOUT
    zeroclaw = local.home.path / ".zeroclaw" / "data" / "sessions" / "telegram_1.jsonl"
    for file in (rollout, zeroclaw):
        file.parent.mkdir(parents=True)
        file.write_bytes(json.dumps(meta).encode() + b"\n")
    assert local.home.run("sync").status == 0
    local.lose()
    assert [s["agent"] for s in hydrated(local, "--agent", "codex")["sessions"]] == ["codex"]
    assert hydrated(local)["restored"] == 3
    assert all(file.exists() for file in (rollout, zeroclaw, local.file, local.document))


def test_an_agent_that_is_only_configured_has_its_sessions_again(local: Pod) -> None:
    settings = local.home.path / ".config" / "transcriptd" / "config.toml"
    kept = local.home.path / "x" / "a.jsonl"

    def configure() -> None:
        for file in (settings, kept):
            file.parent.mkdir(parents=True)
        settings.write_text('[[sources]]\nname = "x"\nroot = "~/x"\n')

    configure()
    kept.write_bytes(b"{}\n")
    assert local.home.run("sync").status == 0
    local.lose()
    configure()
    assert hydrated(local, "--agent", "claude")["restored"] == 0
    assert hydrated(local, "--agent", "x")["restored"] == 1
    assert kept.read_bytes() == b"{}\n"
    outcome = local.home.run("hydrate", "--agent", "y")
    assert (outcome.status, "zeroclaw, x" in outcome.err) == (2, True)


def test_a_file_in_an_older_place_of_its_agent_is_there(local: Pod) -> None:
    older = local.home.path / ".zeroclaw" / "workspace" / "sessions" / "telegram_1.jsonl"
    older.parent.mkdir(parents=True)
    older.write_bytes(b"{}\n")
    assert local.home.run("sync").status == 0
    assert local.home.run("restore", "--all").out.startswith("0 restored, 1 already there\n")
    assert local.home.run("hydrate").out == "0 restored, 1 already there\n"
    older.unlink()
    (older.parents[2] / "data" / "sessions").mkdir(parents=True)
    assert hydrated(local)["restored"] == 1
    assert older.exists(), "where it stood before"


@pytest.mark.parametrize("agent", ["claude", "codetether"])
def test_a_machine_that_stored_nothing_is_told_with_those_that_did(local: Pod, agent: str) -> None:
    if agent == "claude":
        local.write(local.records(3))
    else:
        local.save(MESSAGES[:2])
    assert local.home.run("sync").status == 0
    local.lose()
    local.home.environ["TRANSCRIPTD_MACHINE"] = "agent-9"
    outcome = local.home.run("hydrate")
    assert outcome.status == 0
    assert "this machine, agent-9" in outcome.err
    assert f"sessions of: {MACHINE}" in outcome.err
    assert local.home.run("hydrate", "--workspace", "/nowhere").err == outcome.err
    assert local.home.run("hydrate", "--strict").status == 1


def test_sessions_of_other_workspaces_are_counted(local: Pod) -> None:
    archived_at(local, "a", "b")
    local.lose()
    outcome = local.home.run("hydrate", "--workspace", "/nowhere", "--strict")
    assert (outcome.status, outcome.err) == (0, "")
    assert "2 in the archive are about other directories than /nowhere (--workspace" in outcome.out


def test_what_is_there_is_counted_also_behind_what_there_was_room_for(local: Pod) -> None:
    archived_at(local, "a", *(f"s{n}" for n in range(3)))
    for path in local.document.parent.glob("s*.json"):
        path.unlink()
    said = hydrated(local, "--max-sessions", "1")
    assert (said["restored"], said["there"], said["left"]) == (1, 1, 2)


def test_the_newest_come_first_and_stay_the_newest(local: Pod) -> None:
    archived_at(local, "a", "b", "c", "d")
    local.lose()
    said = hydrated(local, "--max-sessions", "3")
    assert [s["session"] for s in said["sessions"]] == ["d", "c", "b"]
    assert said["left"] == 1
    files = sorted(local.document.parent.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    assert [file.stem for file in files if file.suffix == ".json"] == ["b", "c", "d"]


def test_a_session_that_does_not_fit_is_left_out(local: Pod) -> None:
    archived_at(local, "small")
    local.save(MESSAGES, "large")
    assert local.home.run("sync").status == 0
    local.lose()
    said = hydrated(local, "--max-bytes", "10KiB")
    assert [s["session"] for s in said["sessions"]] == ["small"]
    assert said["left"] == 1


def test_what_stands_there_is_the_agents_whatever_it_holds(local: Pod) -> None:
    local.write(local.records(3))
    assert local.home.run("sync").status == 0
    local.lose()
    local.write(b"")
    assert hydrated(local)["sessions"] == []
    assert local.file.read_bytes() == b""


def test_sessions_of_other_machines_and_workspaces_stay_where_they_are(local: Pod) -> None:
    local.home.environ["TRANSCRIPTD_MACHINE"] = "agent-1"
    archived_at(local, "theirs")
    local.write(local.records(3))
    assert local.home.run("sync").status == 0
    local.lose()
    local.home.environ["TRANSCRIPTD_MACHINE"] = MACHINE
    archived_at(local, "mine")
    local.lose()
    assert hydrated(local, "--workspace", "/nowhere")["sessions"] == []
    assert [s["session"] for s in hydrated(local)["sessions"]] == ["mine"]


def test_an_archive_that_is_empty_lets_the_agent_start(local: Pod) -> None:
    outcome = local.home.run("hydrate")
    assert (outcome.status, outcome.err) == (0, "")
    assert local.home.run("hydrate", "--strict").status == 0


@pytest.mark.parametrize("strict", [False, True])
def test_an_archive_that_cannot_be_reached_lets_it_start_unless_told_otherwise(
    local: Pod,
    strict: bool,  # noqa: FBT001 - a parameter
) -> None:
    nowhere = Server("nowhere", f"http://127.0.0.1:{free_port()}", "b", "a", "s")
    local.home.use(nowhere)
    del local.home.environ["TRANSCRIPTD_LOCAL__PATH"]
    outcome = local.home.run("hydrate", "--timeout", "1", *(["--strict"] if strict else []))
    assert outcome.status == int(strict)
    assert "refused" in outcome.err
    assert "the agent starts without the rest" in outcome.err
    assert "Traceback" not in outcome.err


def test_an_archive_that_does_not_answer_does_not_hold_the_agent_up(
    local: Pod, server: Server
) -> None:
    del local.home.environ["TRANSCRIPTD_LOCAL__PATH"]
    with in_thread(server) as front:
        front.add(BlackHole())
        local.home.use(front.server)
        started = time.monotonic()
        outcome = local.home.run("hydrate", "--timeout", "1")
    assert outcome.status == 0
    assert "not all within 1 s" in outcome.err
    assert time.monotonic() - started < PATIENCE_S / 3


async def test_what_comes_back_is_claimed(pod: Pod) -> None:
    pod.write(pod.records(3))
    pod.save(MESSAGES)
    await archive(pod, 2)
    pod.lose()
    assert (await asyncio.to_thread(pod.hydrate)).status == 0
    writer = (pod.home.state / "writer").read_text().strip()
    claims = [
        key
        for key in KeptInBucket(pod.server).listing("history/.tail/")
        if key.endswith(f"/writer-{MACHINE}.{writer}")
    ]
    assert len(claims) == 2


async def test_what_came_back_and_does_not_change_costs_no_byte(pod: Pod) -> None:
    pod.write(pod.records(3))
    pod.write(pod.records(400), "subagents/agent-1.jsonl")
    pod.save(MESSAGES[:2])
    await archive(pod, 3)
    pod.lose()
    async with FaultProxy(pod.server) as proxy:
        pod.home.use(proxy.server)
        assert (await asyncio.to_thread(pod.hydrate)).status == 0
        proxy.requests.clear()
        await archive(pod, 3)
        written = [seen for seen in proxy.seen("PUT|POST") if "/.probe/" not in seen.key]
        assert [
            seen.key for seen in written if seen.body_bytes and "delete" not in seen.query
        ] == []
