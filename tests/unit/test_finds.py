"""What is found in one file: where it is, and how little of it is told."""

from __future__ import annotations

import json
import os
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agents import Claude, Codex, ZeroClawStore
from tests.documents import conversation, document, message, pretty, save
from transcriptd.content import Held
from transcriptd.errors import Unreadable, Vanished
from transcriptd.finds import Find, Subject, finds_in, hint
from transcriptd.model import Session
from transcriptd.places import Places
from transcriptd.redaction import Rule, RuleSet
from transcriptd.sources import claude, codetether, codex, zeroclaw

if TYPE_CHECKING:
    from pathlib import Path

    from transcriptd.sources import Source

SECRET = "canary-0123456789abcdef"
RULES = RuleSet([Rule("canary", r"canary-[0-9a-f]{16}"), Rule("block", r"BEGIN[\sA-Z]+END")])
MIB = 1 << 20


def finds(subject: Subject, *, max_document: int = MIB, with_hints: bool = False) -> list[Find]:
    return list(finds_in(RULES, subject, max_document=max_document, with_hints=with_hints))


def named(path: Path) -> Subject:
    """Return a file as one that was named by its path."""
    return Subject(Session("", str(path), str(path.parent), path.name), None, path.stat().st_size)


def kept(source: Source, home: Path, path: Path) -> Subject:
    """Return a file as a session of its agent."""
    for root in source.places(Places(())).roots:
        if path.is_relative_to(root) and root.is_relative_to(home):
            session = source.session(root, str(path.relative_to(root)))
            assert session is not None
            return Subject(session, source)
    raise AssertionError(path)


def lines_of(found: list[Find]) -> list[int | None]:
    return [find.line for find in found]


def line(text: str) -> bytes:
    return json.dumps({"text": text}).encode() + b"\n"


