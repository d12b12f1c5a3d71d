"""The verbs, as a person or a script calls them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from io import StringIO
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from click.testing import CliRunner
from rich.console import Console

from tests.documents import compact, document, message
from tests.observed import call, configuration, environment, running, sessions, wired
from transcriptd.cli import main
from transcriptd.cli.status import duration, overview, size
from transcriptd.journal import Journal, entries
from transcriptd.lock import Lock
from transcriptd.report import without_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOURNAL = (sys.executable, "-m", "transcriptd", "journal")
VERBS = ("run", "sync", "status", "sources", "health", "journal", "demo")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[None]:
    with Lock(configuration(tmp_path).state_dir / "lock"):
        yield


def save(home: Path, name: str, *texts: str) -> None:
    data = compact(document([message("user", text) for text in texts], name))
    (sessions(home) / f"{name}.json").write_bytes(data)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples_and_takes_a_configuration_file(verb: str) -> None:
    result = CliRunner().invoke(main, [verb, "--help"])
    assert result.exit_code == 0
    assert "--config" in result.output
    assert re.search(rf"Examples:\n +transcriptd {verb}", result.output)


def test_an_unknown_verb_is_exit_status_2() -> None:
    assert CliRunner().invoke(main, ["archive"]).exit_code == 2


async def test_no_verb_pays_for_what_another_needs(tmp_path: Path) -> None:
    script = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
        "from transcriptd.cli import main; main(['journal'])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, env=environment(tmp_path), stderr=PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 0
    loaded = set(err.decode().split())
    assert "transcriptd.cli.journal" in loaded
    assert loaded & {"aiobotocore", "aiohttp", "prometheus_client", "rich", "watchfiles"} == set()


@pytest.mark.usefixtures("locked")
async def test_a_second_daemon_names_the_first_and_exits_with_75(tmp_path: Path) -> None:
    said = await call(tmp_path, "run")
    assert said.status == 75
    assert f"process {os.getpid()} holds" in said.err
    assert "Traceback" not in said.err


async def test_a_configuration_that_cannot_be_exits_with_78(tmp_path: Path) -> None:
    said = await call(tmp_path, "run", "--set", "workers=0", "--set", "nope=1")
    assert said.status == 78
    assert len(said.err.splitlines()) == 2


async def test_a_state_directory_that_is_none_exits_with_78(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = await call(tmp_path, "run", "--set", f"state_dir={tmp_path / 'file'}")
    assert said.status == 78
    assert "configuration: state_dir" in said.err
    assert "Traceback" not in said.err


async def test_a_sync_without_a_daemon_archives_by_itself(tmp_path: Path) -> None:
    save(tmp_path, "s", "one", "two")
    said = await call(tmp_path, "sync", "--json")
    assert (said.status, said.err) == (0, "")
    assert json.loads(said.out) == {"archived": 1, "left": []}
    archive = configuration(tmp_path).local.path
    assert (archive / "history" / "s" / "history.jsonl").read_bytes().count(b"\n") == 2


async def test_a_sync_without_a_daemon_names_the_archive_and_logs_no_more_than_warnings(
    tmp_path: Path,
) -> None:
    save(tmp_path, "s", "one")
    said = await call(tmp_path, "sync", "--set", "log.level=debug")
    archive = configuration(tmp_path).local.path
    assert (said.status, said.err) == (0, "")
    assert said.out == f"Everything is archived (1 now) in {archive}.\n"


async def test_a_sync_that_finds_no_session_says_where_it_looked(tmp_path: Path) -> None:
    alone = await call(tmp_path, "sync")
    async with running(tmp_path):
        through = await call(tmp_path, "sync")
    assert (alone.status, through.status) == (0, 0)
    assert alone.out == through.out
    assert alone.out.startswith("No sessions found; looked in: ")
    assert str(tmp_path / "data" / "sessions") in alone.out


async def test_a_sync_goes_through_the_daemon_that_runs(tmp_path: Path) -> None:
    never = {"TRANSCRIPTD_DEBOUNCE__QUIET": "3600", "TRANSCRIPTD_DEBOUNCE__MAX_WAIT": "3600"}
    async with running(tmp_path, **never) as daemon:
        save(tmp_path, "s", "one")
        said = await call(tmp_path, "sync")
        assert (said.status, said.out) == (0, "Everything is archived (1 now).\n")
        assert daemon.status.events["archived"] == 1


async def test_a_sync_names_what_it_could_not_archive_and_exits_with_1(tmp_path: Path) -> None:
    save(tmp_path, "good", "one")
    (sessions(tmp_path) / "bad.json").write_text("{")
    alone = await call(tmp_path, "sync")
    async with running(tmp_path):
        through = await call(tmp_path, "sync", "--json")
    assert (alone.status, through.status) == (1, 1)
    assert re.search(r"^ +bad  quarantined  invalid_json: ", alone.out, re.MULTILINE)
    (left,) = json.loads(through.out)["left"]
    assert (left["session"], left["state"]) == ("bad", "quarantined")


@pytest.mark.usefixtures("locked")
async def test_a_sync_beside_a_daemon_that_does_not_answer_exits_with_75(tmp_path: Path) -> None:
    said = await call(tmp_path, "sync")
    assert said.status == 75
    assert f"process {os.getpid()} holds" in said.err


async def test_status_without_a_daemon_tells_what_the_journal_knows(tmp_path: Path) -> None:
    save(tmp_path, "s", "one", "two", "three")
    await call(tmp_path, "sync")
    shown = await call(tmp_path, "status")
    said = await call(tmp_path, "status", "--json")
    assert (shown.status, said.status) == (1, 1)
    assert "not running" in shown.out
    assert "as of the last stop" in shown.out
    assert "current content: 3 records" in shown.out
    document = json.loads(said.out)
    assert document["stale"] is True
    assert (document["state"], document["totals"]["records"]) == ("stopped", 3)


async def test_status_shows_what_is_wrong_with_its_hint_and_what_is_not_current(
    tmp_path: Path,
) -> None:
    save(tmp_path, "good", "one")
    (sessions(tmp_path) / "bad.json").write_text("{")
    async with running(tmp_path) as daemon:
        await daemon.sync(30)
        daemon.status.degrade("auth", "the keys were refused", "look at s3.access_key")
        shown = await call(tmp_path, "status")
        said = await call(tmp_path, "status", "--json")
    assert (shown.status, said.status) == (0, 0)
    for words in ("ready for", "1 current, 1 quarantined", "auth", "look at s3.access_key"):
        assert words in shown.out
    assert re.search(r"^bad +codetether +quarantined: invalid_json: ", shown.out, re.MULTILINE)
    assert re.search(rf"^watching +codetether: {sessions(tmp_path)}$", shown.out, re.MULTILINE)
    assert json.loads(said.out)["stale"] is False
    assert "good" not in shown.out
    rows = {row["id"]: row["state"] for row in json.loads(said.out)["sessions"]}
    assert rows == {"bad": "quarantined", "good": "current"}


@pytest.mark.parametrize("width", [60, 80])
def test_a_session_id_is_never_broken_in_two(tmp_path: Path, width: int) -> None:
    why = {"reason": "invalid_json", "message": "not JSON " * 9}
    name = str(UUID(int=7))
    row: dict[str, object] = {"id": name, "source": "claude", **why, "records": 1234}
    assert f"\n{name} " in drawn(tmp_path, width, {**row, "oldest_unarchived_s": 90000.0})


def drawn(tmp_path: Path, width: int, *rows: dict[str, object]) -> str:
    """Return what a terminal so wide shows of these sessions."""
    told = without_daemon(
        configuration(tmp_path), Journal(tmp_path / "journal.db"), {}, everything=True
    )
    usual = {"state": "quarantined", "reason": "denied", "message": "", "records": 1}
    told["sessions"] = [{**usual, "oldest_unarchived_s": 5.0, **row} for row in rows]
    console = Console(width=width, file=StringIO())
    console.print(overview(told))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_id_of_a_subagent_is_broken_at_its_slash_where_there_is_no_room(tmp_path: Path) -> None:
    name = f"{UUID(int=7)}/subagents/agent-a1b2c3d4e5f60718"
    row: dict[str, object] = {"id": name, "source": "claude"}
    assert f"\n{name}  claude" in drawn(tmp_path, 120, row)
    narrow = drawn(tmp_path, 80, row)
    assert re.search(rf"^{UUID(int=7)}/ +claude +quarantined", narrow, re.MULTILINE)
    assert re.search(r"^  subagents/agent-a1b2c3d4e5f60718\b", narrow, re.MULTILINE)


async def test_what_is_no_terminal_gets_a_session_a_line_without_padding(tmp_path: Path) -> None:
    long = "s" * 100
    (sessions(tmp_path) / f"{long}.json").write_text("{")
    await call(tmp_path, "sync")
    said = await call(tmp_path, "status")
    assert re.search(rf"^{long}  codetether  quarantined: invalid_json: ", said.out, re.MULTILINE)
    assert [line for line in said.out.splitlines() if line != line.rstrip()] == []


async def test_the_journal_is_printed_in_codetethers_own_lines(tmp_path: Path) -> None:
    save(tmp_path, "s", "one")
    await call(tmp_path, "sync")
    (sessions(tmp_path) / "bad.json").write_text("{")
    await call(tmp_path, "sync")
    path = configuration(tmp_path).state_dir / "journal.db"
    at = [f"{entry.at_ns % 10**9:09}Z" for entry in entries(path)]
    said = (await call(tmp_path, "journal")).out.splitlines()
    size = (configuration(tmp_path).local.path / "history/s/history.jsonl").stat().st_size
    bucket = str(configuration(tmp_path).local.path)
    op = (
        f'{{"op":"history_sink_upload","bucket":"{bucket}","key":"history/s/history.jsonl",'
        f'"bytes":{size}}}'
    )
    assert [re.sub(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.", "", line) for line in said[:2]] == [
        f'{{"phase":"staged","txn":0,"at":"{at[0]}","op":{op}}}',
        f'{{"phase":"committed","txn":0,"at":"{at[1]}"}}',
    ]
    assert said[2].endswith(',"op":{"op":"save"}}')
    assert f'"at":"{at[3]}"' not in said[2]
    assert json.loads(said[3])["reason"]["reason"] == "schema_mismatch"
    assert list(json.loads(said[3])) == ["phase", "txn", "at", "reason"]


async def test_the_journal_of_one_session_leaves_the_others_out(tmp_path: Path) -> None:
    save(tmp_path, "a", "one")
    save(tmp_path, "b", "one")
    await call(tmp_path, "sync")
    said = (await call(tmp_path, "journal", "--session", "a")).out.splitlines()
    assert len(said) == 2
    assert '"key":"history/a/history.jsonl"' in said[0]


async def test_a_journal_without_an_entry_for_the_session_says_so(tmp_path: Path) -> None:
    save(tmp_path, "a", "one")
    await call(tmp_path, "sync")
    said = await call(tmp_path, "journal", "--session", "nosuch")
    assert (said.status, said.out) == (0, "")
    assert said.err == "There is no entry for session nosuch.\n"


async def test_a_followed_journal_shows_what_comes_and_ends_well_when_interrupted(
    tmp_path: Path,
) -> None:
    save(tmp_path, "a", "one")
    await call(tmp_path, "sync")
    process = await asyncio.create_subprocess_exec(
        *JOURNAL, "--follow", env=environment(tmp_path), stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    first = [json.loads(await process.stdout.readline())["phase"] for _ in range(2)]
    save(tmp_path, "b", "one")
    await call(tmp_path, "sync")
    second = [json.loads(await process.stdout.readline())["phase"] for _ in range(2)]
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert first == second == ["staged", "committed"]
    assert (process.returncode, err.strip()) == (0, b"")


async def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        session = next(iter(daemon.sources.values())).session(sessions(tmp_path), "s.json")
        assert session is not None
        for _ in range(2000):
            await daemon.journal.refuse(session, {"op": "save"}, {"reason": "schema_mismatch"})
    process = await asyncio.create_subprocess_exec(
        *JOURNAL, env=environment(tmp_path), stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    await process.stdout.readline()
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    assert b"Traceback" not in await process.stderr.read()
    await process.wait()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90000, "1 d 1 h")],
)
def test_a_duration_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
)
def test_a_size_is_said_in_the_unit_that_fits(count: int, said: str) -> None:
    assert size(count) == said
