"""Claude Code's files: which are sessions, where they are, and what they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import agents
from tests.agents import DATA, PROJECT, UUID, rewrite
from transcriptd.layout import Names, mirrored
from transcriptd.places import Places
from transcriptd.sources import session_id
from transcriptd.sources.claude import Claude
from transcriptd.walk import walk

if TYPE_CHECKING:
    from pathlib import Path

    from transcriptd.model import Session
    from transcriptd.tree import Tree

NAMES = Names("history/", "m1.abc")
DAY_S = 86_400
SESSIONS = [
    f"{PROJECT}/{UUID}.jsonl",
    f"{PROJECT}/{UUID}/subagents/agent-a1.jsonl",
    f"{PROJECT}/{UUID}/subagents/agent-a1.meta.json",
    f"{PROJECT}/{UUID}/subagents/workflows/w-1/agent-a2.jsonl",
    f"{PROJECT}/{UUID}/tool-results/toolu_1.txt",
    f"{PROJECT}/{UUID}/tool-results/toolu_2",
    f"{PROJECT}/{UUID}/tool-results/deep/x.jsonl",
]
NO_SESSIONS = [
    f"{UUID}.jsonl", "sessions-index.json", f"{PROJECT}/sessions-index.json", f"{PROJECT}/x.txt",
    f"{PROJECT}/tool-results/x.txt", f"{PROJECT}/{UUID}/x.txt", f"{PROJECT}/{UUID}.jsonl.tmp",
    f"{PROJECT}/{UUID}/tool-results",
]  # fmt: skip


@pytest.fixture
def claude(tmp_path: Path) -> Claude:
    return Claude((), {"HOME": str(tmp_path)})


def roots(source: Tree) -> tuple[Path, ...]:
    return source.places(Places(())).roots


def session(source: Tree, name: str) -> Session:
    (root, *_) = roots(source)
    found = source.session(root, name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", SESSIONS)
def test_these_are_archived(claude: Claude, name: str) -> None:
    (root,) = roots(claude)
    assert claude.counts(root, name)
    assert session(claude, name).name == name


@pytest.mark.parametrize("name", NO_SESSIONS)
def test_these_are_not(claude: Claude, name: str) -> None:
    (root,) = roots(claude)
    assert not claude.counts(root, name)
    assert claude.session(root, name) is None
    assert claude.destination(name) is None


def test_all_that_an_agent_writes_is_found(claude: Claude, tmp_path: Path) -> None:
    agent = agents.Claude(tmp_path)
    written = {
        agent.says("hello"),
        agent.delegates("a1"),
        agent.delegates("a2", "workflows", "w-1"),
        agent.keeps("toolu_1.txt", b"out"),
    }
    metas = {path.with_suffix(".meta.json") for path in written if "agent-" in path.name}
    (root,) = roots(claude)
    names = [name for name in walk(root, claude.enters).names if claude.counts(root, name)]
    assert {root / name for name in names} == written | metas


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ["~/.claude/projects"]),
        ({"CLAUDE_CONFIG_DIR": "~/c"}, ["~/c/projects"]),
        ({"CLAUDE_CONFIG_DIR": "  "}, ["~/.claude/projects"]),
        ({"CLAUDE_PROJECTS_DIR": "~/p"}, ["~/p", "~/.claude/projects"]),
        ({"CLAUDE_PROJECTS_DIR": "~/p", "CLAUDE_CONFIG_DIR": "~/c"}, ["~/p", "~/c/projects"]),
        ({"CLAUDE_PROJECTS_DIR": "~/.claude/projects"}, ["~/.claude/projects"]),
    ],
)
def test_sessions_are_where_the_agent_is_told_to_keep_them(
    tmp_path: Path, environ: dict[str, str], expected: list[str]
) -> None:
    home = str(tmp_path)
    said = {name: value.replace("~", home) for name, value in environ.items()}
    source = Claude([f"{home}/more"], {"HOME": home, **said})
    wanted = [*expected, "~/more"]
    assert [str(root) for root in roots(source)] == [each.replace("~", home) for each in wanted]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (SESSIONS[0], UUID),
        (SESSIONS[1], f"{UUID}/subagents/agent-a1"),
        (SESSIONS[2], f"{UUID}/subagents/agent-a1.meta.json"),
        (SESSIONS[4], f"{UUID}/tool-results/toolu_1.txt"),
    ],
)
def test_a_session_is_asked_for_by_its_uuid(claude: Claude, name: str, expected: str) -> None:
    assert session(claude, name).id == expected
    assert session_id("claude", name) == expected


@pytest.mark.parametrize("name", [*SESSIONS, "-home-é ü%/x y.jsonl", "-p/𠀀@\\.jsonl"])
def test_a_key_says_where_a_file_stands_and_a_destination_leads_back(
    claude: Claude, name: str
) -> None:
    key = claude.key(NAMES, session(claude, name))
    found = mirrored("history/", key)
    assert found is not None
    assert (found.machine, found.agent, found.path) == ("m1", "claude", name)
    assert claude.destination(found.path) == (roots(claude)[0], name)


def test_a_file_goes_back_to_the_configured_root_in_which_it_stands(tmp_path: Path) -> None:
    more = tmp_path / "more"
    source = Claude([str(more)], {"HOME": str(tmp_path)})
    (tmp_path / ".claude" / "projects").mkdir(parents=True)
    (more / SESSIONS[0]).parent.mkdir(parents=True)
    (more / SESSIONS[0]).touch()
    assert source.destination(SESSIONS[0]) == (more, SESSIONS[0])


def test_two_names_never_have_one_key(claude: Claude) -> None:
    names = ["-p/a b.jsonl", "-p/a%20b.jsonl", "-p/a_b.jsonl", "-p/A b.jsonl", "-p/a/b.jsonl"]
    assert len({claude.key(NAMES, session(claude, name)) for name in names}) == len(names)


@pytest.mark.parametrize("name", SESSIONS)
def test_only_transcripts_are_cut_at_lines(claude: Claude, name: str) -> None:
    is_transcript = name.endswith(".jsonl") and "tool-results" not in name
    assert claude.has_lines(session(claude, name)) == is_transcript


class TestCleanup:
    def test_transcripts_are_kept_for_30_days_unless_the_settings_say_otherwise(
        self, claude: Claude, tmp_path: Path
    ) -> None:
        assert claude.expires_after() == 30 * DAY_S
        for days in (7, 0, 365.5):
            agents.Claude(tmp_path).keeps_for(days)
            assert claude.expires_after() == days * DAY_S

    @pytest.mark.parametrize(
        "said", [b"", b"{}", b"{", b"[]", b'{"cleanupPeriodDays":null}', b"\xff", b"[" * 9999]
    )
    def test_settings_that_say_nothing_mean_30_days(
        self, claude: Claude, tmp_path: Path, said: bytes
    ) -> None:
        rewrite(tmp_path / ".claude" / "settings.json", said)
        assert claude.expires_after() == 30 * DAY_S

    def test_the_settings_are_those_of_the_configured_home(self, tmp_path: Path) -> None:
        rewrite(tmp_path / "c" / "settings.json", b'{"cleanupPeriodDays":3}')
        environ = {"HOME": str(tmp_path), "CLAUDE_CONFIG_DIR": str(tmp_path / "c")}
        assert Claude((), environ).expires_after() == 3 * DAY_S


def test_every_sample_is_a_session(claude: Claude) -> None:
    root = DATA / "claude"
    names = walk(root, claude.enters).names
    assert len(names) >= 7
    assert all(claude.counts(root, name) for name in names)
