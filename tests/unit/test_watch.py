"""Which sessions may have changed: by events, and by a scan that needs none."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import threading
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.documents import conversation, document, save
from transcriptd.files import stat_of
from transcriptd.journal import Journal
from transcriptd.model import Session, Stat, State
from transcriptd.sources.codetether import CodeTether
from transcriptd.status import Status
from transcriptd.watch import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NEVER = 3600.0


class Watched:
    """A watch on a data directory, and what it reported."""

    def __init__(self, home: Path, journal: Journal, **more: float) -> None:
        self.home = home
        self.sessions = home / "data" / "sessions"
        self.index = home / "data" / "session-locations"
        self.journal = journal
        self.status = Status()
        self.reported: Counter[str] = Counter()
        self._changed = asyncio.Event()
        source = CodeTether((), {"HOME": str(home), "CODETETHER_DATA_DIR": str(home / "data")})
        self.watch = Watch(
            [source],
            journal,
            self.status,
            on_change=self._on_change,
            on_wake=lambda: None,
            quiet_s=0.05,
            rescan_s=more.get("rescan_s", NEVER),
            force_polling=bool(more.get("force_polling")),
        )

    def session(self, session_id: str) -> Session:
        return Session("codetether", session_id, str(self.sessions), f"{session_id}.json")

    def save(self, session_id: str, length: int = 1) -> Path:
        self.sessions.mkdir(parents=True, exist_ok=True)
        return save(self.sessions, document(conversation(length), session_id))

    async def deal_with(self, session_id: str, state: State = State.CURRENT) -> None:
        """Note in the journal that a session's file has been archived as it is."""
        session = self.session(session_id)
        await self.journal.note(session, stat_of(os.lstat(session.path)), state)

    async def scanned(self) -> set[str]:
        """Return what a scan reports."""
        self.reported.clear()
        await self.watch.scan()
        return set(self.reported)

    async def until_reported(self, session_id: str) -> None:
        async with asyncio.timeout(20):
            while session_id not in self.reported:
                self._changed.clear()
                await self._changed.wait()

    def _on_change(self, session: Session) -> None:
        self.reported[session.id] += 1
        self._changed.set()


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with Journal(tmp_path / "journal.db") as journal:
        yield journal


