"""Mirror keys are a contract with agentsview: each rule by which it finds and reads sessions.

The rules are written down once more here, as its reader sees them: from a root and keys below it.
`tests/integration/test_agentsview.py` asks agentsview itself.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcriptd.layout import (
    MAX_KEY,
    claim_key,
    conflict_key,
    copy_key,
    document_key,
    foreign_key,
    generation_key,
    history_key,
    mirror_key,
    probe_prefix,
    segment_key,
)

BUCKET, PREFIX, MACHINE = "s3://bucket/", "history/", "m1"
AGENTS = ("claude", "codex")

prefixes = st.sampled_from([PREFIX, "a/b/", "raw/claude/", "x/raw/codex/"])
machines = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,62}", fullmatch=True) | st.just("raw")
alike = st.sampled_from(["m1", "m1-backup", "m", "raw"])
agents = st.sampled_from(AGENTS)
uuids = st.uuids().map(lambda each: str(each).encode())
ids = st.from_regex(rb"[a-z0-9_-]{1,40}", fullmatch=True)
names = st.binary(min_size=1, max_size=255).filter(lambda n: not {0, 47} & {*n} and n.strip(b"."))
telling = st.sampled_from(
    [
        b"subagents", b"tool-results", b"agent-a1.jsonl", b"agent-a1.meta.json", b"raw", b"claude",
        b"rollout-x.jsonl", b"rollout-x.jsonl.zst", b"0f0e.jsonl", b"journal.jsonl", b"codex",
        b"...", b"agent-%40.jsonl", b"a b@c.jsonl", b"back\\slash.jsonl", b"sub%61gents", b".jsonl",
    ]
)  # fmt: skip
short_names = telling | names.map(lambda name: name[:24]).filter(lambda n: bool(n.strip(b".")))
paths = st.lists(telling | names, min_size=1, max_size=7)
short_paths = st.lists(short_names, min_size=1, max_size=7)


def key_of(*path: bytes, agent: str = "claude") -> str:
    return mirror_key(PREFIX, MACHINE, agent, b"/".join(path))


def root_of(prefix: str, machine: str, agent: str) -> str:
    """Return the root that a user configures."""
    return f"{BUCKET}{prefix}{machine}/raw/{agent}"


def seen(root: str, key: str) -> str | None:
    """Return where below a root agentsview sees an object, if it is below it."""
    uri = BUCKET + key
    return uri.removeprefix(f"{root}/") if uri.startswith(f"{root}/") else None


def below(key: str, agent: str = "claude") -> str:
    rest = seen(root_of(PREFIX, MACHINE, agent), key)
    assert rest is not None
    return rest


def machine_of(root: str) -> str:
    """Return the machine of a root: what stands before its last `raw/<agent>`."""
    *_, machine, raw, agent = root.removeprefix("s3://").split("/")
    assert raw == "raw"
    assert agent in AGENTS
    return machine


def is_claude_session(rest: str) -> bool:
    """Say whether this is a session of Claude Code's, or of a subagent."""
    segments = rest.split("/")
    is_agent = segments[-1].startswith("agent-")
    if not rest.endswith(".jsonl"):
        return False
    if len(segments) == 2:
        return not is_agent and "subagents" not in segments
    return len(segments) >= 4 and segments[2] == "subagents" and is_agent


def is_codex_session(rest: str) -> bool:
    name = rest.rpartition("/")[2]
    return name.startswith("rollout-") and name.endswith(".jsonl")


def is_session(agent: str, rest: str) -> bool:
    return is_claude_session(rest) if agent == "claude" else is_codex_session(rest)


def parent_of(rest: str) -> str:
    """Return the id of a subagent's parent: what stands before the first `subagents`."""
    return rest.partition("/subagents/")[0].rpartition("/")[2]


class TestSegments:
    @given(prefixes, machines, agents, paths)
    def test_none_is_empty_or_climbs_or_has_a_backslash(
        self, prefix: str, machine: str, agent: str, path: list[bytes]
    ) -> None:
        segments = mirror_key(prefix, machine, agent, b"/".join(path)).split("/")
        assert not {"", ".", ".."} & {*segments}
        assert not any("\\" in segment for segment in segments)

    @pytest.mark.parametrize("bad", [b"", b".", b".."])
    @pytest.mark.parametrize("place", range(3))
    def test_a_path_with_one_that_climbs_has_no_key(self, bad: bytes, place: int) -> None:
        path = [b"project", b"session"]
        path.insert(place, bad)
        with pytest.raises(ValueError, match="not a path below a root"):
            key_of(*path)

    @given(prefixes, machines, agents, paths)
    def test_there_are_as_many_below_the_root_as_the_path_has(
        self, prefix: str, machine: str, agent: str, path: list[bytes]
    ) -> None:
        key = mirror_key(prefix, machine, agent, b"/".join(path))
        rest = seen(root_of(prefix, machine, agent), key)
        assert rest is not None
        assert rest.count("/") == len(path) - 1

    @given(paths)
    def test_all_characters_are_plain(self, path: list[bytes]) -> None:
        pattern = r"(?:[A-Za-z0-9._-]|%[0-9A-F]{2}|~)+"
        assert all(re.fullmatch(pattern, segment) for segment in key_of(*path).split("/"))

    @given(short_paths)
    def test_they_are_read_back_to_the_very_bytes(self, path: list[bytes]) -> None:
        assert unquote_to_bytes(below(key_of(*path))).split(b"/") == path

    @given(paths)
    def test_a_key_is_at_most_900_bytes(self, path: list[bytes]) -> None:
        assert len(key_of(*path).encode()) <= MAX_KEY == 900