@pytest.mark.parametrize("name", ["x.jsonl", "x.txt"])
@pytest.mark.parametrize(("width", "lines"), [(10, 30_000), (3_000, 900), (700_000, 9)])
def test_a_finding_is_on_the_line_on_which_it_stands(
    tmp_path: Path, name: str, width: int, lines: int
) -> None:
    wanted = [2, 3, lines // 2, lines - 1]
    path = tmp_path / name
    path.write_bytes(
        b"".join(
            line("x" * width + (f" {SECRET} " if number in wanted else "") + "y" * width)
            for number in range(1, lines + 1)
        )
    )
    assert lines_of(finds(named(path))) == wanted


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40_000), st.booleans()), max_size=60))
def test_lines_are_numbered_as_line_feeds_are_counted(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[int, bool]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "numbered.jsonl"
    pieces = [line("x" * width + (f" {SECRET}" if planted else "")) for width, planted in lines]
    path.write_bytes(b"".join(pieces).removesuffix(b"\n"))
    wanted = [number for number, (_, planted) in enumerate(lines, 1) if planted]
    assert lines_of(finds(named(path))) == wanted


def test_two_findings_of_one_long_line_and_what_follows_have_their_lines(tmp_path: Path) -> None:
    gap = "z" * (2 * MIB)
    path = tmp_path / "x.jsonl"
    path.write_bytes(line("x") + line(f"{SECRET} {gap} {SECRET} {gap}") + line(SECRET))
    assert lines_of(finds(named(path))) == [2, 2, 3]


def test_a_text_is_looked_at_across_its_lines_and_jsonl_line_by_line(tmp_path: Path) -> None:
    for name in ("x.txt", "x.jsonl", "x.jsonl.migrated"):
        (tmp_path / name).write_text("a\nBEGIN\nEND\n")
    assert finds(named(tmp_path / "x.txt")) == [Find("block", 2)]
    assert finds(named(tmp_path / "x.jsonl")) == []
    assert finds(named(tmp_path / "x.jsonl.migrated")) == []


@pytest.mark.parametrize("as_session", [True, False])
def test_what_is_found_in_a_document_is_told_by_its_message(
    tmp_path: Path, *, as_session: bool
) -> None:
    said = [*conversation(3), message("user", f"it is {SECRET}")]
    path = save(tmp_path, document(said, "one", title=f"about {SECRET}"), encode=pretty)
    source = codetether.CodeTether([str(tmp_path)], {"HOME": str(tmp_path)})
    subject = kept(source, tmp_path, path) if as_session else named(path)
    assert finds(subject) == [Find("canary", 4), Find("canary", None)]


def test_json_that_is_no_session_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(pretty({"a": 1, "b": [SECRET]}))
    assert finds(named(tmp_path / "x.json")) == [Find("canary", 4)]


def test_a_document_that_is_too_large_to_be_held_is_a_text(tmp_path: Path) -> None:
    path = save(tmp_path, document([message("user", SECRET)] * 2, "one"))
    assert finds(named(path), max_document=10) == [Find("canary", 1)] * 2


def test_a_broken_document_of_the_agent_is_refused_and_a_named_one_is_a_text(
    tmp_path: Path,
) -> None:
    path = tmp_path / "one.json"
    path.write_text(f'{{"id": "one", "messages": ["{SECRET}"')
    source = codetether.CodeTether([str(tmp_path)], {"HOME": str(tmp_path)})
    with pytest.raises(Unreadable):
        finds(kept(source, tmp_path, path))
    assert finds(named(path)) == [Find("canary", 1)]


def test_a_compressed_rollout_is_looked_at_decompressed(tmp_path: Path) -> None:
    agent = Codex(tmp_path)
    for text in ("x" * 600_000, "y" * 600_000, SECRET, "z" * 600_000):
        agent.says(text)
    packed = agent.compresses(agent.rollout())
    agent.rollout().unlink()
    source = codex.Codex((), {"HOME": str(tmp_path)})
    assert finds(kept(source, tmp_path, packed)) == [Find("canary", 3)]
    assert finds(named(packed)) == [Find("canary", 3)]


def test_a_damaged_compressed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(b"no zstd")
    with pytest.raises(Unreadable):
        finds(named(path))


def test_sessions_inside_a_database_are_looked_at_one_by_one(tmp_path: Path) -> None:
    store = ZeroClawStore(tmp_path / ".zeroclaw" / "data" / "sessions")
    store.says("quiet", "x")
    store.says("loud", "x")
    store.says("loud", SECRET)
    source = zeroclaw.ZeroClaw((), {"HOME": str(tmp_path)})
    at = store.path
    assert finds(kept(source, tmp_path, at / "quiet.jsonl")) == []
    assert finds(kept(source, tmp_path, at / "loud.jsonl")) == [Find("canary", 2)]


def test_a_session_that_went_in_this_moment_is_gone(tmp_path: Path) -> None:
    path = Claude(tmp_path).says("x")
    subject = kept(claude.Claude((), {"HOME": str(tmp_path)}), tmp_path, path)
    path.unlink()
    with pytest.raises(Vanished):
        finds(subject)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(Unreadable):
        finds(named(tmp_path / "x.jsonl"))


def test_bytes_that_are_no_text_are_looked_at_as_far_as_they_go(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xff\xfe\0\n" + line(SECRET) + b'{"torn": "\xed\xa0\x80' + SECRET.encode())
    assert lines_of(finds(named(path))) == [2, 3]


def test_how_much_was_read_grows_up_to_all(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(line("x" * 1000) * 3000)
    heard: list[float] = []
    assert not list(finds_in(RULES, named(path), max_document=MIB, on_read=heard.append))
    assert heard == sorted(set(heard))
    assert len(heard) > 2
    assert heard[-1] == 1


@pytest.mark.parametrize("name", ["x.jsonl", "x.txt"])
def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        for _ in range(24):
            file.write(line("x" * 1000) * 1000 + line(SECRET))
    finds(named(tmp_path / name))  # what is compiled stays
    tracemalloc.start()
    try:
        assert sum(1 for _ in finds_in(RULES, named(tmp_path / name), max_document=MIB)) == 24
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 12 * MIB


def test_no_match_is_told_unless_a_hint_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(line(SECRET))
    assert finds(named(path)) == [Find("canary", 1, "")]
    assert finds(named(path), with_hints=True) == [Find("canary", 1, "can…def")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "…"),
        ("short", "…"),
        ("sixsix", "s…x"),
        ("abcd" + "." * 16 + "wxyz", "abcd…wxyz"),
        ("abcd" + "é" * 9000 + "wxyz", "abcd…wxyz"),
        ("ééééé" + "." * 15 + "üüüüü", "éééé…üüüü"),
    ],
)
def test_a_hint_has_the_ends(text: str, shown: str) -> None:
    raw = text.encode()
    assert hint(Held(b"<" + raw + b">"), 1, 1 + len(raw)) == shown


@given(st.text(max_size=80))
def test_a_hint_is_never_more_than_a_third(text: str) -> None:
    raw = text.encode()
    said = hint(Held(raw), 0, len(raw))
    assert 3 * (len(said) - 1) <= len(text)
    assert len(said) <= 9
