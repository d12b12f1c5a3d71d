"""That the agents of a soak know what they saved."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import zstandard

from tests.agents import record
from tests.documents import history
from tests.home import Home
from tests.soak.crew import Crew
from tests.soak.works import CodeTetherWork, FileWork, StoredWork

if TYPE_CHECKING:
    from pathlib import Path

    from tests.soak.works import Work


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.make(tmp_path / "home")


def said(home: Home, work: Work) -> bytes:
    """Return what a session's file says, as lines."""
    if isinstance(work, StoredWork):
        place = home.path / ".zeroclaw" / "data" / "sessions" / "sessions.db"
        key = work.account.id.removeprefix("sessions.db/")
        asked = "SELECT role, content FROM sessions WHERE session_key = ? ORDER BY id"
        with closing(sqlite3.connect(place)) as database:
            rows = database.execute(asked, (key,)).fetchall()
        return b"".join(record(role=role, content=content) + b"\n" for role, content in rows)
    if isinstance(work, CodeTetherWork):
        path = home.sessions / f"{work.account.id}.json"
        return history(json.loads(path.read_bytes())["messages"])
    assert isinstance(work, FileWork)
    data = work.path.read_bytes()
    return zstandard.ZstdDecompressor().decompress(data) if work.path.suffix == ".zst" else data


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_account_says_what_its_file_says(home: Home, seed: int) -> None:
    crew = Crew(home, random.Random(seed), desks=11)
    crew.works_everywhere()
    for _ in range(400):
        crew.works()
    crew.settles()
    for work in crew._desks:
        account = work.account
        assert account.runs[-1].content == said(home, work), crew.did
    done = {"says", "undoes", "compacts", "tears", "mends", "forgets", "updates", "compresses"}
    assert done <= crew.did.keys() or seed != 1


def test_an_agent_that_is_done_deletes_its_session_and_begins_another(home: Home) -> None:
    crew = Crew(home, random.Random(1), desks=1)
    crew.works_everywhere()
    (first,) = crew.accounts.values()
    crew._full[first.id] = 0.0
    first.archived(0, first.length)
    crew.works()
    assert (first.is_gone, len(crew.accounts), crew.did["ends"]) == (True, 2, 1)
    assert [path.stem for path in home.sessions.glob("*.json")] == [[*crew.accounts][1]]


def test_sessions_can_begin_in_the_midst_of_their_lives(home: Home) -> None:
    crew = Crew(home, random.Random(3), desks=11, aged=True)
    lengths = sorted(account.length for account in crew.accounts.values())
    assert lengths[-1] > 1_000_000
    assert len(crew.accounts) == 11
    assert lengths[0] < 50_000
