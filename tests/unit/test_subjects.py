"""What is looked at: sessions by the names that people have for them, and files by their paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agents import PROJECT, UUID, Claude, Codex, ZeroClawStore, write
from tests.documents import conversation, document, save
from transcriptd.layout import Names
from transcriptd.sources.claude import Claude as ClaudeSource
from transcriptd.sources.codetether import CodeTether
from transcriptd.sources.codex import Codex as CodexSource
from transcriptd.sources.zeroclaw import ZeroClaw
from transcriptd.subjects import Here, Subjects

OTHER = "7c1d0f0e-0000-4b8e-9a57-3d2c1b0a9f8e"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with sessions of each agent; elsewhere is where nothing is."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    (elsewhere / ".git").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    sessions = home / ".local" / "share" / "codetether-agent" / "sessions"
    sessions.mkdir(parents=True)
    save(sessions, document(conversation(1), "one"))
    claude, codex = Claude(home), Codex(home)
    claude.says("x")
    claude.delegates("a1")
    claude.keeps("toolu_1.txt", b"output")
    claude.says("x", uuid=OTHER)
    codex.archives(codex.says("x"))
    ZeroClawStore(home / ".zeroclaw" / "data" / "sessions").says("me", "x")
    return home


@pytest.fixture
def here(home: Path) -> Here:
    environ = {"HOME": str(home)}
    sources = [kind((), environ) for kind in (CodeTether, ClaudeSource, CodexSource, ZeroClaw)]
    return Here({source.name: source for source in sources}, Names("history/", "m1."))


def names(subjects: Subjects) -> list[str]:
    return sorted(subject.session.id for subject in subjects.found.values())


def test_everything_is_every_session_of_every_agent_with_what_belongs_to_it(here: Here) -> None:
    assert names(here.everything) == sorted(
        [
            "one",
            UUID,
            f"{UUID}/subagents/agent-a1",
            f"{UUID}/subagents/agent-a1.meta.json",
            f"{UUID}/tool-results/toolu_1.txt",
            OTHER,
            UUID,  # Codex'
            "sessions.db/me",
        ]
    )
    assert all(subject.size for subject in here.everything.found.values())


@pytest.mark.parametrize("what", ["one", "history/one/history.jsonl"])
def test_a_document_is_named_by_its_id_or_its_key(here: Here, what: str) -> None:
    assert names(here.chosen([what])) == ["one"]


@pytest.mark.parametrize(
    "what",
    [f"{PROJECT}/{UUID}.jsonl", f"history/m1/raw/claude/{PROJECT}/{UUID}.jsonl"],
)
def test_a_session_brings_what_belongs_to_it(here: Here, what: str) -> None:
    assert names(here.chosen([what])) == sorted(
        [
            UUID,
            f"{UUID}/subagents/agent-a1",
            f"{UUID}/subagents/agent-a1.meta.json",
            f"{UUID}/tool-results/toolu_1.txt",
        ]
    )


@pytest.mark.parametrize("what", [UUID, UUID[:8]])
def test_an_id_or_its_beginning_means_all_sessions_that_have_it(here: Here, what: str) -> None:
    chosen = here.chosen([what])
    assert len(chosen.found) == 5  # Claude Code's with its files, and Codex'
    assert OTHER not in names(chosen)


def test_a_part_of_a_session_is_named_alone(here: Here) -> None:
    what = f"{UUID}/subagents/agent-a1"
    assert names(here.chosen([what])) == [what]


@pytest.mark.parametrize("what", [UUID[:7], "nobody", "./one", "/one", "o\0e", "x" * 5000])
def test_what_nothing_is_called_like_is_missing(here: Here, what: str) -> None:
    chosen = here.chosen([what])
    assert (chosen.found, chosen.missing) == ({}, [what])


def test_a_path_goes_before_a_session(here: Here) -> None:
    write(Path("one"), b"x")
    (subject,) = here.chosen(["one"]).found.values()
    assert subject.source is None


def test_a_directory_is_all_files_below_it_and_no_link(here: Here) -> None:
    write(Path("a/b/c.txt"), b"x")
    write(Path("a/d.jsonl"), b"xy")
    write(Path("outside/e"), b"x")
    Path("a/link").symlink_to(Path("outside").absolute())
    Path("a/b/file").symlink_to(Path("outside/e").absolute())
    chosen = here.chosen(["a"])
    sizes = {each.session.id: each.size for each in chosen.found.values()}
    assert sizes == {"a/b/c.txt": 1, "a/d.jsonl": 2}
    assert not chosen.unreadable


def test_a_link_that_is_named_is_what_it_leads_to(here: Here) -> None:
    write(Path("outside/e.jsonl"), b"x")
    Path("file").symlink_to("outside/e.jsonl")
    Path("directory").symlink_to("outside")
    (subject,) = here.chosen(["file"]).found.values()
    assert (subject.session.id, subject.session.name) == ("file", "e.jsonl")
    assert names(here.chosen(["directory"])) == ["directory/e.jsonl"]


def test_a_link_to_nothing_is_told(here: Here) -> None:
    Path("broken").symlink_to("nowhere")
    Path("round").symlink_to("round")
    chosen = here.chosen(["broken", "round"])
    assert set(chosen.unreadable) == {Path("broken"), Path("round")}
    assert not chosen.found


def test_a_file_that_is_named_twice_is_looked_at_once(here: Here, home: Path) -> None:
    write(Path("a/b.txt"), b"x")
    assert len(here.chosen(["a", "a/b.txt", str(Path("a").absolute())]).found) == 1
    path = home / ".claude" / "projects" / PROJECT / f"{OTHER}.jsonl"
    (subject,) = here.chosen([OTHER, str(path)]).found.values()
    assert subject.source is not None


def test_names_that_cannot_be_told_are_counted(here: Here) -> None:
    write(Path("a/b.txt"), b"x")
    write(Path("a", "\udcff.txt"), b"x")
    chosen = here.chosen(["a"])
    assert names(chosen) == ["a/b.txt"]
    assert list(chosen.unreadable.values()) == ["1 names below it are not UTF-8"]
