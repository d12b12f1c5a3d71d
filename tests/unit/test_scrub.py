"""What guards miss is found by reading all of it: slowly, and only where there may be something."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from transcriptd.content import BLOCK
from transcriptd.journal import Journal
from transcriptd.mirror import look_at
from transcriptd.model import Cursor, State
from transcriptd.scrub import Scrub
from transcriptd.sources.claude import Claude

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from transcriptd.model import Session

LINE = b'{"n":"' + b"x" * 1000 + b'"}\n'
FAST = 1 << 40
LARGE = LINE * (3 * BLOCK // len(LINE))


class Archived:
    """One Claude session whose journal says that it is archived as it stands."""

    def __init__(self, home: Path, journal: Journal) -> None:
        self.source = Claude((), {"HOME": str(home)})
        self.journal = journal
        self.path = home / ".claude" / "projects" / "-p" / "s.jsonl"
        self.path.parent.mkdir(parents=True)
        self.name = "-p/s.jsonl"
        self.doubted: list[Session] = []

    @property
    def session(self) -> Session:
        found = self.source.session(self.path.parent.parent, self.name)
        assert found
        return found

    def scrub(self, *, rate: int = FAST, after_s: float = -3600.0) -> Scrub:
        sources, doubt = {"claude": self.source}, self.doubted.append
        return Scrub(sources, self.journal, rate=rate, after_s=after_s, max_bytes=0, on_doubt=doubt)

    async def archive(self) -> bool:
        """Note all that stands there as archived; returns whether all of it was read for that."""
        record = self.journal.record(self.session)
        cursor, guard = (record.cursor, record.guard) if record else (None, None)
        seen = look_at(self.source, self.session, cursor, guard, max_bytes=0)
        snapshot = seen.snapshot
        length = snapshot.content.size
        cursor = Cursor("k", 0, snapshot.records, length, seen.digest, "e", "m.0")
        await self.journal.save(self.session, cursor)
        await self.journal.note(
            self.session,
            snapshot.stat,
            State.CURRENT,
            guard=seen.guard,
            is_verified=seen.is_verified,
        )
        return seen.is_verified

    async def grow(self) -> None:
        with self.path.open("ab") as file:
            file.write(LINE)
        await self.archive()

    def rewrite(self) -> None:
        """Change a byte far before the end; only the time of change tells."""
        stat = self.path.stat()
        with self.path.open("r+b") as file:
            file.seek(BLOCK + 10)
            file.write(b"y")
        os.utime(self.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.fixture
async def archived(tmp_path: Path) -> AsyncIterator[Archived]:
    async with Journal(tmp_path / "journal.db") as journal:
        archived = Archived(tmp_path, journal)
        archived.path.write_bytes(LARGE)
        yield archived


async def test_what_was_read_whole_is_not_read_again(archived: Archived) -> None:
    assert await archived.archive()
    scrub = archived.scrub()
    assert not await scrub.read_next()
    assert scrub.read_bytes == 0


async def test_what_grew_is_read_once(archived: Archived) -> None:
    await archived.archive()
    await archived.grow()
    scrub = archived.scrub()
    assert await scrub.read_next()
    assert scrub.read_bytes == len(LARGE) + len(LINE)
    assert not await scrub.read_next()
    assert archived.doubted == []


async def test_a_rewrite_that_no_guard_sees_is_found_and_the_next_look_reads_all(
    archived: Archived,
) -> None:
    await archived.archive()
    archived.rewrite()
    await archived.grow()  # the guards vouch for it: the rewrite is far before the end
    scrub = archived.scrub()
    assert await scrub.read_next()
    assert (archived.doubted, scrub.found) == ([archived.session], 1)
    record = archived.journal.record(archived.session)
    assert record
    assert record.stat is None  # so that a scan after a crash finds it, too
    seen = look_at(archived.source, archived.session, record.cursor, record.guard, max_bytes=0)
    assert seen.is_verified
    assert not seen.extends


async def test_a_file_that_was_not_quiet_for_long_is_left_alone(archived: Archived) -> None:
    await archived.archive()
    await archived.grow()
    assert not await archived.scrub(after_s=600.0).read_next()


async def test_a_file_that_changed_since_is_left_to_its_turn(archived: Archived) -> None:
    await archived.archive()
    await archived.grow()
    with archived.path.open("ab") as file:
        file.write(LINE)
    scrub = archived.scrub()
    assert not await scrub.read_next()
    assert archived.doubted == []


async def test_a_file_that_is_gone_is_left_to_its_turn(archived: Archived) -> None:
    await archived.archive()
    await archived.grow()
    archived.path.unlink()
    assert not await archived.scrub().read_next()


async def test_the_rate_is_kept(archived: Archived) -> None:
    await archived.archive()
    await archived.grow()
    rate = 16 * len(LARGE)
    began = time.monotonic()
    assert await archived.scrub(rate=rate).read_next()
    assert time.monotonic() - began >= len(LARGE) / rate


async def test_without_a_rate_nothing_is_read(archived: Archived) -> None:
    await archived.archive()
    await archived.grow()
    scrub = archived.scrub(rate=0)
    await scrub.run()
    assert scrub.read_bytes == 0


async def test_one_that_cannot_be_read_does_not_hold_up_the_others(archived: Archived) -> None:
    await archived.archive()
    await archived.grow()
    first = archived.path
    archived.path = first.with_name("t.jsonl")
    archived.path.write_bytes(LARGE)
    archived.name = "-p/t.jsonl"
    await archived.archive()
    await archived.grow()
    first.unlink()
    scrub = archived.scrub()
    assert await scrub.read_next()
    assert not await scrub.read_next()
    assert scrub.read_bytes == len(LARGE) + len(LINE)


async def test_sessions_that_cannot_be_read_are_in_nobodys_way(archived: Archived) -> None:
    await archived.archive()
    await archived.grow()
    record = archived.journal.record(archived.session)
    assert record
    assert record.stat
    assert record.cursor
    for number in range(150):  # of a disk that is not mounted now
        gone = replace(record.session, name=f"-p/gone-{number}.jsonl")
        stat = record.stat._replace(mtime_ns=number)
        await archived.journal.save(gone, record.cursor)
        await archived.journal.note(gone, stat, State.CURRENT, is_verified=False)
    scrub = archived.scrub()
    assert await scrub.read_next()
    assert not await scrub.read_next()
