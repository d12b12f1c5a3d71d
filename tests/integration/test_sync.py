"""`transcriptd sync`: one pass over everything, mostly without a daemon."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.daemon import running
from tests.documents import conversation, document, history, save
from tests.home import Home
from tests.kept import KeptInBucket, KeptInDirectory, base_of, history_of, segments_of
from tests.servers import create_bucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Pool

FIRST, MORE = conversation(3), conversation(5)
LONG, LONGER, LONGEST = conversation(150), conversation(160), conversation(170)


@pytest.fixture
def home() -> Iterator[Home]:
    """A home whose path is short, because that of the socket below it may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="td-") as path:
        yield Home.make(Path(path, "home"))


def kept(home: Home, session_id: str) -> bytes | None:
    return history_of(KeptInDirectory(home.archive), session_id)


def test_one_pass_archives_the_lines_and_what_a_restore_needs_besides(home: Home) -> None:
    save(home.sessions, document(FIRST, "one", title="the title"))
    assert home.run("sync").status == 0
    assert kept(home, "one") == history(FIRST)
    said = (home.archive / "history" / "one" / "session.json").read_bytes()
    assert json.loads(said)["title"] == "the title"


@pytest.mark.parametrize("beside_a_daemon", [True, False], ids=["daemon", "alone"])
async def test_only_a_seal_folds_what_was_appended_into_the_base_whatever_it_costs(
    home: Home, servers: Pool, *, beside_a_daemon: bool
) -> None:
    server = create_bucket(servers.get("ministack"))
    home.use(server)
    archive = KeptInBucket(server)

    async def sync(*arguments: str) -> None:
        outcome = await asyncio.to_thread(home.run, "sync", *arguments)
        assert outcome.status == 0, outcome.out + outcome.err

    async with running(home) as daemon:
        for messages in (LONG, LONGER):  # a seal more would be one too many for now
            save(home.sessions, document(messages, "one"))
            assert (await daemon.sync(seal=True)).is_ok
        save(home.sessions, document(LONGEST, "one"))
        await daemon.archives("one", len(history(LONGEST)))
        if not beside_a_daemon:
            await daemon.kill()  # one that stops would seal
        await sync()
        assert base_of(archive, "one") == history(LONGER)
        assert history_of(archive, "one") == history(LONGEST)
        await sync("--seal")
        assert base_of(archive, "one") == history(LONGEST)
        assert segments_of(archive, "one") == []


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


def test_what_cannot_be_read_in_a_root_is_named_by_its_path(home: Home) -> None:
    database = home.path / ".zeroclaw" / "data" / "sessions" / "sessions.db"
    database.parent.mkdir(parents=True)
    database.write_bytes(b"no database" * 1000)
    outcome = home.run("sync")
    assert outcome.status == 1
    assert f"  {database}  quarantined  root_unreadable: " in outcome.out


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
