"""`transcriptd verify` as a person calls it: in a process of its own, against real stores."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.daemon import running
from tests.documents import conversation, document, save
from tests.home import VARIABLE, Home, Outcome
from tests.servers import create_bucket
from tests.servers.request import send

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Pool, Server

LONG, SHORT = conversation(5), conversation(2, about="tests")
KEY = "history/one/history.jsonl"
CLOSED = "history/.generations/one/history.jsonl/000000.jsonl"


@pytest.fixture
def home() -> Iterator[Home]:
    """A home whose path is short, because that of the socket below it may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="td-") as path:
        yield Home.make(Path(path, "home"))


@pytest.fixture
def local(home: Home) -> Home:
    """Two sessions in a local archive, one of which was undone."""
    fill(home)
    return home


@pytest.fixture
def server(servers: Pool) -> Server:
    return create_bucket(servers.get("ministack"))


def fill(home: Home) -> None:
    for messages, name in ((LONG, "one"), (LONG, "two"), (SHORT, "one")):
        save(home.sessions, document(messages, name))
        assert home.run("sync").status == 0


def everything(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def lines(outcome: Outcome) -> dict[str, dict[str, Any]]:
    found = map(json.loads, outcome.out.splitlines())
    return {line["session"] or line["key"]: line for line in found}


def what(line: dict[str, Any]) -> list[str]:
    return [finding["what"] for finding in line["findings"]]


def test_nothing_at_all_is_well(home: Home) -> None:
    outcome = home.run("verify")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith(f"No sessions: none in {home.archive}, ")
    assert not home.archive.exists()
    assert not home.state.exists()


@pytest.mark.parametrize("place", ["local", "s3"])
def test_what_is_well_is_told_in_one_line_and_nothing_is_written(
    home: Home, server: Server, place: str
) -> None:
    if place == "s3":
        home.use(server)
    fill(home)
    before = everything(home.path)
    assert home.run("verify").out == "2 sessions, all well: 2 current.\n"
    outcome = home.run("verify", "--deep")
    assert outcome.out == "2 sessions, all well, every byte read: 2 current.\n"
    assert (outcome.status, outcome.err) == (0, "")
    after = everything(home.path)
    assert {path for path in after if not path.endswith(("-shm", "-wal"))} == {
        path for path in before if not path.endswith(("-shm", "-wal"))
    }
    assert all(after[path] == body for path, body in before.items() if path in after)


def test_without_a_journal_and_without_sessions_the_archive_is_verified_all_the_same(
    local: Home,
) -> None:
    shutil.rmtree(local.state)
    assert local.run("verify").out == "2 sessions, all well: 2 current.\n"
    shutil.rmtree(local.sessions)
    local.environ["TRANSCRIPTD_MACHINE"] = "elsewhere"
    outcome = local.run("verify", "--json", "--deep")
    assert outcome.status == 0
    assert {line["state"] for line in lines(outcome).values()} == {"source_gone"}
    assert {line["machine"] for line in lines(outcome).values()} != {"elsewhere"}


def test_what_is_wrong_is_told_with_what_to_do_about_it(local: Home) -> None:
    (local.archive / CLOSED).unlink()
    (local.archive / "history" / ".DS_Store").write_bytes(b"x")
    outcome = local.run("verify")
    assert outcome.status == 1
    assert "one  lost: generation 0 stands nowhere, and the current one is 1\n" in outcome.out
    assert f"  {CLOSED}\n" in outcome.out
    assert "lost → bring the object back" in outcome.out
    assert "no session's  stranger: " in outcome.out
    last = outcome.out.splitlines()[-1]
    assert last == "2 sessions, 1 wrong and 1 thing wrong beside them: 1 current, 1 lost."


def test_what_only_reading_finds_is_found_with_deep(local: Home) -> None:
    path = local.archive / "history" / "two" / "history.jsonl"
    path.write_bytes(path.read_bytes().replace(b"Done", b"DONE"))
    assert local.run("verify").status == 0
    outcome = local.run("verify", "--deep", "--json")
    assert outcome.status == 1
    assert what(lines(outcome)["two"]) == ["digest", "missing"]
    assert lines(outcome)["two"]["state"] == "pending"
    assert what(lines(outcome)["one"]) == []
    (local.sessions / "two.json").unlink()
    outcome = local.run("verify", "two", "--deep", "--json")
    assert list(lines(outcome)) == ["two"]
    assert lines(outcome)["two"]["state"] == "lost"


def test_damage_on_a_server_is_found(home: Home, server: Server) -> None:
    home.use(server)
    fill(home)
    path = f"/{server.bucket}/history/two/history.jsonl"
    send(server, "PUT", path, b'{"role":"user"}\n')  # as CodeTether's own sink does
    send(server, "DELETE", f"/{server.bucket}/{CLOSED}")
    send(server, "PUT", f"/{server.bucket}/history/notes.txt", b"x")
    outcome = home.run("verify", "--json")
    assert outcome.status == 1
    found = lines(outcome)
    assert found["one"]["state"] == "lost"
    assert what(found["one"]) == ["lost"]
    assert set(what(found["two"])) == {"foreign", "missing"}
    assert what(found["history/notes.txt"]) == ["stranger"]


def test_a_session_of_which_nothing_is_known_is_exit_status_1(local: Home) -> None:
    for name in ("three", "a.b", "x/y", "history/m1/raw/claude/p/x.jsonl"):
        outcome = local.run("verify", name)
        assert outcome.status == 1
        assert f"There is no session {name}: neither in " in outcome.err


@pytest.mark.parametrize("name", ["", "history/one/session.json", "history/x/raw/y"])
def test_what_can_be_no_session_is_exit_status_2(home: Home, name: str) -> None:
    assert home.run("verify", name).status == 2


def test_a_configuration_that_cannot_be_is_exit_status_78(home: Home) -> None:
    home.environ["TRANSCRIPTD_WORKERS"] = "many"
    assert home.run("verify").status == 78


def test_a_store_that_does_not_answer_is_said_and_nothing_is_called_wrong(home: Home) -> None:
    said = {"ENDPOINT": "http://127.0.0.1:9", "BUCKET": "b", "ACCESS_KEY": "a", "SECRET_KEY": "s"}
    home.environ |= {f"{VARIABLE}{name}": value for name, value in said.items()}
    outcome = home.run("verify")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("Error: The archive could not be checked: ")
    assert "Traceback" not in outcome.err


def test_a_journal_about_another_archive_accuses_nobody(local: Home, server: Server) -> None:
    local.use(server)
    outcome = local.run("verify")
    assert outcome.status == 0, outcome.out
    assert outcome.out == "2 sessions, all well: 2 pending.\n"
    assert "The journal is about another archive" in outcome.err


@pytest.mark.parametrize("place", ["local", "s3"])
async def test_beside_a_daemon_that_writes_all_the_time_nothing_is_wrong(
    home: Home, server: Server, place: str
) -> None:
    if place == "s3":
        home.use(server)
    long = conversation(400)
    async with running(home, TRANSCRIPTD_MACHINE="m1") as daemon:
        home.environ["TRANSCRIPTD_MACHINE"] = "m1"
        for depth in ([], ["--deep"]):
            with home.start("verify", "--json", *depth) as process:
                length = 100
                while process.poll() is None:
                    length = length + 30 if length < 400 else 50  # it grows, and is undone
                    save(home.sessions, document(long[:length], "busy"))
                    await daemon.sync()
                out, err = process.communicate()
            assert (process.returncode, err) == (0, b""), out.decode()
        save(home.sessions, document(long, "busy"))
        await daemon.sync()
        assert home.run("verify", "--deep").out.endswith(": 1 current.\n")
