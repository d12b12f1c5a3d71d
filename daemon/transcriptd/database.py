"""The journal's file: SQLite with one writing thread, and what happens when the disk fails.

Jobs that have gathered are committed in one transaction. `synchronous=NORMAL`: the archive is the
authority, so a power cut costs one look at the store, not data. Where the disk fails, the database
goes on in memory and moves back by itself; a damaged file is set aside. Knows no table.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import uuid4

from transcriptd.apart import any_text
from transcriptd.soundness import leave_mark, take_mark

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Job = tuple["Callable[[sqlite3.Connection], Any]", "asyncio.Future[Any]"]

_BATCH = 500
_CACHE_KIB = 256
RETRY_DISK_S = 10.0


class Database:
    """Use as `async with`. `on_trouble` hears the error, and `None` when the disk is back.

    A disk that failed is tried again every `retry_disk_s` seconds.
    """

    def __init__(
        self,
        path: Path,
        schema: str,
        version: int,
        on_trouble: Callable[[Exception | None], None],
        *,
        retry_disk_s: float = RETRY_DISK_S,
    ) -> None:
        self.in_memory = False
        self._path = path
        self._schema = schema
        self._version = version
        self._on_trouble = on_trouble
        self._retry_disk_s = retry_disk_s
        self._doubted = False
        self._moves = 0  # how often the database went to memory or back
        self._memory_uri = ""
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._retry_disk_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writing: sqlite3.Connection | None = None
        self._reading: sqlite3.Connection | None = None
        self._reading_since_move = 0
        self._thread = Thread(target=self._write_batches, name="journal", daemon=True)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        try:
            self._writing = await asyncio.to_thread(self._open_or_set_aside)
        except (sqlite3.Error, OSError) as error:
            self._go_on_in_memory(error)
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        for connection in (self._reading, self._writing):
            if connection is not None:
                connection.close()
        if not self.in_memory and not self._doubted:
            await asyncio.to_thread(leave_mark, self._path)

    def read(self, query: str, values: tuple[object, ...] = ()) -> list[Any]:
        """Return the rows of a query; none where the database cannot be read."""
        for text_factory in (str, any_text):
            try:
                reader = self._reader()
                reader.text_factory = text_factory
                return reader.execute(query, values).fetchall()
            except sqlite3.Error:
                self.doubt()
                self._close_reader()  # the writing thread is about to move, too
        return []

    def connect(self) -> sqlite3.Connection:
        """Open one more connection for reading, in any thread."""
        if self.in_memory:
            memory = sqlite3.connect(self._memory_uri, uri=True, check_same_thread=False)
            # Connections to shared memory lock each other out by table, without waiting.
            memory.execute("PRAGMA read_uncommitted = 1")
            return memory
        disk = sqlite3.connect(read_only(self._path), uri=True, check_same_thread=False, timeout=10)
        try:
            _spare_memory(disk)
        except BaseException:
            disk.close()
            raise
        return disk

    def doubt(self) -> None:
        """Have the file checked at the next start: something in it could not be read."""
        self._doubted = True

    async def write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job in the writing thread; returns once its transaction is committed."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put((job, done))
        # A caller that goes away does not take its entry along: the archive may have changed.
        return await asyncio.shield(done)

    def _reader(self) -> sqlite3.Connection:
        if self._reading_since_move != self._moves:
            self._close_reader()  # it reads well, but where nothing is written any more
        if self._reading is None:
            self._reading_since_move = self._moves
            self._reading = self.connect()
        return self._reading

    def _close_reader(self) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def _write_batches(self) -> None:
        ended = False
        while not ended and (first := self._next()) is not None:
            batch = [first]
            with contextlib.suppress(Empty):
                while len(batch) < _BATCH and not ended:
                    following = self._queue.get_nowait()
                    ended = following is None
                    if following is not None:
                        batch.append(following)
            if self.in_memory and monotonic() >= self._retry_disk_at:
                self._return_to_disk()
            self._write_batch(batch)
        if self.in_memory:
            self._return_to_disk()

    def _next(self) -> Job | None:
        while True:
            try:
                return self._queue.get(timeout=self._retry_disk_s if self.in_memory else None)
            except Empty:
                self._return_to_disk()

    def _write_batch(self, batch: list[Job]) -> None:
        try:
            try:
                results = self._apply(batch)
            except sqlite3.Error as error:
                if self.in_memory:
                    raise
                self._go_on_in_memory(error)
                results = self._apply(batch)
        except Exception as error:  # noqa: BLE001 - it reaches the caller, who waits for it
            if len(batch) == 1:
                self._call(_fail, batch[0][1], error)
                return
            for job in batch:  # one job's fault is no other's
                self._write_batch([job])
        else:
            for (_, done), result in zip(batch, results, strict=True):
                self._call(_resolve, done, result)

    def _apply(self, batch: list[Job]) -> list[Any]:
        connection = self._writing
        assert connection is not None
        connection.execute("BEGIN IMMEDIATE")
        try:
            results = [job(connection) for job, _ in batch]
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return results

    def _go_on_in_memory(self, error: Exception) -> None:
        self.doubt()
        corrupt = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT
        try:
            memory = self._open_memory(copied=not corrupt)
        except (sqlite3.Error, OSError, UnicodeDecodeError):
            memory = self._open_memory(copied=False)
        self._writing, self.in_memory = memory, True
        self._moves += 1
        self._retry_disk_at = monotonic() + self._retry_disk_s
        self._call(self._on_trouble, error)

    def _open_memory(self, *, copied: bool) -> sqlite3.Connection:
        # A reader may still hold the memory of the last time: a new name for each.
        self._memory_uri = f"file:journal-{uuid4()}?mode=memory&cache=shared"
        memory = sqlite3.connect(
            self._memory_uri, uri=True, check_same_thread=False, isolation_level=None
        )
        try:
            if copied:
                with contextlib.closing(self._writing or self._as_it_lies()) as disk:
                    disk.backup(memory)
            self._prepare(memory)
        except BaseException:
            memory.close()
            raise
        return memory

    def _as_it_lies(self) -> sqlite3.Connection:
        """Open what is on the disk where nothing can be written, not even beside it."""
        log = Path(f"{self._path}-wal")
        if log.exists() and log.stat().st_size:
            return self.connect()
        return sqlite3.connect(
            f"{read_only(self._path)}&immutable=1", uri=True, check_same_thread=False
        )

    def _return_to_disk(self) -> None:
        self._retry_disk_at = monotonic() + self._retry_disk_s
        memory = self._writing
        assert memory is not None
        try:
            disk = self._open_or_set_aside()
        except (sqlite3.Error, OSError):
            return
        try:
            memory.backup(disk)
        except sqlite3.Error:
            disk.close()
            return
        self._writing, self.in_memory = disk, False
        self._moves += 1
        memory.close()
        self._call(self._on_trouble, None)

    def _open_or_set_aside(self) -> sqlite3.Connection:
        try:
            return self._open()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if not _is_damage(error):
                raise  # the disk, not the file
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self._path}{suffix}").rename(f"{self._path}.damaged{suffix}")
            return self._open()

    def _open(self) -> sqlite3.Connection:
        sound = take_mark(self._path)
        # Made here, so that it is never readable by others, not even for a moment.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            self._path, check_same_thread=False, isolation_level=None, timeout=10
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            _spare_memory(connection)
            self._prepare(connection, sound=sound)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection, *, sound: bool = False) -> None:
        """Make the tables. Raises where what is there already is not sound.

        `sound`: nobody has touched it since it was.
        """
        if not sound and connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("the file is damaged")
        if connection.execute("PRAGMA user_version").fetchone()[0] not in {0, self._version}:
            raise sqlite3.DatabaseError("written by another version")
        connection.executescript(self._schema)
        connection.execute(f"PRAGMA user_version = {self._version:d}")
        with contextlib.closing(sqlite3.connect(":memory:")) as model:
            model.executescript(self._schema)
            if _tables(connection) != _tables(model):
                raise sqlite3.DatabaseError("its tables are not those of this version")

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, *arguments)


def _spare_memory(connection: sqlite3.Connection) -> None:
    """Let the kernel cache the file instead of each connection, which would take 2 MB."""
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB:d}")


def read_only(path: Path) -> str:
    """Return the URI under which SQLite opens a file for reading."""
    return f"{path.absolute().as_uri()}?mode=ro"


def _tables(connection: sqlite3.Connection) -> list[Any]:
    return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def _is_damage(error: sqlite3.Error | UnicodeDecodeError) -> bool:
    """Whether the file is at fault, not the disk it lies on."""
    if isinstance(error, UnicodeDecodeError):
        return True  # SQLite quotes what is damaged
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF in {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _resolve(done: asyncio.Future[Any], result: object) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[Any], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
