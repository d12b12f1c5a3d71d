"""Codex's rollouts: under which names they are, and that all of them are one session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import agents
from tests.agents import DATA, UUID, write
from tests.machine import Machine
from tests.memory_store import Bucket
from transcriptd.content import Held
from transcriptd.digest import digest
from transcriptd.errors import Unreadable, Vanished
from transcriptd.layout import Names, mirrored
from transcriptd.mirror import look_at
from transcriptd.model import Cursor
from transcriptd.places import Places
from transcriptd.scan import Scan
from transcriptd.sources import session_id
from transcriptd.sources.codex import Codex
from transcriptd.walk import walk

if TYPE_CHECKING:
    from pathlib import Path

    from transcriptd.model import Session
    from transcriptd.snapshot import Look

NAMES = Names("history/", "m1.abc")
NAME = f"2026/02/03/rollout-2026-02-03T12-00-00-{UUID}.jsonl"
FLAT = NAME.rpartition("/")[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def codex(home: Path) -> Codex:
    return Codex((), {"HOME": str(home)})


@pytest.fixture
def agent(home: Path) -> agents.Codex:
    return agents.Codex(home)


def roots(source: Codex) -> tuple[Path, ...]:
    return source.places(Places(())).roots


def session(source: Codex, path: Path) -> Session:
    root = next(root for root in roots(source) if path.is_relative_to(root))
    found = source.session(root, str(path.relative_to(root)))
    assert found is not None
    return found


def look(source: Codex, path: Path, cursor: Cursor | None = None) -> Look:
    later = path.stat().st_mtime + 3600
    return look_at(source, session(source, path), cursor, max_bytes=1, clock=lambda: later)


def held(seen: Look) -> bytes:
    return seen.snapshot.content.read(0, seen.snapshot.content.size)


@pytest.mark.parametrize("name", [NAME, FLAT, f"{NAME}.zst", "rollout-.jsonl", "a/rollout-x.jsonl"])
def test_these_are_rollouts(codex: Codex, name: str) -> None:
    assert codex.counts(roots(codex)[0], name)


@pytest.mark.parametrize(
    "name",
    ["session_index.jsonl", "rollout-x.json", "rollout-x.jsonl.tmp", f"{NAME}.gz", f"{NAME}/x",
     "xrollout-1.jsonl", "2026/rollout-1.jsonl/history.jsonl", f"{NAME}.zst.zst"],
)  # fmt: skip
def test_these_are_not(codex: Codex, name: str) -> None:
    assert not codex.counts(roots(codex)[0], name)
    assert codex.session(roots(codex)[0], name) is None
    assert codex.destination(f"sessions/{name}") is None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ["~/.codex/sessions", "~/.codex/archived_sessions"]),
        ({"CODEX_HOME": " "}, ["~/.codex/sessions", "~/.codex/archived_sessions"]),
        ({"CODEX_HOME": "~/c"}, ["~/c/sessions", "~/c/archived_sessions"]),
        (
            {"CODEX_SESSIONS_DIR": "~/s"},
            ["~/s", "~/.codex/archived_sessions", "~/.codex/sessions"],
        ),
        (
            {"CODEX_HOME": "~/c", "CODEX_SESSIONS_DIR": "~/s"},
            ["~/s", "~/c/archived_sessions", "~/c/sessions"],
        ),
    ],
)
def test_rollouts_are_where_the_agent_is_told_to_keep_them(
    home: Path, environ: dict[str, str], expected: list[str]
) -> None:
    said = {name: value.replace("~", str(home)) for name, value in environ.items()}
    source = Codex([f"{home}/more/archived_sessions"], {"HOME": str(home), **said})
    base = expected[-1].rpartition("/")[0]  # for the index of names
    wanted = [*expected, "~/more/archived_sessions", base]
    assert [str(root) for root in roots(source)] == [
        each.replace("~", str(home)) for each in wanted
    ]


@pytest.mark.parametrize(
    ("root", "name", "path"),
    [
        ("sessions", NAME, f"sessions/{NAME}"),
        ("archived_sessions", FLAT, f"archived_sessions/{FLAT}"),
        ("sessions", f"{NAME}.zst", f"sessions/{NAME}"),
        ("archived_sessions", f"{FLAT}.zst", f"archived_sessions/{FLAT}"),
    ],
)
def test_a_key_says_where_a_rollout_stands_and_a_destination_leads_back(
    codex: Codex, home: Path, root: str, name: str, path: str
) -> None:
    place = home / ".codex" / root
    found = codex.session(place, name)
    assert found is not None
    said = mirrored("history/", codex.key(NAMES, found))
    assert said is not None
    assert (said.machine, said.agent, said.path) == ("m1", "codex", path)
    assert codex.destination(said.path) == (place, name.removesuffix(".zst"))
    assert found.id == session_id("codex", path) == UUID


def test_the_directory_that_a_variable_names_has_the_label_of_the_usual_one(home: Path) -> None:
    source = Codex((), {"HOME": str(home), "CODEX_SESSIONS_DIR": str(home / "s")})
    found = source.session(home / "s", NAME)
    assert found is not None
    assert source.path(found) == f"sessions/{NAME}"
    assert source.destination(f"sessions/{NAME}") == (home / "s", NAME)


@pytest.mark.parametrize("suffix", ["", ".zst"])
def test_a_rollout_goes_back_to_the_root_in_which_it_stands_also_compressed(
    codex: Codex, home: Path, suffix: str
) -> None:
    more = home / "more" / "sessions"
    source = Codex([str(more)], {"HOME": str(home)})
    (home / ".codex" / "sessions").mkdir(parents=True, exist_ok=True)
    there = more / f"{NAME}{suffix}"
    there.parent.mkdir(parents=True)
    there.touch()
    assert source.destination(f"sessions/{NAME}") == (more, NAME)
    assert source.destination(f"archived_sessions/{FLAT}") != (more, FLAT)


@pytest.mark.parametrize("path", ["", "sessions", "sessions/", FLAT, f"sessions/{NAME}/x"])
def test_what_is_no_rollouts_path_leads_nowhere(codex: Codex, path: str) -> None:
    assert codex.destination(path) is None


@pytest.mark.parametrize("stem", ["rollout-x", "rollout-2026-0f0e7a52", f"rollout-{UUID}-more"])
def test_a_rollout_without_a_uuid_at_its_end_is_asked_for_by_its_name(
    codex: Codex, stem: str
) -> None:
    found = codex.session(roots(codex)[0], f"a/{stem}.jsonl")
    assert found is not None
    assert found.id == stem


def test_the_index_of_names_is_mirrored_beside_the_sessions(codex: Codex, home: Path) -> None:
    base, name = home / ".codex", "session_index.jsonl"
    found = codex.session(base, name)
    assert found is not None
    assert codex.key(NAMES, found) == f"history/m1/raw/codex/{name}"
    assert codex.destination(name) == (base, name)


def test_only_directories_of_dates_are_gone_into(codex: Codex, home: Path) -> None:
    inside = {f".codex/sessions/{NAME}", f".codex/archived_sessions/{FLAT}"}
    index = ".codex/session_index.jsonl"
    for name in (*inside, index, ".codex/log/rollout-x.jsonl", ".codex/history.jsonl"):
        write(home / name, b"{}\n")
    found = [
        str((root / name).relative_to(home))
        for root in roots(codex)
        for name in walk(root, codex.enters).names
        if codex.counts(root, name)
    ]
    assert sorted(found) == sorted([*inside, index])


def test_a_rollout_that_moves_into_the_archive_is_the_same_session(
    codex: Codex, agent: agents.Codex
) -> None:
    path = agent.says("hello")
    before = session(codex, path)
    archived = agent.archives(path)
    after = session(codex, archived)
    assert before.id == after.id
    assert codex.key(NAMES, before) != codex.key(NAMES, after)
    assert codex.stat(before) is None
    assert held(look(codex, archived)).endswith(b'"hello"}}\n')


class TestCompressed:
    def test_it_is_one_stream_with_the_plain_one_and_has_its_content(
        self, codex: Codex, agent: agents.Codex
    ) -> None:
        plain = agent.says("hello")
        agent.says("and more")
        before, data = session(codex, plain), plain.read_bytes()
        packed = agent.compresses(plain)
        plain.unlink()
        after = session(codex, packed)
        assert codex.key(NAMES, before) == codex.key(NAMES, after)
        seen = look(codex, packed)
        assert (held(seen), seen.digest, seen.snapshot.records) == (data, digest(data), 2)
        cursor = Cursor("k", 0, 2, len(data), digest(data), "e", "m.0")
        assert look(codex, packed, cursor).extends
        assert agent.expands(packed).read_bytes() == data

    def test_a_rest_without_its_end_counts_at_once(self, codex: Codex, agent: agents.Codex) -> None:
        plain = write(agent.rollout(), b'{"a":1}\n{"b"')
        packed = agent.compresses(plain)
        plain.unlink()
        now = packed.stat().st_mtime
        seen = look_at(codex, session(codex, packed), None, max_bytes=1, clock=lambda: now)
        assert (held(seen), seen.unfinished_s) == (b'{"a":1}\n{"b"', None)

    def test_beside_the_plain_one_it_does_not_stand_for_the_session(
        self, codex: Codex, agent: agents.Codex
    ) -> None:
        plain = agent.says("hello")
        packed = agent.compresses(plain)
        root = roots(codex)[0]
        double = session(codex, packed)
        assert not codex.counts(root, double.name)
        assert codex.stat(double) is None
        with pytest.raises(Vanished):
            codex.content(double, 1)
        assert codex.counts(root, session(codex, plain).name)
        plain.unlink()
        assert codex.counts(root, double.name)
        assert codex.stat(double) is not None

    def test_one_that_is_damaged_is_unreadable(self, codex: Codex, agent: agents.Codex) -> None:
        path = write(agent.rollout().with_suffix(".jsonl.zst"), b"no zstd")
        with pytest.raises(Unreadable) as caught:
            look(codex, path)
        assert caught.value.reason == "damaged_zst"

    def test_a_link_is_not_followed(self, codex: Codex, agent: agents.Codex, home: Path) -> None:
        plain = write(home / "secret.jsonl", b"secret")
        path = agent.rollout().with_suffix(".jsonl.zst")
        path.parent.mkdir(parents=True)
        path.symlink_to(agent.compresses(plain))
        with pytest.raises(Unreadable):
            look(codex, path)


def test_only_plain_rollouts_are_cut_at_lines(codex: Codex, home: Path) -> None:
    root = roots(codex)[0]
    for name, expected in ((NAME, True), (f"{NAME}.zst", False)):
        found = codex.session(root, name)
        assert found is not None
        assert codex.has_lines(found) == expected


def test_samples_of_both_directories_are_found(codex: Codex) -> None:
    for label, count in (("sessions", 2), ("archived_sessions", 1)):
        root = DATA / "codex" / label
        names = [name for name in walk(root, codex.enters).names if codex.counts(root, name)]
        assert len(names) == count
        assert codex.label(root) == f"{label}/"


def test_what_is_in_memory_and_what_is_compressed_have_one_digest(
    codex: Codex, agent: agents.Codex
) -> None:
    data = b'{"a":1}\n' * 400_000
    plain = write(agent.rollout(), data)
    packed = agent.compresses(plain)
    plain.unlink()
    seen = look(codex, packed)
    assert (seen.digest, seen.snapshot.content.size) == (digest(data), Held(data).size)


async def test_a_rollout_that_is_compressed_comes_back_and_grows_is_one_stream(
    home: Path, codex: Codex, agent: agents.Codex
) -> None:
    bucket = Bucket()
    async with Machine(home, bucket) as machine:
        machine.worker._sources["codex"] = codex
        scan = Scan(codex, machine.journal)

        async def archived() -> dict[str, bytes]:
            for each in await scan.run():
                await machine.turn(each)
            return {key: found.body for key, found in bucket.objects.items() if "/.t" not in key}

        plain = agent.says("hello")
        data = plain.read_bytes()
        key = f"history/m1/raw/codex/sessions/{NAME}"
        assert await archived() == {key: data}
        packed = agent.compresses(plain)
        assert await archived() == {key: data}
        plain.unlink()
        assert await archived() == {key: data}
        agent.expands(packed)
        assert await archived() == {key: data}
        packed.unlink()
        agent.says("more")
        assert await archived() == {key: plain.read_bytes()}
        assert await scan.run() == []
    assert bucket.ledger.broken == []
