"""Which files are found below a root: all of them, none outside, and every trouble is said."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agents import ZeroClawStore
from tests.people import as_somebody, public_directory
from transcriptd.sources.claude import Claude
from transcriptd.sources.zeroclaw import ZeroClaw
from transcriptd.walk import Walked, inner_names, walk

if TYPE_CHECKING:
    from pathlib import Path

NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20
).filter(lambda name: name not in {".", ".."})


def everywhere(directory: str) -> bool:
    return True


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


def test_files_are_found_at_any_depth_in_the_order_of_their_names(root: Path) -> None:
    names = ["a/b/c/d/1", "a/b-c", "a-b", "a.b", "a/2", "z", "é", "𠀀", "ﬀ", "Z", "a/b/-"]
    write(root, *names)
    found = walk(root, everywhere)
    assert found.names == sorted(names)
    assert {*found.directories} == {"", "a", "a/b", "a/b/c", "a/b/c/d"}


@settings(max_examples=30, deadline=None)
@given(st.sets(NAMES, max_size=6), st.sets(NAMES, max_size=3))
def test_any_name_that_is_text_is_found(
    tmp_path_factory: pytest.TempPathFactory, files: set[str], directories: set[str]
) -> None:
    root = tmp_path_factory.mktemp("names")
    names = {*files, *(f"{d}-/{name}" for d in directories for name in files)}
    write(root, *names)
    assert walk(root, everywhere).names == sorted(names)


def test_only_those_directories_are_gone_into_that_may_hold_sessions(root: Path) -> None:
    write(root, "a/1", "a/b/2", "c/3", "4")
    asked: list[str] = []

    def enters(directory: str) -> bool:
        asked.append(directory)
        return directory == "a"

    found = walk(root, enters)
    assert (found.names, {*found.directories}) == (["4", "a/1"], {"", "a"})
    assert {*asked} == {"a", "a/b", "c"}


def test_a_link_to_where_no_session_may_be_is_not_counted(root: Path, tmp_path: Path) -> None:
    (root / "out").symlink_to(tmp_path)
    assert walk(root, lambda _: False).skipped == {}


def test_links_to_directories_are_names_and_counted_and_not_followed(
    root: Path, tmp_path: Path
) -> None:
    write(tmp_path / "outside", "secret.jsonl")
    write(root, "a/1")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "a" / "loop").symlink_to(root)
    (root / "self").symlink_to("self")
    found = walk(root, everywhere)
    assert found.names == ["a/1", "a/loop", "out", "self"]
    assert {*found.directories} == {"", "a"}
    assert found.skipped == {"linked_directory": 2}


def test_names_that_are_no_utf8_are_left_out_and_counted_and_the_rest_goes_on(root: Path) -> None:
    write(root, "a/1", "z")
    for name in (b"\xff.jsonl", b"a/\xfe.jsonl"):
        os.close(os.open(os.fsencode(root) + b"/" + name, os.O_CREAT))
    os.mkdir(os.fsencode(root) + b"/d\xff")  # noqa: PTH102 - no text
    found = walk(root, everywhere)
    assert found.names == ["a/1", "z"]
    assert found.skipped == {"name_not_utf8": 3}


def test_a_directory_that_may_not_be_read_is_said_and_the_rest_goes_on() -> None:
    with public_directory() as root:
        write(root, "a/1.jsonl", "b/2.jsonl", "c/3.jsonl")
        (root / "b").chmod(0)
        with as_somebody():
            found = walk(root, everywhere)
        assert found.names == ["a/1.jsonl", "c/3.jsonl"]
        assert found.unreadable == {root / "b": "Permission denied"}


def test_a_directory_that_vanishes_meanwhile_is_no_trouble(root: Path) -> None:
    write(root, "a/1", "b/2")

    def enters(directory: str) -> bool:
        if directory == "b":
            (root / "b" / "2").unlink()
            (root / "b").rmdir()
        return True

    found = walk(root, enters)
    assert (found.names, found.unreadable) == (["a/1"], {})


def test_a_directory_that_becomes_a_file_meanwhile_is_no_trouble(root: Path) -> None:
    write(root, "a/1")
    (root / "b").mkdir()

    def enters(directory: str) -> bool:
        if directory == "b":
            (root / "b").rmdir()
            (root / "b").write_bytes(b"")
        return True

    assert walk(root, enters).unreadable == {}


@pytest.mark.parametrize("make", [lambda root: None, lambda root: root.write_bytes(b"")])
def test_a_root_that_is_no_directory_is_an_error(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "x")
    with pytest.raises(OSError, match=r"No such file|Not a directory"):
        walk(tmp_path / "x", everywhere)


def test_20_000_files_take_no_more_than_a_moment(root: Path) -> None:
    for directory in range(200):
        write(root, *(f"d{directory}/{n}.jsonl" for n in range(100)))
    began = time.thread_time()
    found = walk(root, everywhere)
    assert time.thread_time() - began < 10
    assert (len(found.names), len(found.directories)) == (20_000, 201)


def test_nothing_is_found_where_nothing_is(root: Path) -> None:
    assert walk(root, everywhere) == Walked(directories=[""])


def test_a_file_stands_for_itself_or_for_the_sessions_inside_it(root: Path) -> None:
    claude, zeroclaw = (cls([str(root)], {"HOME": str(root)}) for cls in (Claude, ZeroClaw))
    assert inner_names(claude, root, "p/a.jsonl") == ["p/a.jsonl"]
    store = ZeroClawStore(root)
    for key in ("b", "a"):
        store.says(key, "x")
    assert inner_names(zeroclaw, root, "sessions.db") == [
        "sessions.db/a.jsonl",
        "sessions.db/b.jsonl",
    ]
    assert inner_names(zeroclaw, root, "sessions.db-wal") == ["sessions.db-wal"]


def test_a_file_that_cannot_be_looked_into_stands_for_itself(root: Path) -> None:
    (root / "sessions.db").write_bytes(b"no database" * 99)
    source = ZeroClaw([str(root)], {"HOME": str(root)})
    assert inner_names(source, root, "sessions.db") == ["sessions.db"]
