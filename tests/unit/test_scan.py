"""A scan finds what differs from the journal, says what it could not look at, and calls no session
gone that it could not look for.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.agents import ZeroClawStore, rewrite, write
from tests.people import as_somebody, public_directory
from transcriptd.config import OtherSource
from transcriptd.files import stat_of
from transcriptd.journal import Journal
from transcriptd.model import Session, Stat, State
from transcriptd.scan import Scan
from transcriptd.sources.codex import Codex
from transcriptd.sources.other import Other
from transcriptd.sources.zeroclaw import ZeroClaw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from transcriptd.sources import Source

AWKWARD = [
    "a/b.jsonl", "a-b.jsonl", "a.jsonl", "a/b/c.jsonl", "a/b-c.jsonl", "a b.jsonl", "aé.jsonl",
    "é/x.jsonl", "𠀀.jsonl", "ﬀ/-.jsonl", "ﬀ.jsonl", "Z.jsonl", "~.jsonl", "\x01.jsonl", "a/.jsonl",
]  # fmt: skip


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with Journal(tmp_path / "journal.db") as journal:
        yield journal


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def public() -> Iterator[Path]:
    with public_directory() as public:
        yield public


def other(*roots: Path, glob: str = "**/*.jsonl") -> Other:
    return Other(OtherSource("agent", tuple(map(str, roots)), (glob,)))


async def found(scan: Scan) -> list[str]:
    return [session.name for session in await scan.run()]


async def deal_with(journal: Journal, source: Source, root: Path, *names: str) -> None:
    """Note that these are archived as they stand."""
    for name in names:
        session = source.session(root, name)
        assert session is not None
        await journal.note(session, source.stat(session), State.CURRENT)


async def archived(journal: Journal, source: Source, root: Path, *names: str) -> Scan:
    """Write files, archive them, and scan once."""
    for name in names:
        write(root / name, b"{}\n")
    await deal_with(journal, source, root, *names)
    scan = Scan(source, journal)
    assert await found(scan) == []
    return scan


async def test_sessions_at_any_depth_that_the_journal_does_not_know_are_found(
    journal: Journal, root: Path
) -> None:
    for name in AWKWARD:
        write(root / name, b"")
    write(root / "a" / "other.txt", b"")
    scan = Scan(other(root), journal)
    assert await found(scan) == sorted(AWKWARD)
    assert scan.files == len(AWKWARD)


async def test_nested_names_in_any_script_are_merged_with_the_journals_in_one_order(
    journal: Journal, root: Path
) -> None:
    scan = await archived(journal, other(root), root, *AWKWARD)
    write(root / "new/x.jsonl", b"")
    for name in AWKWARD[::3]:
        write(root / name, b"more")
    for name in AWKWARD[1::3]:
        (root / name).unlink()
    changed = sorted([*AWKWARD[::3], *AWKWARD[1::3], "new/x.jsonl"])
    assert sorted(await found(scan)) == changed


async def test_a_session_is_gone_until_that_is_known(journal: Journal, root: Path) -> None:
    scan = await archived(journal, other(root), root, "a/1.jsonl", "b.jsonl")
    (root / "a/1.jsonl").unlink()
    assert await found(scan) == ["a/1.jsonl"]
    assert await found(scan) == ["a/1.jsonl"]
    gone = Session("agent", "a/1", str(root), "a/1.jsonl")
    await journal.note(gone, None, State.SOURCE_GONE)
    assert await found(scan) == []


async def test_a_directory_that_is_gone_takes_its_sessions_with_it(
    journal: Journal, root: Path
) -> None:
    scan = await archived(journal, other(root), root, "a/1.jsonl", "a/b/2.jsonl", "c.jsonl")
    shutil.rmtree(root / "a")
    assert await found(scan) == ["a/1.jsonl", "a/b/2.jsonl"]
    assert scan.unreadable == {}


async def test_a_root_that_is_gone_says_nothing_of_its_sessions(
    journal: Journal, root: Path
) -> None:
    scan = await archived(journal, other(root), root, "a/1.jsonl")
    shutil.rmtree(root)
    assert await found(scan) == []
    assert scan.roots == [(root, False)]


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111], ids=["nothing", "list only", "enter only"])
async def test_what_cannot_be_looked_at_is_said_and_not_gone_and_the_rest_goes_on(
    journal: Journal, public: Path, mode: int
) -> None:
    names = ["a/1.jsonl", "b/2.jsonl", "b/c/3.jsonl", "b-c.jsonl", "d/4.jsonl"]
    scan = await archived(journal, other(public), public, *names)
    for name in (*names, "d/new.jsonl"):
        write(public / name, b"more")
    (public / "b").chmod(mode)
    with as_somebody():
        changed = await found(scan)
    assert changed == ["a/1.jsonl", "b-c.jsonl", "d/4.jsonl", "d/new.jsonl"]
    assert public / "b" in scan.unreadable
    (public / "b").chmod(0o755)
    with as_somebody():
        assert {"b/2.jsonl", "b/c/3.jsonl"} <= {*await found(scan)}
    assert scan.unreadable == {}


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o333])
async def test_of_a_root_that_cannot_be_looked_at_no_session_is_gone_and_others_are_scanned(
    journal: Journal, public: Path, mode: int
) -> None:
    first, second = public / "first", public / "second"
    source = other(first, second)
    write(first / "a.jsonl", b"")
    await deal_with(journal, source, first, "a.jsonl")
    write(second / "b.jsonl", b"")
    scan = Scan(source, journal)
    first.chmod(mode)
    with as_somebody():
        assert await found(scan) == ["b.jsonl"]
    assert [*scan.unreadable] == [first]


async def test_links_are_not_followed_and_end_in_no_loop(
    journal: Journal, root: Path, tmp_path: Path
) -> None:
    write(tmp_path / "outside/secret.jsonl", b"secret")
    write(root / "a/1.jsonl", b"")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "a/loop").symlink_to(root)
    assert await found(Scan(other(root), journal)) == ["a/1.jsonl"]


async def test_a_link_with_a_sessions_name_is_found_and_stands_for_itself(
    journal: Journal, root: Path, tmp_path: Path
) -> None:
    outside = write(tmp_path / "secret.jsonl", b"secret")
    (root / "a.jsonl").symlink_to(outside)
    scan = Scan(other(root), journal)
    (session,) = await scan.run()
    await journal.note(session, stat_of(os.lstat(root / "a.jsonl")), State.QUARANTINED)
    write(outside, b"more")
    assert await found(scan) == [], "what it leads to is not looked at"


async def test_names_that_are_no_utf8_are_skipped_with_a_reason(
    journal: Journal, root: Path
) -> None:
    write(root / "a.jsonl", b"")
    os.close(os.open(os.fsencode(root) + b"/\xff.jsonl", os.O_CREAT))
    scan = Scan(other(root), journal)
    assert await found(scan) == ["a.jsonl"]
    assert scan.skipped == {"name_not_utf8": 1}


async def test_a_root_that_is_no_utf8_is_scanned_as_any_other(
    journal: Journal, tmp_path: Path
) -> None:
    root = tmp_path / os.fsdecode(b"r\xff")
    source = other(root)
    scan = await archived(journal, source, root, "a/1.jsonl", "2.jsonl")
    write(root / "2.jsonl", b"more")
    assert await found(scan) == ["2.jsonl"]


async def test_one_directory_under_two_names_is_scanned_once(
    journal: Journal, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(root)
    write(root / "a.jsonl", b"")
    assert await found(Scan(other(root, tmp_path / "link"), journal)) == ["a.jsonl"]


async def test_20_000_files_take_no_more_than_a_few_moments(journal: Journal, root: Path) -> None:
    source = other(root)
    names = [f"d{n % 200}/{n}.jsonl" for n in range(20_000)]
    for directory in range(200):
        (root / f"d{directory}").mkdir()
    for name in names:
        (root / name).touch()
    scan = Scan(source, journal)
    assert len(await scan.run()) == 20_000
    assert scan.found.cpu_s < 20


class TestPlaces:
    async def test_a_path_is_found_below_its_root(self, journal: Journal, root: Path) -> None:
        scan = await archived(journal, other(root), root, "a/b/1.jsonl", "2.jsonl")
        assert scan.place_of(root / "a/b/new.jsonl") == (root, "a/b/new.jsonl")
        assert scan.place_of(root / "new.jsonl") == (root, "new.jsonl")
        assert scan.place_of(root / "x/new.jsonl") is None
        assert scan.place_of(root.parent / "new.jsonl") is None

    async def test_each_directory_is_named_once(self, journal: Journal, root: Path) -> None:
        scan = await archived(journal, other(root), root, "a/1.jsonl")
        assert scan.found.directories == {str(root): (root, ""), str(root / "a"): (root, "a")}

    async def test_a_directory_is_new_until_it_was_scanned(
        self, journal: Journal, root: Path
    ) -> None:
        scan = await archived(journal, other(root, glob="*/*.jsonl"), root, "a/1.jsonl")
        write(root / "b/2.jsonl", b"")
        write(root / "b/c/3.jsonl", b"")
        (root / "link").symlink_to("b")
        assert scan.is_new_directory(root, "b")
        assert not any(scan.is_new_directory(root, name) for name in ("a", "b/c", "link", "x"))
        assert [session.name for session in scan.within(root, "b")] == ["b/2.jsonl"]
        await scan.run()
        assert not scan.is_new_directory(root, "b")

    async def test_sessions_in_a_directory_that_went_again_are_none(
        self, journal: Journal, root: Path
    ) -> None:
        assert Scan(other(root), journal).within(root, "gone") == []

    async def test_the_places_of_the_last_run_are_remembered(
        self, journal: Journal, root: Path
    ) -> None:
        await Scan(other(root), journal).run()
        again = Scan(other(root), journal)
        again.remember()
        assert again.places.roots == (root,)


class TestSessionsInsideAFile:
    async def test_each_is_compared_by_itself(self, journal: Journal, root: Path) -> None:
        source, store = ZeroClaw([str(root)], {"HOME": str(root)}), ZeroClawStore(root)
        for key in ("b", "a/é%", ""):
            store.says(key, "hello")
        scan = Scan(source, journal)
        names = await found(scan)
        assert len(names) == 3
        await deal_with(journal, source, root, *names)
        assert await found(scan) == []
        store.says("b", "more")
        assert await found(scan) == ["sessions.db/b.jsonl"]

    async def test_a_row_that_is_changed_to_one_of_the_same_length_is_found(
        self, journal: Journal, root: Path
    ) -> None:
        source, store = ZeroClaw([str(root)], {"HOME": str(root)}), ZeroClawStore(root)
        store.says("k", "hello")
        await deal_with(journal, source, root, "sessions.db/k.jsonl")
        store.does("UPDATE sessions SET content = ?", "world")
        assert await found(Scan(source, journal)) == ["sessions.db/k.jsonl"]

    async def test_one_that_is_removed_is_gone(self, journal: Journal, root: Path) -> None:
        source, store = ZeroClaw([str(root)], {"HOME": str(root)}), ZeroClawStore(root)
        for key in ("a", "b"):
            store.says(key, "hello")
        await deal_with(journal, source, root, "sessions.db/a.jsonl", "sessions.db/b.jsonl")
        store.does("DELETE FROM sessions WHERE session_key = ?", "a")
        scan = Scan(source, journal)
        assert await found(scan) == ["sessions.db/a.jsonl"]
        (root / "sessions.db").unlink()
        assert {*await found(scan)} == {"sessions.db/a.jsonl", "sessions.db/b.jsonl"}

    async def test_of_a_file_that_cannot_be_looked_into_none_is_gone_and_the_rest_goes_on(
        self, journal: Journal, root: Path
    ) -> None:
        source, store = ZeroClaw([str(root)], {"HOME": str(root)}), ZeroClawStore(root)
        store.says("a", "hello")
        await deal_with(journal, source, root, "sessions.db/a.jsonl")
        rewrite(store.path, b"no database" * 99)
        write(root / "b.jsonl", b"")
        scan = Scan(source, journal)
        assert await found(scan) == ["b.jsonl"]
        assert [*scan.unreadable] == [store.path]

    async def test_files_beside_it_are_sessions_too(self, journal: Journal, root: Path) -> None:
        source, store = ZeroClaw([str(root)], {"HOME": str(root)}), ZeroClawStore(root)
        store.says("a", "hello")
        write(root / "a.jsonl", b"")
        write(root / "z.jsonl.migrated", b"")
        assert await found(Scan(source, journal)) == [
            "a.jsonl", "sessions.db/a.jsonl", "z.jsonl.migrated",
        ]  # fmt: skip


class TestRollouts:
    async def test_a_compressed_one_beside_the_plain_one_is_not_a_second_session(
        self, journal: Journal, root: Path
    ) -> None:
        name = "2026/02/03/rollout-2026-02-03T12-00-00-0f0e7a52-6c1d-4b8e-9a57-3d2c1b0a9f8e.jsonl"
        source = Codex([str(root)], {"HOME": "/nonexistent"})
        scan = await archived(journal, source, root, name)
        write(root / f"{name}.zst", b"...")
        assert (await found(scan), scan.files) == ([], 1)
        (root / name).unlink()
        assert (await found(scan), scan.files) == ([name, f"{name}.zst"], 1)
        await journal.note(
            Session("codex", "i", str(root), f"{name}.zst"), Stat(1, 2, 3, 4, 5), State.CURRENT
        )
        write(root / name, b"{}\n")
        assert await found(scan) == [name, f"{name}.zst"], "it is gone: the plain one is back"
