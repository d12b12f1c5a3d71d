"""`transcriptd last`: where somebody was, as a person or a script asks for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.documents import compact, conversation, document, history, save
from tests.home import Home
from tests.servers import create_bucket

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Pool

MESSAGES = conversation(6)


@pytest.fixture(params=["local", "ministack"])
def home(request: pytest.FixtureRequest, tmp_path: Path, servers: Pool) -> Home:
    """A home with one workspace, `app`, and an archived session of it."""
    home = Home.make(tmp_path / "home")
    if request.param != "local":
        home.use(create_bucket(servers.get(request.param)))
    (home.path / "app").mkdir()
    metadata = {"directory": str(home.path / "app")}
    save(home.sessions, document(MESSAGES, "one", metadata=metadata))
    assert home.run("sync").status == 0
    return home


def test_the_id_is_all_that_is_printed(home: Home) -> None:
    outcome = home.run("last", "--workspace", "app")
    assert (outcome.status, outcome.out, outcome.err) == (0, "one\n", "")


def test_a_script_gets_its_path_and_its_time(home: Home) -> None:
    said = json.loads(home.run("last", "--workspace", "app", "--json").out)
    path = home.sessions / "one.json"
    assert said == {
        "session": "one",
        "workspace": str(home.path / "app"),
        "path": str(path),
        "changed_at": pytest.approx(path.stat().st_mtime),
    }


def test_its_last_messages_come_from_its_file(home: Home) -> None:
    outcome = home.run("last", "--workspace", "app", "--tail", "2")
    assert (outcome.status, outcome.out) == (0, history(MESSAGES[-2:]).decode())


def test_its_last_messages_come_from_the_archive_where_the_file_is_gone(home: Home) -> None:
    entries = {"entries": {str(home.path / "app"): "one"}}
    (home.sessions / ".workspace_index.json").write_bytes(compact(entries))
    (home.sessions / "one.json").unlink()
    outcome = home.run("last", "--workspace", "app", "--tail", "2")
    assert (outcome.status, outcome.out) == (0, history(MESSAGES[-2:]).decode())
    said = json.loads(home.run("last", "--workspace", "app", "--tail", "9", "--json").out)
    assert (said["path"], said["messages"]) == (None, MESSAGES)


def test_where_there_is_none_it_is_exit_status_1_with_a_reason(home: Home) -> None:
    (home.path / "other").mkdir()
    for arguments in (["--workspace", "other"], []):
        outcome = home.run("last", *arguments)
        assert (outcome.status, outcome.out) == (1, "")
        assert "is known on this machine" in outcome.err
        assert "No session of CodeTether's of " in outcome.err
        assert "`transcriptd restore --project DIR --dry-run`" in outcome.err
        assert "Traceback" not in outcome.err
