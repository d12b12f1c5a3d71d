"""What was masked comes back as masks, goes on as the same stream, and is well on the way."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.agents import PROJECT, UUID, Claude, Codex, record, write
from tests.daemon import running
from tests.documents import compact, conversation, document, message, save
from tests.home import Home, Outcome
from tests.kept import KeptInBucket, KeptInDirectory, history_of, stream_of
from tests.proxy import FaultProxy
from tests.servers import Missing, Server, create_bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.exchange import Seen
    from tests.kept import Kept
    from tests.servers import Pool

MACHINE = "agent-0"
WORKSPACE = "/srv/shop"
OTHER = "7d3b9c40-1e2f-4a5b-8c6d-9e0f1a2b3c4d"
TOKEN = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
KEY = "AKIA" + "Q3EGRZ5BLW7YTNXV"
SECRETS = (TOKEN, KEY)
SESSIONS = 4
CLAUDE = f"history/{MACHINE}/raw/claude/{PROJECT}/{UUID}.jsonl"
MESSAGES = [*conversation(40), message("user", f"push with {TOKEN}"), *conversation(3)]
MORE = [*MESSAGES, message("user", f"and again with {TOKEN}")]


@dataclass(slots=True)
class Masking:
    """A machine that masks, with a session of each kind in which there are secrets."""

    home: Home
    server: Server | None

    @property
    def kept(self) -> Kept:
        return KeptInBucket(self.server) if self.server else KeptInDirectory(self.directory)

    @property
    def directory(self) -> Path:
        return self.home.path.parent / "archive"

    @property
    def claude(self) -> Claude:
        return Claude(self.home.path)

    @property
    def transcript(self) -> Path:
        return self.claude.projects / PROJECT / f"{UUID}.jsonl"

    def works(self) -> None:
        arguments = json.dumps({"command": f"curl -H 'Authorization: token {TOKEN}'"})
        for number in range(400):
            self.claude.says(f"step {number}: {'x' * 100}")
        self.claude.says(f"export AWS_ACCESS_KEY_ID={KEY}")
        self.claude.says(arguments)
        self.claude.keeps("toolu_1.txt", f"one\n{TOKEN}\ntwo\n".encode())
        meta = record(type="session_meta", payload={"id": OTHER, "cwd": WORKSPACE})
        write(Codex(self.home.path).rollout(OTHER), meta, b"\n")
        Codex(self.home.path).says(f"it said {KEY}; \N{SNOWMAN} {TOKEN}", uuid=OTHER)
        metadata = {"directory": WORKSPACE}
        whole = document(MESSAGES, "s", title=f"about {TOKEN}", metadata=metadata)
        save(self.home.sessions, whole)

    def files(self) -> dict[str, bytes]:
        places = (self.claude.projects, self.home.path / ".codex", self.home.sessions)
        found = (path for place in places for path in place.rglob("*") if path.is_file())
        names = ((path, str(path.relative_to(self.home.path))) for path in found)
        return {n: path.read_bytes() for path, n in names if "session-locations" not in n}

    def lose(self) -> None:
        """Lose the disk; what comes next starts in its place."""
        shutil.rmtree(self.home.path)
        again = Home.make(self.home.path)
        again.environ = self.home.environ
        self.home = again

    async def run(self, *arguments: str) -> Outcome:
        return await asyncio.to_thread(self.home.run, *arguments)

    async def said(self, *arguments: str) -> dict[str, Any]:
        outcome = await self.run(*arguments, "--json")
        assert outcome.status == 0, outcome.err
        found: dict[str, Any] = json.loads(outcome.out)
        return found

    async def archives(self, *, seal: bool = False) -> None:
        async with running(self.home) as daemon:
            await daemon.current(SESSIONS)
            assert (await daemon.sync(seal=seal)).is_ok

    async def states(self, *arguments: str) -> set[str]:
        outcome = await self.run("verify", "--json", *arguments)
        lines = [json.loads(line) for line in outcome.out.splitlines()]
        assert (outcome.status, len(lines)) == (0, SESSIONS), outcome.out
        return {line["state"] for line in lines}

    def objects(self) -> dict[str, bytes]:
        found = {key: self.kept.look(key) for key in self.kept.listing()}
        return {key: each.body for key, each in found.items() if each}

    def tells_no_secret(self) -> None:
        bodies = self.objects().values()
        assert bodies
        assert not [body for body in bodies for secret in SECRETS if secret.encode() in body]


@pytest.fixture
def begin(servers: Pool) -> Iterator[Callable[[str], Masking]]:
    # A short path, because that of a daemon's socket below it may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="td-") as path:

        def begin(store: str) -> Masking:
            home = Home.make(Path(path, "pod"))
            home.environ |= {"TRANSCRIPTD_MACHINE": MACHINE, "TRANSCRIPTD_REDACTION": "mask"}
            if store == "local":
                home.environ["TRANSCRIPTD_LOCAL__PATH"] = str(Path(path, "archive"))
                return Masking(home, None)
            server = create_bucket(_one_of(servers, "minio", "ministack"))
            home.use(server)
            return Masking(home, server)

        yield begin


def _one_of(servers: Pool, *names: str) -> Server:
    missing = []
    for name in names:
        try:
            return servers.get(name)
        except Missing as reason:
            missing.append(str(reason))
    pytest.skip("; ".join(missing))


@pytest.fixture
async def masking(request: pytest.FixtureRequest, begin: Callable[[str], Masking]) -> Masking:
    machine = begin(getattr(request, "param", "local"))
    machine.works()
    await machine.archives()
    machine.tells_no_secret()
    return machine


async def test_on_an_intact_machine_nothing_is_wrong_and_nothing_to_be_restored(
    masking: Masking,
) -> None:
    before = masking.files()
    assert await masking.states() == {"current"}
    assert await masking.states("--deep") == {"current"}
    said = await masking.said("restore", "--all")
    assert (said["skipped"], said["restored"], said["kept"]) == (SESSIONS, 0, 0)
    assert {each["reason"] for each in said["sessions"]} == {"masked"}
    assert masking.files() == before


async def test_by_force_nothing_is_lost(masking: Masking) -> None:
    before = masking.files()
    said = await masking.said("restore", "--all", "--force")
    assert said["restored"] == SESSIONS
    assert all("what the archive masks" in each["message"] for each in said["sessions"])
    after = masking.files()
    for each in said["sessions"]:
        name, aside = (
            str(Path(each[at]).relative_to(masking.home.path)) for at in ("path", "kept_as")
        )
        assert after[aside] == before[name]
        assert not [secret for secret in SECRETS if secret.encode() in after[name]]


@pytest.mark.parametrize(
    ("masking", "verb"),
    [("local", "hydrate"), ("s3", "hydrate"), ("s3", "restore")],
    indirect=["masking"],
)
async def test_what_comes_back_holds_the_masks_and_goes_on_as_the_same_stream(
    masking: Masking, verb: str
) -> None:
    before = masking.files()
    masking.lose()
    some = ("--workspace", WORKSPACE) if verb == "hydrate" else ("--all",)
    said = await masking.said(verb, *some)
    assert (said["restored"], said["failed"]) == (SESSIONS, 0)
    after = masking.files()
    assert {name: len(body) for name, body in after.items() if "/s.json" not in name} == {
        name: len(body) for name, body in before.items() if "/s.json" not in name
    }
    assert masking.transcript.read_bytes() == stream_of(masking.kept, CLAUDE)
    assert not [body for body in after.values() for s in SECRETS if s.encode() in body]
    listing = masking.objects()

    masking.claude.says(f"and {TOKEN}")
    whole = json.loads((masking.home.sessions / "s.json").read_bytes())
    restored = whole["messages"]
    save(masking.home.sessions, {**whole, "messages": [*restored, MORE[-1]]})
    await masking.archives(seal=True)
    masking.tells_no_secret()
    assert not [k for k in masking.objects() if ".generations/" in k or ".conflicts/" in k]
    longer = stream_of(masking.kept, CLAUDE)
    assert longer
    assert longer.startswith(listing[CLAUDE])
    assert b"and [github-token]***" in longer
    assert len(longer) == masking.transcript.stat().st_size
    history = history_of(masking.kept, "s")
    assert history
    assert history.count(b"[github-token]") == 2
    assert await masking.states("--deep") == {"current"}
    again = await masking.said("restore", "--all")
    assert (again["skipped"], again["kept"]) == (SESSIONS, 0)


def sent(requests: list[Seen], key: str) -> int:
    """Return how many bytes of bodies went to a stream: its base and its tail."""
    below = key.removeprefix("history/")
    streams = [
        seen
        for seen in requests
        if seen.method in {"PUT", "POST"} and below in seen.key and "/writer-" not in seen.key
    ]
    return sum(seen.body_bytes for seen in streams)


async def test_no_byte_is_sent_twice(begin: Callable[[str], Masking]) -> None:
    masking = begin("s3")
    masking.works()
    await masking.archives()
    masking.lose()
    assert masking.server
    async with FaultProxy(masking.server) as proxy:
        masking.home.use(proxy.server)
        assert (await masking.said("hydrate", "--workspace", WORKSPACE))["restored"] == SESSIONS
        size = masking.transcript.stat().st_size
        masking.claude.says(f"and {TOKEN}")
        more = masking.transcript.stat().st_size - size
        proxy.requests.clear()
        await masking.archives()
        assert sent(proxy.requests, CLAUDE) == more
        assert sent(proxy.requests, "history/s/history.jsonl") == 0
        assert sent(proxy.requests, "/codex/") == 0
        assert sent(proxy.requests, "toolu_1.txt") == 0


async def test_what_only_reads_reads_masks(masking: Masking) -> None:
    for name in ("s", UUID):
        read = await masking.run("cat", name)
        assert read.status == 0, read.err
        assert "[github-token]" in read.out
        assert not [secret for secret in SECRETS if secret in read.out]
    listed = await masking.run("ls", "--json")
    assert (listed.status, TOKEN in listed.out) == (0, False)
    index = compact({"entries": {WORKSPACE: "s"}})
    (masking.home.sessions / ".workspace_index.json").write_bytes(index)
    (masking.home.sessions / "s.json").unlink()
    last = await masking.run("last", "--workspace", WORKSPACE, "--tail", "4")
    assert last.status == 0, last.err
    assert "[github-token]" in last.out


async def test_without_the_journal_it_is_the_same_and_with_other_rules_the_key_proves_it(
    masking: Masking,
) -> None:
    for path in masking.home.state.glob("journal.db*"):
        path.unlink()
    assert await masking.states("--deep") == {"current"}
    masking.home.environ["TRANSCRIPTD_REDACTION"] = "off"
    assert await masking.states() == {"current"}
    assert await masking.states("--deep") == {"current"}
    (masking.home.state / "redaction.key").unlink()
    assert await masking.states() == {"pending"}
