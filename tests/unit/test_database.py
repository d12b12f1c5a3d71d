"""Writes are durable or go on in memory, come back by themselves, and readers follow."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import subprocess
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from threading import Event
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcriptd.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

SCHEMA = "CREATE TABLE IF NOT EXISTS notes (n INTEGER PRIMARY KEY, text TEXT NOT NULL);"
AT_ONCE_S = 0.02
DEADLINE_S = 20.0


class Disk(Protocol):
    """A directory on a disk that can be full."""

    path: Path

    def fill(self) -> None: ...
    def free(self) -> None: ...


class SmallDisk:
    """A file system of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        with (self.path / "filler").open("wb", buffering=0) as filler:
            for size in (1 << 16, 1 << 12, 1):
                with suppress(OSError):
                    while True:
                        filler.write(b"x" * size)

    def free(self) -> None:
        (self.path / "filler").unlink()


class LimitedDisk:
    """Any directory, while this process may not write to any file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._before[1]))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


@contextmanager
def small_disk(path: Path) -> Iterator[Disk]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k,mode=0700", "transcriptd-test", str(path)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("may not mount: run as root with CAP_SYS_ADMIN")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def limited_disk(path: Path) -> Iterator[Disk]:
    disk = LimitedDisk(path)
    try:
        yield disk
    finally:
        disk.free()


@pytest.fixture(params=[small_disk, limited_disk])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param is small_disk and shutil.which("mount") is None:
        pytest.skip("there is no mount(8)")
    path = tmp_path / "disk"
    path.mkdir()
    with request.param(path) as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


class Troubles:
    """What `on_trouble` heard, and a way to wait for the next."""

    def __init__(self) -> None:
        self.heard: list[Exception | None] = []
        self._changed = asyncio.Event()

    def hear(self, trouble: Exception | None) -> None:
        self.heard.append(trouble)
        self._changed.set()

    async def recovered(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not self.heard or self.heard[-1] is not None:
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def opened(
    path: Path, troubles: Troubles | None = None, version: int = 1
) -> AsyncIterator[Database]:
    hear = (troubles or Troubles()).hear
    async with Database(path, SCHEMA, version, hear, retry_disk_s=AT_ONCE_S) as database:
        yield database


def noting(text: str) -> Callable[[sqlite3.Connection], int]:
    def job(connection: sqlite3.Connection) -> int:
        return connection.execute("INSERT INTO notes (text) VALUES (?)", (text,)).lastrowid or 0

    return job


@asynccontextmanager
async def held(
    database: Database, *, after: Callable[[sqlite3.Connection], object] = lambda _: None
) -> AsyncIterator[None]:
    """Keep the writing thread busy, so that what is written inside gathers.

    `after`: what it has done by then, and not committed.
    """
    started, enough = Event(), Event()

    def hold(connection: sqlite3.Connection) -> None:
        after(connection)
        started.set()
        assert enough.wait(DEADLINE_S)

    holding = asyncio.create_task(database.write(hold))
    await asyncio.to_thread(started.wait, DEADLINE_S)
    yield
    await asyncio.sleep(0)  # every writer has put its job
    enough.set()
    await holding


def read_of(database: Database) -> list[str]:
    return [text for (text,) in database.read("SELECT text FROM notes ORDER BY n")]


@contextmanager
def as_somebody() -> Iterator[None]:
    """Be somebody whom permissions concern."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(12345)
    try:
        yield
    finally:
        os.seteuid(before)