@pytest.fixture
def watched(tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.chdir(tmp_path)
    return Watched(tmp_path, journal)


@asynccontextmanager
async def running(watched: Watched) -> AsyncIterator[None]:
    """Watch; what is there at the start has been reported when this begins."""
    watched.save("first")
    await watched.watch.start()
    task = asyncio.create_task(watched.watch.run())
    watched.reported.clear()
    await watched.until_reported("first")  # the scan after arming
    watched.reported.clear()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_scan_reports_what_the_journal_does_not_know(watched: Watched) -> None:
    for session_id in ("new", "known"):
        watched.save(session_id)
    await watched.deal_with("known")
    assert await watched.scanned() == {"new"}


async def test_a_scan_reports_a_change_of_a_file_that_was_dealt_with(watched: Watched) -> None:
    path = watched.save("one")
    await watched.deal_with("one")
    stat = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert await watched.scanned() == {"one"}, "same size and same mtime, but not the same file"


async def test_a_scan_reports_a_file_that_is_gone_until_that_is_known(watched: Watched) -> None:
    watched.save("one").unlink()
    await watched.journal.note(watched.session("one"), Stat(1, 2, 3, 4, 5), State.CURRENT)
    assert await watched.scanned() == {"one"}
    await watched.journal.note(watched.session("one"), None, State.SOURCE_GONE)
    assert await watched.scanned() == set()


async def test_a_scan_of_a_root_that_is_gone_reports_nothing(watched: Watched) -> None:
    watched.save("one")
    await watched.deal_with("one")
    await watched.scanned()
    shutil.rmtree(watched.sessions)
    assert await watched.scanned() == set(), "absence is not deletion"


async def test_names_in_any_script_are_matched_with_the_journals(watched: Watched) -> None:
    ids = ["Z", "a", "_", "é", "日本", "𠀀", "ﬀ", "0", "a-b", "ab"]
    for session_id in ids:
        watched.save(session_id)
        await watched.deal_with(session_id)
    assert await watched.scanned() == set()
    for session_id in ids[::2]:
        watched.save(session_id, 2)
    watched.save("ac")
    assert await watched.scanned() == {*ids[::2], "ac"}


async def test_what_is_no_session_is_never_reported(watched: Watched) -> None:
    watched.save("one")
    for name in (
        "one.checkpoint.json",
        "one.journal.jsonl",
        "one.json.tmp",
        ".workspace_index.json",
        "..json",
        "a b.json",
    ):
        (watched.sessions / name).touch()
    (watched.sessions / os.fsdecode(b"\xff.json")).touch()
    nested = watched.sessions / "recall" / "sessions"
    nested.mkdir(parents=True)
    shutil.copy(watched.sessions / "one.json", nested)
    assert await watched.scanned() == {"one"}
    assert watched.watch.files == 1


async def test_a_start_asks_again_about_what_was_not_well(watched: Watched) -> None:
    for session_id, state in [
        ("quarantined", State.QUARANTINED),
        ("behind", State.BEHIND),
        ("conflict", State.CONFLICT),
        ("current", State.CURRENT),
    ]:
        watched.save(session_id)
        await watched.deal_with(session_id, state)
    await watched.watch.start()
    assert set(watched.reported) == {"quarantined", "behind"}
    assert watched.status.sessions[watched.session("conflict")].state is State.CONFLICT


async def test_a_root_that_the_index_names_is_found_and_remembered(
    watched: Watched, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "work" / ".codetether-agent" / "sessions"
    elsewhere.mkdir(parents=True)
    path = save(elsewhere, document(conversation(1), "far"))
    watched.index.mkdir(parents=True)
    (watched.index / "far.path").write_text(str(path))
    assert await watched.scanned() == {"far"}
    again = Watched(tmp_path, watched.journal)
    shutil.rmtree(watched.index)
    await again.watch.start()
    assert set(again.reported) == {"far"}


async def test_a_save_by_rename_is_noticed(watched: Watched) -> None:
    async with running(watched):
        watched.save("second")
        await watched.until_reported("second")
        watched.reported.clear()
        watched.save("first", 2)
        await watched.until_reported("first")


async def test_a_write_in_place_is_noticed(watched: Watched) -> None:
    async with running(watched):
        with (watched.sessions / "first.json").open("ab") as file:
            file.write(b"\n")
        await watched.until_reported("first")


async def test_a_deletion_is_noticed(watched: Watched) -> None:
    async with running(watched):
        (watched.sessions / "first.json").unlink()
        await watched.until_reported("first")


async def test_a_root_that_is_named_while_watching_is_watched(
    watched: Watched, tmp_path: Path
) -> None:
    watched.index.mkdir(parents=True)
    async with running(watched):
        elsewhere = tmp_path / "work" / ".codetether-agent" / "sessions"
        elsewhere.mkdir(parents=True)
        path = save(elsewhere, document(conversation(1), "far"))
        (watched.index / "far.path").write_text(str(path))
        await watched.until_reported("far")
        save(elsewhere, document(conversation(1), "farther"))
        await watched.until_reported("farther")


async def test_a_root_that_is_made_later_is_awaited(watched: Watched) -> None:
    await watched.watch.start()
    task = asyncio.create_task(watched.watch.run())
    try:
        assert (watched.sessions, False) in watched.watch.scans[0].roots
        watched.save("one")
        await watched.until_reported("one")
        watched.save("two")
        await watched.until_reported("two")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_without_events_a_scan_finds_each_change(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    watched = Watched(tmp_path, journal, force_polling=True)
    async with running(watched):
        assert watched.watch.is_polling
        watched.save("second")
        await watched.until_reported("second")


async def test_events_that_were_lost_are_made_up_for_by_the_rescan(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    watched = Watched(tmp_path, journal, rescan_s=0.05)
    async with running(watched):
        await watched.deal_with("first")
        # What changed while nothing listened: the journal is told of another state of the file.
        await journal.note(watched.session("first"), Stat(1, 2, 3, 4, 5), State.CURRENT)
        watched.reported.clear()
        await watched.until_reported("first")


async def test_a_scan_is_not_disturbed_by_a_directory_that_is_taken_in_meanwhile(
    watched: Watched,
) -> None:
    found = watched.watch.scans[0].found.directories
    found.update({f"/d/{n}": (Path("/d"), str(n)) for n in range(100_000)})
    looked = threading.Event()

    def take_in() -> None:
        for number in itertools.takewhile(lambda _: not looked.is_set(), itertools.count()):
            found[f"/new/{number}"] = (Path("/new"), str(number))
            time.sleep(0.0005)

    taking_in = asyncio.create_task(asyncio.to_thread(take_in))
    try:
        for _ in range(100):
            watched.watch._directories()
            await asyncio.sleep(0)
    finally:
        looked.set()
        await taking_in
