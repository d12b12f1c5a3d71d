"""A large database is checked at each start but those after it was closed well and left alone."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from transcriptd.database import Database
from transcriptd.soundness import leave_mark, take_mark

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS notes (n INTEGER PRIMARY KEY, text TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS notes_by_text ON notes (text);
"""
LARGE = 9 << 20


def database(path: Path) -> Database:
    return Database(path, SCHEMA, 1, lambda _: None)


async def closed(path: Path, size: int = LARGE) -> None:
    async with database(path) as opened:
        await opened.write(
            lambda c: c.execute("INSERT INTO notes (text) VALUES (hex(zeroblob(?)))", (size // 4,))
        )


def damage(path: Path) -> None:
    """Let the index disagree with its table, which only a check finds."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute("UPDATE sqlite_master SET type = 'x' WHERE name = 'notes_by_text'")
        connection.execute("DELETE FROM sqlite_master WHERE name = 'notes_by_text'")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE INDEX other ON notes (n)")
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute(
            "UPDATE sqlite_master SET name = 'notes_by_text',"
            " sql = 'CREATE INDEX notes_by_text ON notes (text)' WHERE name = 'other'"
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state" / "journal.db"


def aside(path: Path) -> bool:
    return path.with_name("journal.db.damaged").exists()


async def test_what_was_closed_and_left_alone_is_as_it_was_once(path: Path) -> None:
    await closed(path)
    assert take_mark(path)
    assert not take_mark(path), "whoever took it works on the file"


async def test_what_was_touched_since_is_checked(path: Path) -> None:
    await closed(path)
    with path.open("r+b") as file:
        file.seek(LARGE // 2)
        file.write(b"x")
    assert not take_mark(path)


async def test_what_was_replaced_by_a_copy_is_checked(path: Path) -> None:
    await closed(path)
    copy = path.with_name("copy")
    shutil.copyfile(path, copy)
    copy.replace(path)
    assert not take_mark(path)


async def test_what_nobody_closed_is_checked(path: Path) -> None:
    await closed(path)
    path.with_name("journal.db-wal").touch()
    assert not take_mark(path)


@pytest.mark.parametrize("mark", ["", "[1,2", "{}", "[1, 2, 3, 4, 5]", "\xff"])
async def test_a_mark_that_means_nothing_is_none(path: Path, mark: str) -> None:
    await closed(path)
    path.with_name("journal.db.sound").write_text(mark, "latin-1")
    assert not take_mark(path)


async def test_a_small_one_is_always_checked(path: Path) -> None:
    await closed(path, 1 << 20)
    assert not take_mark(path)


async def test_while_it_is_open_there_is_no_mark(path: Path) -> None:
    await closed(path)
    async with database(path):
        assert not path.with_name("journal.db.sound").exists()
    assert path.with_name("journal.db.sound").exists()
    assert path.with_name("journal.db.sound").stat().st_mode & 0o077 == 0


async def test_what_was_closed_well_is_not_checked_again(path: Path) -> None:
    await closed(path)
    damage(path)
    leave_mark(path)
    async with database(path):
        assert not aside(path)


async def test_what_is_damaged_is_set_aside(path: Path) -> None:
    await closed(path)
    damage(path)
    async with database(path):
        assert aside(path)


async def test_where_something_could_not_be_read_the_next_start_checks(path: Path) -> None:
    await closed(path)
    async with database(path) as opened:
        assert opened.read("SELECT * FROM nowhere") == []
    assert not take_mark(path)