class TestMachine:
    @given(prefixes, machines, agents, paths)
    def test_it_stands_directly_before_raw(
        self, prefix: str, machine: str, agent: str, path: list[bytes]
    ) -> None:
        root = root_of(prefix, machine, agent)
        assert seen(root, mirror_key(prefix, machine, agent, b"/".join(path))) is not None
        assert machine_of(root) == machine

    @given(alike, alike, agents, agents, paths)
    def test_what_another_or_its_other_agent_wrote_is_not_below_the_root(
        self, machine: str, other: str, agent: str, second: str, path: list[bytes]
    ) -> None:
        key = mirror_key(PREFIX, other, second, b"/".join(path))
        is_below = seen(root_of(PREFIX, machine, agent), key) is not None
        assert is_below == ((machine, agent) == (other, second))

    @given(machines, agents, paths, st.from_regex(r"[\w-]{1,128}", fullmatch=True))
    def test_nothing_but_mirrors_lies_below_its_roots(
        self, machine: str, agent: str, path: list[bytes], session_id: str
    ) -> None:
        base = mirror_key(PREFIX, machine, agent, b"/".join(path))
        history = history_key(PREFIX, session_id)
        others = [history, document_key(PREFIX, session_id), probe_prefix(PREFIX)]
        for stream in (base, history):
            aside = conflict_key(PREFIX, stream, f"{machine}.0f")
            others += [aside, copy_key(PREFIX, stream, f"{machine}.0f", "/root")]
            others += [foreign_key(PREFIX, stream, "etag"), claim_key(PREFIX, stream, machine)]
            others += [segment_key(PREFIX, each, 0, 7) for each in (stream, aside)]
            others += [generation_key(PREFIX, each, 3) for each in (stream, aside)]
        assert not [key for key in others if key.startswith(f"{PREFIX}{machine}/raw/")]


class TestSessions:
    @given(agents, short_paths)
    def test_a_key_is_one_just_where_the_path_is(self, agent: str, path: list[bytes]) -> None:
        plain = b"/".join(path).decode("latin-1")
        assert is_session(agent, below(key_of(*path, agent=agent), agent)) == is_session(
            agent, plain
        )

    @given(names, uuids)
    def test_one_of_claude_has_two_segments_and_its_id_for_a_name(
        self, project: bytes, uuid: bytes
    ) -> None:
        rest = below(key_of(project, uuid + b".jsonl"))
        assert is_claude_session(rest) == (project != b"subagents")
        assert rest.split("/")[1:] == [f"{uuid.decode()}.jsonl"]

    @given(names, uuids, st.lists(names, max_size=3), ids)
    def test_a_subagent_keeps_its_name_and_its_parent(
        self, project: bytes, uuid: bytes, between: list[bytes], agent: bytes
    ) -> None:
        name = b"agent-%s.jsonl" % agent
        rest = below(key_of(project, uuid, b"subagents", *between, name))
        assert is_claude_session(rest)
        assert parent_of(rest) == uuid.decode()
        assert rest.rpartition("/")[2] == name.decode()

    @given(names, uuids, ids)
    def test_what_lies_beside_a_session_is_none(
        self, project: bytes, uuid: bytes, agent: bytes
    ) -> None:
        beside = [
            [uuid, b"subagents", b"agent-%s.meta.json" % agent],
            [uuid, b"tool-results", b"toolu_%s.txt" % agent],
            [uuid, b"tool-results", b"toolu_%s.jsonl" % agent],
            [b"agent-%s.jsonl" % agent],
        ]
        assert not [p for p in beside if is_claude_session(below(key_of(project, *p)))]

    @given(names, uuids, st.from_regex(rb"[A-Za-z0-9._-]{1,40}", fullmatch=True))
    def test_large_output_lies_where_its_session_says(
        self, project: bytes, uuid: bytes, name: bytes
    ) -> None:
        name += b".txt"
        session = key_of(project, uuid + b".jsonl").removesuffix(".jsonl")
        output = key_of(project, uuid, b"tool-results", name)
        assert output == f"{session}/tool-results/{name.decode()}"

    @given(st.lists(names, max_size=4), uuids)
    def test_one_of_codex_may_lie_at_any_depth(self, between: list[bytes], uuid: bytes) -> None:
        name = b"rollout-2026-02-03T12-00-00-%s.jsonl" % uuid
        rest = below(key_of(*between, name, agent="codex"), "codex")
        assert is_codex_session(rest)
        assert rest.endswith(f"-{uuid.decode()}.jsonl")

    @given(uuids)
    def test_a_compressed_rollout_is_none(self, uuid: bytes) -> None:
        name = b"rollout-2026-02-03T12-00-00-%s.jsonl.zst" % uuid
        assert not is_codex_session(below(key_of(b"sessions", name, agent="codex"), "codex"))

    def test_the_names_of_codex_sessions_lie_beside_their_directories(self) -> None:
        for directory in (b"sessions", b"archived_sessions"):
            session = key_of(directory, b"rollout-x.jsonl", agent="codex")
            index = f"{session.rpartition(f'/{directory.decode()}/')[0]}/session_index.jsonl"
            assert index == key_of(b"session_index.jsonl", agent="codex")
