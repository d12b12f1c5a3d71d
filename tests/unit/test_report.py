"""What the daemon says about itself."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from time import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tests.documents import compact, document, message
from tests.observed import call, configuration, running, sessions, wired
from transcriptd.cli import main
from transcriptd.database import Database
from transcriptd.errors import Unreachable
from transcriptd.journal import Journal
from transcriptd.model import Cursor, Session, State
from transcriptd.report import Report, printable, without_daemon

if TYPE_CHECKING:
    from pathlib import Path

    from transcriptd.app import Daemon

WORDS = [state.value for state in State]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)


def session(name: str) -> Session:
    return Session("codetether", name, "/sessions", f"{name}.json")


def by_id(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in report["sessions"]}


async def with_one_of_each(daemon: Daemon) -> Report:
    """Tell a daemon of four sessions that stand differently."""
    assert daemon.pool is not None
    for name in ("well", "again"):
        await daemon.journal.note(session(name), None, State.CURRENT)
    daemon.pool.touch(session("again"))
    daemon.pool.touch(session("new"))
    daemon.status.set(session("broken"), State.QUARANTINED, "invalid_json", "not JSON")
    await daemon.journal.note(session("broken"), None, State.QUARANTINED, reason="invalid_json")
    return Report(daemon)


async def test_each_session_is_counted_in_exactly_one_state(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        totals = (await with_one_of_each(daemon)).document()["totals"]
    counted = {"current": 1, "pending": 2, "quarantined": 1}
    assert totals["states"] == {**dict.fromkeys(WORDS, 0), **counted}
    assert totals["sessions"] == 4
    assert totals["backlog"] == 2


async def test_only_sessions_that_are_not_current_are_listed_unless_all_are_asked_for(
    tmp_path: Path,
) -> None:
    async with wired(tmp_path) as daemon:
        report = await with_one_of_each(daemon)
        assert list(by_id(report.document())) == ["again", "broken", "new"]
        everything = by_id(report.document(everything=True))
    assert {name: row["state"] for name, row in everything.items()} == {
        "again": "pending", "broken": "quarantined", "new": "pending", "well": "current",
    }  # fmt: skip


async def test_many_sessions_are_counted_as_few_are(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        assert daemon.pool is not None
        for number in range(300):
            daemon.pool.touch(session(f"new-{number}"))
        totals = (await with_one_of_each(daemon)).totals()
    assert (totals["states"]["current"], totals["states"]["pending"]) == (1, 302)


async def test_what_is_not_archived_has_an_age_and_what_is_archived_has_none(
    tmp_path: Path,
) -> None:
    async with wired(tmp_path) as daemon:
        report = await with_one_of_each(daemon)
        daemon.status.set(session("gone"), State.SOURCE_GONE)
        rows = by_id(report.document(everything=True))
        ages = {name: row["oldest_unarchived_s"] for name, row in rows.items()}
        oldest = report.totals()["oldest_unarchived_s"]
    assert ages["well"] is ages["gone"] is None
    assert min(ages["again"], ages["new"], ages["broken"]) >= 0
    assert oldest is not None
    assert oldest >= max(ages["again"], ages["new"], ages["broken"])


async def test_a_restart_does_not_make_an_unreadable_session_young_again(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        await with_one_of_each(daemon)
    stopped = time()
    async with wired(tmp_path) as daemon:
        daemon.status.set(session("broken"), State.QUARANTINED, "invalid_json", "not JSON")
        assert by_id(Report(daemon).document())["broken"]["since"] <= stopped


async def test_an_archived_session_is_reported_with_what_is_archived_of_it(tmp_path: Path) -> None:
    said = compact(document([message("user", "one"), message("user", "two")], "s"))
    (sessions(tmp_path) / "s.json").write_bytes(said)
    async with wired(tmp_path) as daemon:
        await daemon.sync_once(30)
        report = Report(daemon).document(everything=True)
    (row,) = report["sessions"]
    assert (row["state"], row["records"], row["generation"]) == ("current", 2, 0)
    assert row["key"] == "history/s/history.jsonl"
    assert report["totals"]["bytes"] == row["bytes"] > 0
    assert report["totals"]["archived"] >= 1
    assert report["watch"][0]["files"] == 1
    assert {"path": str(tmp_path / "data" / "sessions"), "present": True} in report["watch"][0][
        "roots"
    ]


async def with_tails(journal: Journal, **since: float) -> None:
    """Let a journal know of sessions whose bases are 100 of 1,000 bytes behind, since when."""
    known = Cursor("k", 0, 9, 1000, "d", "e", "w", tail_length=100, segments=1, sent=1100)
    for name, behind_since in since.items():
        await journal.save(session(name), replace(known, behind_since=behind_since))
        await journal.note(session(name), None, State.CURRENT)


async def test_how_far_bases_are_behind_is_counted_and_has_an_age(tmp_path: Path) -> None:
    now = time()
    async with wired(tmp_path) as daemon:
        report = Report(daemon)
        assert report.totals()["oldest_behind_s"] is None
        await with_tails(daemon.journal, older=now - 500, newer=now - 20)
        await daemon.journal.note(session("well"), None, State.CURRENT)
        totals = report.totals()
        rows = by_id(report.document(everything=True))
    assert (totals["bases_behind"], totals["behind_bytes"]) == (2, 200)
    assert totals["oldest_behind_s"] == pytest.approx(500, abs=30)
    older, well = rows["older"], rows["well"]
    assert (older["sent_bytes"], older["behind_bytes"]) == (1100, 100)
    assert older["behind_since"] == pytest.approx(now - 500, abs=0.01)
    assert (well["behind_bytes"], well["behind_since"]) == (0, None)
    assert totals["oldest_unarchived_s"] is None, "what is behind is archived"


async def test_the_requests_of_a_session_are_counted_since_the_start(tmp_path: Path) -> None:
    (sessions(tmp_path) / "s.json").write_bytes(compact(document([message("user", "one")], "s")))
    async with wired(tmp_path) as daemon:
        await daemon.sync_once(30)
        report = Report(daemon).document(everything=True)
    asked = sum(row["count"] for row in report["store"]["requests"])
    assert 0 < by_id(report)["s"]["requests"] <= asked
    async with wired(tmp_path) as daemon:
        assert by_id(Report(daemon).document(everything=True))["s"]["requests"] == 0


async def test_the_help_of_status_names_every_field_there_is(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        await with_one_of_each(daemon)
        assert daemon.store is not None
        daemon.store.traffic.count("put", "ok")
        daemon.status.degrade("auth", "refused")
        told = Report(daemon).document()
    asked = CliRunner().invoke(main, ["status", "--help"])
    explained = set(re.findall(r"\w+", asked.output))
    fields = {*told, *(name for part in told.values() for name in _fields(part))}
    assert fields - {"schema"} <= explained


def _fields(part: object) -> set[str]:
    rows = part if isinstance(part, list) else [part]
    return {name for row in rows if isinstance(row, dict) for name in row}


async def test_message_text_is_never_reported(tmp_path: Path) -> None:
    canary = "canary-4711"
    directory = sessions(tmp_path)
    (directory / "s.json").write_bytes(
        compact(document([message("user", canary)], "s", title=canary))
    )
    (directory / "broken.json").write_bytes(
        compact(document([message("user", canary)], "broken"))[:-20]
    )
    async with wired(tmp_path) as daemon:
        await daemon.sync_once(30)
        assert canary not in json.dumps(Report(daemon).document(everything=True))


async def test_half_of_the_sinks_variables_make_everything_disabled(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        await daemon.journal.note(session("s"), None, State.CURRENT)
    async with wired(tmp_path, CODETETHER_HISTORY_S3_BUCKET="b") as daemon:
        report = Report(daemon).document()
    assert report["state"] == "disabled"
    assert report["archive"]["kind"] == report["store"]["state"] == "disabled"
    assert report["totals"]["states"]["disabled"] == report["totals"]["sessions"] == 1
    assert [row["state"] for row in report["sessions"]] == ["disabled"]
    assert [trouble["reason"] for trouble in report["degraded"]] == ["disabled"]


async def test_a_store_that_fails_is_named_with_its_error_and_the_next_attempt(
    tmp_path: Path,
) -> None:
    async with wired(tmp_path) as daemon:
        with pytest.raises(Unreachable):
            async with daemon.gate.turn():
                raise Unreachable("refused", hint="start it", retry_after=60)
        report = Report(daemon).document()
    assert (report["store"]["state"], report["store"]["error"]) == ("failing", "refused")
    assert 0 < report["store"]["next_attempt_in_s"] <= 60
    (trouble,) = report["degraded"]
    assert trouble["reason"] == "store_unreachable"
    assert trouble["hint"] == "start it"
    assert trouble["since"] <= time()


async def test_the_daemons_state_goes_from_starting_over_ready_to_stopping(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        report = Report(daemon)
        states = [report.state]
        await daemon.start()
        states.append(report.state)
        daemon.status.stopping = True
        states.append(report.state)
    assert states == ["starting", "ready", "stopping"]


async def test_without_a_daemon_the_journal_tells_what_it_knows(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        await with_one_of_each(daemon)
    config = configuration(tmp_path)
    told = without_daemon(config, Journal(config.state_dir / "journal.db"), everything=False)
    assert told["state"] == "stopped"
    assert told["totals"]["states"]["current"] == 2
    assert list(by_id(told)) == ["broken"]


async def test_status_says_in_one_line_what_was_sent_and_how_far_bases_are_behind(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as daemon:
        assert daemon.store is not None
        assert "behind" not in (await call(tmp_path, "status")).out
        daemon.store.traffic.count("put", "ok")
        daemon.store.traffic.sent_bytes = 2048
        requests = sum(daemon.store.traffic.requests.values())
        await with_tails(daemon.journal, older=time() - 4000, newer=time() - 20)
        shown = await call(tmp_path, "status")
    many = f"{requests} request{'' if requests == 1 else 's'}"
    behind = "2 bases behind by 200 B, for up to 1 h 6 min"
    assert f"store        {many}, 2.0 KiB sent; {behind}" in shown.out
    stopped = await call(tmp_path, "status")
    assert f"store        {behind}" in stopped.out


async def test_a_few_sessions_that_stand_out_do_not_cost_a_look_at_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wired(tmp_path) as daemon:
        for number in range(300):
            daemon.status.set(session(f"gone-{number}"), State.SOURCE_GONE)
        monkeypatch.delattr(Journal, "everything")
        assert Report(daemon).totals()["states"]["source_gone"] == 300


async def test_the_sums_over_all_sessions_are_read_from_indexes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    read = Database.read

    def noting(database: Database, query: str, values: tuple[object, ...] = ()) -> list[Any]:
        asked.append(query)
        return read(database, query, values)

    monkeypatch.setattr(Database, "read", noting)
    async with wired(tmp_path) as daemon:
        Report(daemon).totals()
        with closing(sqlite3.connect(daemon.config.state_dir / "journal.db")) as connection:
            plans = [
                [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
                for query in asked
            ]
    assert plans
    for query, steps in zip(asked, plans, strict=True):
        assert all("USING COVERING INDEX" in step for step in steps), query


def test_without_a_journal_nothing_is_known(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    told = without_daemon(config, Journal(config.state_dir / "journal.db"), everything=True)
    assert (told["totals"]["sessions"], told["sessions"]) == (0, [])


def test_a_path_with_any_bytes_can_be_printed() -> None:
    assert printable(b"/a/\xff\xfe".decode("utf-8", "surrogateescape")).encode() != b""
    assert printable("/a/ü") == "/a/ü"
