"""Which mirrored sessions an archive has, and which of them a person means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.memory_store import MemoryStore, Object
from transcriptd.layout import (
    claim_key,
    conflict_key,
    generation_key,
    history_key,
    mirror_key,
    segment_key,
)
from transcriptd.listing import streams_in
from transcriptd.mirrors import MirroredSession, find_mirrors, joined, machines, named, session_of

PREFIX = "history/"
UUID = "0f0e7a52-6c1d-4b8e-9a57-3d2c1b0a9f8e"
OTHER = "0f0e7a52-9999-4b8e-9a57-3d2c1b0a9f8e"
ROLLOUT = f"rollout-2026-11-02T10-00-00-{UUID}.jsonl"
ACTIVE, MOVED = f"sessions/2026/11/02/{ROLLOUT}", f"archived_sessions/{ROLLOUT}"


def key_of(agent: str, path: str, machine: str = "m1") -> str:
    return mirror_key(PREFIX, machine, agent, path.encode())


def archive(*keys: str) -> MemoryStore:
    store = MemoryStore()
    for key in keys:
        put(store, key)
    return store


def put(store: MemoryStore, key: str) -> None:
    store.objects[key] = Object(b"{}\n", {})


async def found(
    store: MemoryStore, *, machine: str | None = None, agent: str | None = None
) -> list[MirroredSession]:
    return await find_mirrors(store, PREFIX, machine=machine, agent=agent)


async def test_a_mirror_is_told_from_everything_else() -> None:
    key = key_of("claude", f"-srv-ü/{UUID}.jsonl")
    lost = key_of("claude", f"-srv/{OTHER}.jsonl")
    store = archive(
        key,
        segment_key(PREFIX, key, 0, 3),
        claim_key(PREFIX, key, "m1.0"),
        conflict_key(PREFIX, key, "m2.0"),
        generation_key(PREFIX, lost, 0),
        history_key(PREFIX, UUID),
        f"{PREFIX}m1/raw/claude/%2E%2E/x.jsonl",
        f"{PREFIX}m1/raw/claude/../x.jsonl",
        f"{PREFIX}m1/raw/claude/-srv/a%2Fb.jsonl",
        f"{PREFIX}m1/raw/claude/-srv/%61.jsonl",
        f"{PREFIX}m1/raw/claude/-srv/%00.jsonl",
        f"{PREFIX}m1/raw/claude",
    )
    (only,) = await found(store)
    assert (only.machine, only.agent, only.session_id) == ("m1", "claude", UUID)
    assert (only.path, only.key, only.former) == (f"-srv-ü/{UUID}.jsonl", key, ())
    assert (only.archived.length, only.is_shortened) == (6, False)
    assert [each.key for each in only.archived.conflicts] == [conflict_key(PREFIX, key, "m2.0")]


@pytest.mark.parametrize(
    ("agent", "names"),
    [
        ("codex", [ACTIVE, MOVED]),
        ("zeroclaw", ["a.jsonl", "a.jsonl.importing", "a.jsonl.migrated"]),
    ],
)
async def test_a_session_under_several_names_is_one_and_the_longest_stream_is_it(
    agent: str, names: list[str]
) -> None:
    store = archive(*(key_of(agent, name) for name in names))
    for name in names:
        last = key_of(agent, name)
        put(store, segment_key(PREFIX, last, 0, 3))
        (only,) = await found(store)
        assert only.key == last
        assert {only.key, *only.former} == {key_of(agent, name) for name in names}
        del store.objects[segment_key(PREFIX, last, 0, 3)]


async def test_what_changed_last_goes_before_what_is_longer() -> None:
    active, moved = key_of("codex", ACTIVE), key_of("codex", MOVED)
    store = archive(active, moved, segment_key(PREFIX, active, 0, 3))
    each = [session_of(PREFIX, a) async for a in streams_in(store.list(PREFIX), PREFIX)]
    later = [
        replace(s, archived=replace(s.archived, modified=float(s.key == moved))) for s in each if s
    ]
    (only,) = joined(later)
    assert (only.key, only.former) == (moved, (active,))


@pytest.mark.parametrize(
    ("agent", "one", "two"),
    [
        ("claude", f"-srv-a/{UUID}.jsonl", f"-srv-b/{UUID}.jsonl"),
        ("claude", f"-srv-a/{UUID}.jsonl", f"-srv-a/{UUID}"),
        ("codex", ACTIVE, f"sessions/2026/11/03/rollout-2026-11-03T10-00-00-{UUID}.jsonl"),
        ("zeroclaw", "a.jsonl", "sessions.db/a.jsonl"),
        ("pi", "x/a.jsonl", "y/a.jsonl"),
        ("pi", "a", "a.jsonl"),
    ],
)
async def test_files_that_no_agent_renames_so_are_sessions_of_their_own(
    agent: str, one: str, two: str
) -> None:
    sessions = await found(archive(key_of(agent, one), key_of(agent, two)))
    assert {each.path for each in sessions} == {one, two}


async def test_a_session_of_one_name_on_two_machines_is_two() -> None:
    store = archive(key_of("codex", ACTIVE, "m1"), key_of("codex", MOVED, "m2"))
    sessions = await found(store)
    assert machines(sessions) == ["m1", "m2"]
    assert named(sessions, UUID) == sessions


async def test_only_what_is_wanted_is_listed() -> None:
    mine, theirs = key_of("claude", f"p/{UUID}.jsonl"), key_of("codex", ACTIVE, "m10")
    store = archive(mine, theirs, key_of("codex", ACTIVE), segment_key(PREFIX, mine, 0, 3))
    assert [s.key for s in await found(store, agent="codex", machine="m10")] == [theirs]
    assert [s.key for s in await found(store, agent="claude")] == [mine]
    store.log.clear()
    of_m1 = await found(store, machine="m1")
    assert [(s.agent, s.archived.length) for s in of_m1] == [("claude", 6), ("codex", 3)]
    assert f"{PREFIX}m1/raw/" in {operation.key for operation in store.log}
    assert PREFIX not in {operation.key for operation in store.log}


class TestNamed:
    async def sessions(self) -> list[MirroredSession]:
        return await found(
            archive(
                key_of("claude", f"p/{UUID}.jsonl"),
                key_of("claude", f"p/{UUID}/subagents/agent-1.jsonl"),
                key_of("claude", f"p/{OTHER}.jsonl"),
                key_of("codex", ACTIVE.replace(UUID, "1" + UUID[1:])),
                key_of("codex", MOVED.replace(UUID, "1" + UUID[1:])),
                key_of("zeroclaw", "short.jsonl"),
            )
        )

    @pytest.mark.parametrize(
        ("what", "paths"),
        [
            (UUID, [f"p/{UUID}.jsonl"]),
            (f"p/{UUID}.jsonl", [f"p/{UUID}.jsonl"]),
            (key_of("claude", f"p/{UUID}.jsonl"), [f"p/{UUID}.jsonl"]),
            (f"{UUID}/subagents/agent-1", [f"p/{UUID}/subagents/agent-1.jsonl"]),
            (UUID[:13], [f"p/{UUID}.jsonl"]),
            (UUID[:8], [f"p/{UUID}.jsonl", f"p/{OTHER}.jsonl"]),
            (f"{UUID}/subagents/ag", [f"p/{UUID}/subagents/agent-1.jsonl"]),
            ("short", ["short.jsonl"]),
            (UUID[:7], []),
            ("shor", []),
            (f"{UUID}/", []),
            ("", []),
        ],
    )
    async def test_who_is_meant(self, what: str, paths: list[str]) -> None:
        assert sorted(s.path for s in named(await self.sessions(), what)) == sorted(paths)

    async def test_a_former_key_means_the_session_too(self) -> None:
        sessions = await self.sessions()
        (codex,) = [session for session in sessions if session.agent == "codex"]
        for key in (codex.key, *codex.former):
            assert named(sessions, key) == [codex]
        assert named(sessions, "1" + UUID[1:8]) == [codex]
