"""Agents that are only configured: which files a glob means, and what they are called."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.agents import write
from transcriptd.config import OtherSource
from transcriptd.config.agents import USUAL_GLOB
from transcriptd.layout import Names, mirrored
from transcriptd.places import Places
from transcriptd.sources.other import Other
from transcriptd.walk import walk

if TYPE_CHECKING:
    from pathlib import Path

NAMES = Names("history/", "m1.abc")
SEGMENTS = st.text("ab.-*?[]!é", min_size=1, max_size=6).filter(
    lambda segment: segment.strip(".") and segment != "**"
)


def other(*globs: str, root: str = "/r") -> Other:
    return Other(OtherSource("pi", (root,), globs or USUAL_GLOB))


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("*.jsonl", "a.jsonl"),
        ("*.jsonl", ".jsonl"),
        ("*.jsonl", ".hidden.jsonl"),
        ("*/sessions/*.jsonl", "main/sessions/a.jsonl"),
        ("**/*.jsonl", "a.jsonl"),
        ("**/*.jsonl", "a/b/c.jsonl"),
        ("a/**/b/*.log", "a/b/x.log"),
        ("a/**/b/*.log", "a/1/2/b/x.log"),
        ("sessions/**", "sessions/a"),
        ("sessions/**", "sessions/a/b/c.txt"),
        ("**", "a/b"),
        ("?.jsonl", "é.jsonl"),
        ("[ab].jsonl", "b.jsonl"),
        ("[!ab].jsonl", "c.jsonl"),
        ("[.*]x", "*x"),
        ("[", "["),
        ("a.*", "a.b"),
        ("*", "with\nfeed"),
        ("*a*b*", "xaxbx"),
    ],
)
def test_a_glob_means_these(glob: str, path: str) -> None:
    assert other(glob).mirrors(path)


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("*.jsonl", "a/b.jsonl"),
        ("*.jsonl", "a.jsonl.tmp"),
        ("*/sessions/*.jsonl", "sessions/a.jsonl"),
        ("*/sessions/*.jsonl", "a/b/sessions/a.jsonl"),
        ("**/*.jsonl", "a/jsonl"),
        ("a?b", "a/b"),
        ("a[!x]b", "a/b"),
        ("a[--9]b", "a/b"),
        ("a*b", "a/b"),
        ("sessions/**", "sessions"),
        ("sessions/**", "other/a"),
        ("a.b", "axb"),
        ("A.jsonl", "a.jsonl"),
    ],
)
def test_a_glob_does_not_mean_these(glob: str, path: str) -> None:
    assert not other(glob).mirrors(path)


@given(st.lists(SEGMENTS, min_size=1, max_size=3), st.lists(SEGMENTS, min_size=1, max_size=3))
def test_a_glob_means_nothing_of_another_depth(glob: list[str], path: list[str]) -> None:
    if len(glob) != len(path):
        assert not other("/".join(glob)).mirrors("/".join(path))


@given(SEGMENTS, st.text("ab.-*?[]!é\n", min_size=1, max_size=6))
def test_within_a_name_a_glob_means_what_it_means_to_a_shell(glob: str, name: str) -> None:
    assert other(glob).mirrors(name) == fnmatch.fnmatchcase(name, glob)


@given(st.lists(st.text("ab.é-", min_size=1, max_size=6), min_size=1, max_size=4))
def test_a_name_without_signs_means_itself_alone(path: list[str]) -> None:
    name = "/".join(path)
    assert other(name).mirrors(name)
    assert not other(name).mirrors(f"{name}x")
    assert not other(name).mirrors(name.replace(".", "a")) or "." not in name


def test_any_of_several_globs_may_mean_a_file() -> None:
    source = other("*/chats/**/*.jsonl", "*.log")
    assert [source.mirrors(path) for path in ("a/chats/b/c.jsonl", "x.log", "x.jsonl")] == [
        True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("globs", "deepest"),
    [(["*.jsonl"], 0), (["*/s/*.jsonl"], 2), (["*.x", "a/*/*/*.y"], 3), (["a/**/x"], 99)],
)
def test_no_directory_is_gone_into_that_is_deeper_than_its_globs(
    globs: list[str], deepest: int
) -> None:
    source = other(*globs)
    depths = [depth for depth in range(1, 100) if source.enters("/".join("d" * depth))]
    assert depths == [*range(1, deepest + 1)]


@given(st.lists(st.sampled_from(["*", "**", "a", "?.jsonl", "*.jsonl"]), min_size=1, max_size=4))
def test_what_a_glob_means_is_found(
    tmp_path_factory: pytest.TempPathFactory, glob: list[str]
) -> None:
    root = tmp_path_factory.getbasetemp() / "tree"
    for name in ("a/a/a/x.jsonl", "a/x.jsonl", "x.jsonl", "b/a/x.jsonl", "b/c/d/a", "c"):
        if not (root / name).exists():
            write(root / name, b"")
    source = other("/".join(glob), root=str(root))
    every = walk(root, lambda _: True).names
    found = walk(root, source.enters).names
    assert [n for n in found if source.mirrors(n)] == [n for n in every if source.mirrors(n)]


@pytest.mark.parametrize("name", ["a.jsonl", "é/b c.jsonl", "100%/%2F.jsonl", "a\\b@.jsonl"])
def test_a_key_says_where_a_file_stands_and_a_destination_leads_back(name: str) -> None:
    source = other()
    (root,) = source.places(Places(())).roots
    session = source.session(root, name)
    assert session is not None
    said = mirrored("history/", source.key(NAMES, session))
    assert said is not None
    assert (said.machine, said.agent, said.path) == ("m1", "pi", name)
    assert source.destination(said.path) == (root, name)
    assert session.id == name.removesuffix(".jsonl")


def test_what_no_glob_means_leads_nowhere() -> None:
    assert other("*.jsonl").destination("a/b.jsonl") is None


def test_only_files_of_lines_are_cut_at_lines() -> None:
    source = other("*")
    (root,) = source.places(Places(())).roots
    seen = [source.session(root, name) for name in ("a.jsonl", "a.json", "a.log")]
    assert [session and source.has_lines(session) for session in seen] == [True, False, False]


def test_each_root_is_one_once(tmp_path: Path) -> None:
    roots = (str(tmp_path), str(tmp_path), f"{tmp_path}/b")
    source = Other(OtherSource("pi", roots))
    assert source.places(Places(())).roots == (tmp_path, tmp_path / "b")