def damaged(path: Path, data: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def files_of(path: Path) -> list[Path]:
    return list(path.parent.glob(f"{path.name}*"))


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def on_disk(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY n")]


async def filled(path: Path, *texts: str) -> None:
    async with opened(path) as database:
        for text in texts:
            await database.write(noting(text))


class TestWriting:
    async def test_what_was_written_is_there_after_a_restart(self, path: Path) -> None:
        await filled(path, "a", "b")
        async with opened(path) as database:
            assert read_of(database) == ["a", "b"]

    async def test_a_write_gives_back_what_its_job_gives(self, path: Path) -> None:
        async with opened(path) as database:
            assert [await database.write(noting(t)) for t in "abc"] == [1, 2, 3]

    async def test_what_was_written_is_read_at_once(self, path: Path) -> None:
        async with opened(path) as database:
            for text in ("a", "b"):
                await database.write(noting(text))
                assert read_of(database)[-1] == text

    async def test_many_writes_at_once_keep_their_order_and_their_results(self, path: Path) -> None:
        texts = [str(number) for number in range(1700)]  # more than three batches
        async with opened(path) as database:
            async with held(database):
                writing = [asyncio.ensure_future(database.write(noting(text))) for text in texts]
            numbers = await asyncio.gather(*writing)
            assert numbers == list(range(1, 1701))
            assert read_of(database) == texts

    async def test_writes_that_gathered_are_committed_together(self, path: Path) -> None:
        statements: list[str] = []
        async with opened(path) as database:
            await database.write(lambda c: c.set_trace_callback(statements.append))
            statements.clear()
            async with held(database):
                writing = [asyncio.ensure_future(database.write(noting("a"))) for _ in range(50)]
            await asyncio.gather(*writing)
        assert statements.count("COMMIT") == 2  # of the one that held the others, and of these

    async def test_a_job_that_fails_tells_its_caller_and_harms_no_other(self, path: Path) -> None:
        def fails(connection: sqlite3.Connection) -> None:
            noting("half done")(connection)
            raise ValueError("a job's own fault")

        async with opened(path) as database:
            async with held(database):
                jobs = [noting("a"), fails, noting("b")]
                writing = [asyncio.ensure_future(database.write(job)) for job in jobs]
            results = await asyncio.gather(*writing, return_exceptions=True)
            assert isinstance(results[1], ValueError)
            assert read_of(database) == ["a", "b"]
            assert not database.in_memory

    async def test_a_caller_that_goes_away_does_not_take_its_entry_along(self, path: Path) -> None:
        async with opened(path) as database:
            writing = asyncio.create_task(database.write(noting("a")))
            await asyncio.sleep(0)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
        assert on_disk(path) == ["a"]

    async def test_closing_waits_for_what_was_asked_before(self, path: Path) -> None:
        async with opened(path) as database:
            writing = [asyncio.ensure_future(database.write(noting(str(n)))) for n in range(600)]
            await asyncio.sleep(0)
        assert len(on_disk(path)) == 600
        await asyncio.gather(*writing)

    async def test_a_reader_that_takes_long_holds_up_no_writer(self, path: Path) -> None:
        await filled(path, "a", "b", "c")
        async with opened(path) as database:
            with closing(database.connect()) as reader:
                rows = reader.execute("SELECT text FROM notes ORDER BY n")
                assert next(rows) == ("a",)
                await database.write(noting("d"))
                assert list(rows) == [("b",), ("c",)]

    async def test_nobody_else_may_read_the_file(self, path: Path) -> None:
        await filled(path)
        assert {f"{mode_of(file):o}" for file in path.parent.iterdir()} == {"600"}

    @pytest.mark.parametrize("name", ["a b", "50%", "#1", "what?", "x%41", "é"])
    async def test_any_name_of_the_directory_will_do(self, tmp_path: Path, name: str) -> None:
        path = damaged(tmp_path / name / "journal.db", b"")
        async with opened(path) as database:
            await database.write(noting("a"))
            assert read_of(database) == ["a"]

    async def test_a_query_that_cannot_be_answered_gives_nothing(self, path: Path) -> None:
        async with opened(path) as database:
            assert database.read("SELECT * FROM nowhere") == []


class TestDamage:
    @pytest.mark.parametrize(
        "damage", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 5000, b"\0" * 8192]
    )
    async def test_a_file_that_is_no_database_is_set_aside(self, path: Path, damage: bytes) -> None:
        damaged(path, damage)
        troubles = Troubles()
        async with opened(path, troubles) as database:
            await database.write(noting("a"))
            assert (read_of(database), database.in_memory, troubles.heard) == (["a"], False, [])
        assert path.with_name("journal.db.damaged").read_bytes() == damage
        assert on_disk(path) == ["a"]

    @pytest.mark.parametrize("size", [0, 1, 100, 4095, 4096, 5000, 8191, 12288])
    async def test_a_file_that_was_cut_is_set_aside_or_read(self, path: Path, size: int) -> None:
        await filled(path, *("long text " * 50 for _ in range(60)))
        with path.open("r+b") as file:
            file.truncate(size)
        async with opened(path) as database:
            assert read_of(database) == []
            await database.write(noting("a"))
            assert read_of(database) == ["a"]
            assert not database.in_memory

    @pytest.mark.parametrize("suffix", ["-wal", "-shm"])
    async def test_a_damaged_companion_of_the_file_does_no_harm(
        self, path: Path, suffix: str
    ) -> None:
        await filled(path, "a")
        path.with_name(path.name + suffix).write_bytes(b"garbage" * 5000)
        async with opened(path) as database:
            await database.write(noting("b"))
            assert read_of(database) == ["a", "b"]

    @settings(max_examples=60, deadline=None)
    @given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
    def test_a_flipped_byte_anywhere_stops_nobody(
        self, tmp_path_factory: pytest.TempPathFactory, place: float, flip: int
    ) -> None:
        path = tmp_path_factory.mktemp("state") / "journal.db"

        async def scenario() -> None:
            await filled(path, *("some text " * 20 for _ in range(40)))
            data = bytearray(path.read_bytes())
            data[int(place * len(data))] ^= flip
            path.write_bytes(data)
            async with opened(path) as database:
                number = await database.write(noting("a"))
                assert database.read("SELECT text FROM notes WHERE n = ?", (number,)) == [("a",)]

        asyncio.run(scenario())

    async def test_a_database_of_another_version_is_set_aside(self, path: Path) -> None:
        async with opened(path, version=2) as database:
            await database.write(noting("from the future"))
        async with opened(path, version=1) as database:
            assert read_of(database) == []
        assert on_disk(path.with_name("journal.db.damaged")) == ["from the future"]

    async def test_a_file_that_is_deleted_under_us_stops_nobody(self, path: Path) -> None:
        async with opened(path) as database:
            await database.write(noting("a"))
            for file in files_of(path):
                file.unlink()
            await database.write(noting("b"))
        async with opened(path) as database:
            await database.write(noting("c"))

    @pytest.mark.parametrize("damage", [b"", b"garbage" * 20_000])
    async def test_a_file_that_is_damaged_under_us_stops_nobody_and_is_replaced_by_a_restart(
        self, path: Path, damage: bytes
    ) -> None:
        async with opened(path) as database:
            for number in range(50):
                await database.write(noting(f"{number}" * 500))
            for file in (path, path.with_name("journal.db-wal")):
                damaged(file, damage)
            for number in range(50):
                await database.write(noting(f"{number}" * 500))
                read_of(database)
        async with opened(path) as database:
            await database.write(noting("a"))
            assert read_of(database)[-1] == "a"
            assert not database.in_memory

    async def test_a_directory_we_may_not_enter_leads_to_memory(self, path: Path) -> None:
        await filled(path, "a")
        path.parent.chmod(0)
        troubles = Troubles()
        with as_somebody():
            async with opened(path, troubles) as database:
                await database.write(noting("b"))
                assert (read_of(database), database.in_memory) == (["b"], True)
        assert isinstance(troubles.heard[0], OSError)
        path.parent.chmod(0o700)


class TestFullDisk:
    async def test_on_a_full_disk_it_goes_on_in_memory_and_says_so(self, disk: Disk) -> None:
        troubles = Troubles()
        async with opened(disk.path / "journal.db", troubles) as database:
            await database.write(noting("before"))
            disk.fill()
            await _write_until_in_memory(database)
            await database.write(noting("during"))
            assert read_of(database)[0] == "before"
            assert read_of(database)[-1] == "during"
            (trouble,) = troubles.heard
            assert isinstance(trouble, sqlite3.Error)
            disk.free()

    async def test_it_returns_to_the_disk_by_itself_also_where_nothing_is_written(
        self, disk: Disk
    ) -> None:
        troubles = Troubles()
        async with opened(disk.path / "journal.db", troubles) as database:
            disk.fill()
            await _write_until_in_memory(database)
            await database.write(noting("during"))
            disk.free()
            await troubles.recovered()
            assert not database.in_memory
            assert on_disk(disk.path / "journal.db")[-1] == "during"

    async def test_readers_see_every_write_before_during_and_after(self, disk: Disk) -> None:
        troubles = Troubles()
        async with opened(disk.path / "journal.db", troubles) as database:
            await database.write(noting("before"))
            assert read_of(database)[-1] == "before"
            disk.fill()
            await _write_until_in_memory(database)
            for number in range(50):
                await database.write(noting(f"during {number}"))
                assert read_of(database)[-1] == f"during {number}"
            disk.free()
            await troubles.recovered()
            for number in range(50):
                await database.write(noting(f"after {number}"))
                assert read_of(database)[-1] == f"after {number}"

    async def test_readers_are_not_locked_out_by_a_write_while_it_is_in_memory(
        self, disk: Disk
    ) -> None:
        async with opened(disk.path / "journal.db") as database:
            disk.fill()
            await _write_until_in_memory(database)
            await database.write(noting("before"))
            async with held(database, after=noting("not committed yet")):
                assert "before" in read_of(database)
                with closing(database.connect()) as reader:
                    assert reader.execute("SELECT count(*) FROM notes").fetchone()[0] > 0
            disk.free()

    async def test_a_stop_during_the_trouble_saves_what_can_be_saved(self, disk: Disk) -> None:
        async with Database(
            disk.path / "journal.db", SCHEMA, 1, Troubles().hear, retry_disk_s=3600
        ) as database:
            disk.fill()
            await _write_until_in_memory(database)
            await database.write(noting("during"))
            disk.free()
        assert on_disk(disk.path / "journal.db")[-1] == "during"

    async def test_a_stop_on_a_full_disk_is_a_stop(self, disk: Disk) -> None:
        async with opened(disk.path / "journal.db") as database:
            disk.fill()
            await _write_until_in_memory(database)
        disk.free()

    async def test_a_start_on_a_full_disk_knows_what_was_there(self, disk: Disk) -> None:
        await filled(disk.path / "journal.db", "before")
        disk.fill()
        troubles = Troubles()
        async with opened(disk.path / "journal.db", troubles) as database:
            await _write_until_in_memory(database)
            assert read_of(database)[0] == "before"
            disk.free()
            await troubles.recovered()
        assert on_disk(disk.path / "journal.db")[0] == "before"

    async def test_a_second_full_disk_is_survived_like_the_first(self, disk: Disk) -> None:
        troubles = Troubles()
        async with opened(disk.path / "journal.db", troubles) as database:
            for number in range(3):
                disk.fill()
                await _write_until_in_memory(database)
                await database.write(noting(f"{number}"))
                disk.free()
                await troubles.recovered()
                assert on_disk(disk.path / "journal.db")[-1] == f"{number}"
        assert [trouble is None for trouble in troubles.heard] == [False, True] * 3

    async def test_where_no_file_can_be_made_it_works_in_memory(self, path: Path) -> None:
        blocking = damaged(path / "a directory stands in its place", b"")
        troubles = Troubles()
        async with opened(path, troubles) as database:
            await database.write(noting("a"))
            assert (read_of(database), database.in_memory) == (["a"], True)
            shutil.rmtree(blocking.parent)
            await troubles.recovered()
        assert isinstance(troubles.heard[0], OSError)
        assert on_disk(path) == ["a"]


async def _write_until_in_memory(database: Database) -> None:
    """Write until the disk's last free pages are used up."""
    async with asyncio.timeout(DEADLINE_S):
        while not database.in_memory:
            await database.write(noting("filling " * 500))
