"""What the configuration excludes never leaves the machine, and comes when it is not excluded."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.agents import Codex, record, rewrite, write
from tests.daemon import running
from tests.documents import document, message, save
from tests.fault.masked import Overheard, configure
from tests.fault.mirrored import mirrored, session
from tests.kept import KeptInBucket, history_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.home import Home
    from tests.kept import Kept
    from tests.servers import Server

NEVER = {"TRANSCRIPTD_WATCH__RESCAN": "3600"}
DAY_S = 86_400
SECRET = "/srv/secret"
SHOP = "/srv/shop"
WAYS = ("path", "glob", "project", "old")
"""In which ways sessions are excluded: the id, the content and the file name of each say it."""

EXCLUDES = f"""
[sources.claude]
exclude = ["~/.claude/projects/-srv-path", "*-glob"]
exclude_projects = ["{SECRET}"]
exclude_older = {DAY_S}

[sources.codex]
exclude = ["~/.codex/sessions/2026/01", "sessions/2026/02/0[1-2]"]
exclude_projects = ["{SECRET}"]
exclude_older = {DAY_S}

[sources.codetether]
exclude = ["~/.local/share/codetether-agent/sessions/ct-path.json", "ct-glob*"]
exclude_projects = ["{SECRET}"]
exclude_older = {DAY_S}
"""


class Agents:
    """Three agents, each with a session for each way of being excluded, and one that is not."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.mirrors: dict[str, Path] = {}
        self.documents: list[str] = []

    def work(self, text: str) -> None:
        """Let every session grow by a line, but those that are old."""
        for number, way in enumerate((*WAYS, "kept"), start=1):
            if way == "old" and "ct-old" in self.documents:
                continue
            about = f"{SECRET}/app" if way == "project" else SHOP
            self._claude(way, about, text)
            self._codex(way, number, about, text)
            self._codetether(way, about, text)

    def _claude(self, way: str, about: str, text: str) -> None:
        name = {"path": "-srv-path", "glob": "-srv-glob", "project": "-srv-secret-app"}
        path = session(self.home, f"cl-{way}.jsonl", name.get(way, "-srv-shop"))
        line = record(type="user", cwd=about, message={"content": f"cl-{way} {text}"})
        self._append(path, way, line)
        self.mirrors[f"claude/{path.parent.name}/{path.name}"] = path
        if way != "kept":
            beside = path.with_suffix("") / "subagents" / f"agent-cl-{way}.jsonl"
            self._append(beside, way, record(text=f"cl-{way} {text}"))

    def _codex(self, way: str, number: int, about: str, text: str) -> None:
        uuid = f"0f0e7a52-6c1d-4b8e-9a57-00000000000{number}"
        days = {"path": "2026/01/05", "glob": "2026/02/01"}
        path = Codex(self.home.path).rollout(uuid, days.get(way, "2026/03/03"))
        line = record(type="session_meta", payload={"cwd": about, "text": f"cx-{way} {text}"})
        self._append(path, way, line)
        self.mirrors[f"codex/{path.relative_to(self.home.path / '.codex').as_posix()}"] = path

    def _codetether(self, way: str, about: str, text: str) -> None:
        said = [message("user", f"ct-{way} {text}")]
        path = save(
            self.home.sessions,
            document(said, f"ct-{way}", title=f"ct-{way}", metadata={"directory": about}),
        )
        self._age(path, way)
        self.documents.append(f"ct-{way}")

    def _append(self, path: Path, way: str, line: bytes) -> None:
        write(path, line + b"\n")
        self._age(path, way)

    @staticmethod
    def _age(path: Path, way: str) -> None:
        if way == "old":
            os.utime(path, (1, 1))


@pytest.fixture
def agents(home: Home) -> Agents:
    home.environ["TRANSCRIPTD_MACHINE"] = "m1"
    index = record(id="1", thread_name="cx-path and all others")
    rewrite(home.path / ".codex" / "session_index.jsonl", index + b"\n")
    return Agents(home)


async def counted(home: Home) -> dict[str, tuple[int, dict[str, int]]]:
    """Return what `transcriptd sources` says is excluded of each agent, and why."""
    outcome = await asyncio.to_thread(home.run, "sources", "--json")
    assert outcome.status == 0, outcome.err
    said: list[dict[str, Any]] = json.loads(outcome.out)["sources"]
    return {each["name"]: (each["excluded"], each["excluded_by"]) for each in said}


def kept_ones(kept: Kept, agents: Agents) -> dict[str, bytes | None]:
    wanted = {name for name in agents.mirrors if "/cl-kept" in name or "000005.jsonl" in name}
    return {name: mirrored(kept, name) for name in wanted} | {"": history_of(kept, "ct-kept")}


async def test_what_is_excluded_never_leaves_in_any_way_and_comes_once_it_is_not(
    home: Home, server: Server, agents: Agents
) -> None:
    kept = KeptInBucket(server)
    agents.work("one")
    configure(home, {}, EXCLUDES)
    async with Overheard(server) as proxy:
        home.use(proxy.server)
        async with running(home, **NEVER) as daemon:
            assert (await daemon.sync(seal=True)).is_ok
            agents.work("two")
            assert (await daemon.sync(seal=True)).is_ok
            said = await daemon.status()
            by_reason = {f"excluded_{way}": 1 for way in WAYS[2:]} | {"excluded_path": 2}
            found = await counted(home)
            assert await daemon.stop() == 0
        assert found["claude"] == (8, {reason: 2 * n for reason, n in by_reason.items()})
        assert found["codex"] == (5, {**by_reason, "excluded_index": 1})
        assert found["codetether"] == (4, by_reason)
        assert said["totals"]["states"]["excluded"] == 17
        sent = proxy.wire + " ".join(seen.target for seen in proxy.requests).encode()
    for way in WAYS:
        assert not [agent for agent in ("cl", "cx", "ct") if f"{agent}-{way}".encode() in sent]
        assert f"00000000000{WAYS.index(way) + 1}.jsonl".encode() not in sent
    assert b"session_index" not in sent
    assert b"ct-kept two" in sent
    assert all(b"two" in (body or b"") for body in kept_ones(kept, agents).values())

    configure(home, {}, "")
    home.use(server)
    async with running(home, **NEVER) as daemon:
        assert (await daemon.sync()).is_ok
        assert (await daemon.status())["totals"]["states"]["excluded"] == 0
    for name, path in agents.mirrors.items():
        assert mirrored(kept, name) == path.read_bytes(), name
    assert not [each for each in agents.documents if history_of(kept, each) is None]


async def test_of_what_is_newly_excluded_nothing_more_leaves_and_what_is_archived_stays(
    home: Home, server: Server, agents: Agents
) -> None:
    kept = KeptInBucket(server)
    home.use(server)
    agents.work("one")
    assert (await asyncio.to_thread(home.run, "sync", "--seal")).status == 0
    before = {key: kept.look(key) for key in kept.listing()}
    agents.work("two")
    configure(home, {}, EXCLUDES)
    async with Overheard(server) as proxy:
        home.use(proxy.server)
        async with running(home, **NEVER) as daemon:
            assert (await daemon.sync(seal=True)).is_ok
            assert await daemon.stop() == 0
        sent = proxy.wire
    assert not [
        f"{agent}-{way}"
        for agent in ("cl", "cx", "ct")
        for way in WAYS
        if f"{agent}-{way} two".encode() in sent
    ]
    for key, found in before.items():
        if "kept" not in key and "000005.jsonl" not in key:
            assert kept.look(key) == found, key
    assert all(b"two" in (body or b"") for body in kept_ones(kept, agents).values())
