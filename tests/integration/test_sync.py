"""`transcriptd sync`: one pass over everything, without a daemon."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.documents import conversation, document, history, save
from tests.home import Home

if TYPE_CHECKING:
    from pathlib import Path

FIRST, MORE = conversation(3), conversation(5)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.make(tmp_path / "home")


def kept(home: Home, session_id: str, name: str = "history.jsonl") -> bytes:
    return (home.archive / "history" / session_id / name).read_bytes()


def test_one_pass_archives_the_lines_and_what_a_restore_needs_besides(home: Home) -> None:
    save(home.sessions, document(FIRST, "one", title="the title"))
    assert home.run("sync").status == 0
    assert kept(home, "one") == history(FIRST)
    assert json.loads(kept(home, "one", "session.json"))["title"] == "the title"


def test_a_copy_of_a_session_takes_its_stream_over_once_the_first_is_gone(home: Home) -> None:
    original, copied = (home.path / name / "sessions" for name in ("w1", "w2"))
    home.environ["TRANSCRIPTD_SOURCES__CODETETHER__ROOTS"] = f"{original}:{copied}"
    for directory in (original, copied):
        directory.mkdir(parents=True)
        save(directory, document(FIRST, "one"))
    home.run("sync")
    shutil.rmtree(original.parent)
    save(copied, document(MORE, "one"))
    assert home.run("sync").status == 0
    assert kept(home, "one") == history(MORE)


def test_a_directory_under_two_names_is_archived_once(home: Home) -> None:
    save(home.sessions, document(FIRST, "one"))
    (home.sessions.parents[1] / "codetether").symlink_to(home.sessions.parent)
    assert home.run("sync").status == 0
    assert not (home.archive / "history" / ".conflicts").exists()


def test_a_journal_that_remembers_nonsense_does_not_keep_the_daemon_from_starting(
    home: Home,
) -> None:
    import sqlite3

    save(home.sessions, document(FIRST, "one"))
    home.run("sync")
    with sqlite3.connect(home.state / "journal.db") as journal:
        journal.execute("UPDATE facts SET value = '{\"roots' WHERE name LIKE 'places.%'")
    journal.close()
    save(home.sessions, document(MORE, "one"))
    assert home.run("sync").status == 0
    assert kept(home, "one") == history(MORE)
