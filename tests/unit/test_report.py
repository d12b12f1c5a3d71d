"""What the daemon says about itself."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from time import time
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tests.agents import UUID, Claude, write
from tests.documents import compact, document, message
from tests.observed import call, configuration, running, sessions, traced, wired
from transcriptd.cli import main
from transcriptd.errors import Unreachable
from transcriptd.files import stat_at
from transcriptd.journal import Journal
from transcriptd.known import Known
from transcriptd.metrics import Metrics
from transcriptd.model import Cursor, Session, State
from transcriptd.report import Report, printable, without_daemon

if TYPE_CHECKING:
    from pathlib import Path

    from transcriptd.app import Daemon
    from transcriptd.totals import Totals

WORDS = [state.value for state in State]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)


def session(name: str) -> Session:
    return Session("codetether", name, "/sessions", f"{name}.json")


def by_id(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in report["sessions"]}


def sums(report: Report) -> Totals:
    return report.totals(report.moment().sums())


def metrics(report: Report) -> str:
    return Metrics(report, report.moment().sums()).text().decode()


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
        totals = sums(await with_one_of_each(daemon))
    assert (totals["states"]["current"], totals["states"]["pending"]) == (1, 302)


async def test_what_is_not_archived_has_an_age_and_what_is_archived_has_none(
    tmp_path: Path,
) -> None:
    async with wired(tmp_path) as daemon:
        report = await with_one_of_each(daemon)
        daemon.status.set(session("gone"), State.SOURCE_GONE)
        rows = by_id(report.document(everything=True))
        ages = {name: row["oldest_unarchived_s"] for name, row in rows.items()}
        oldest = sums(report)["oldest_unarchived_s"]
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
        assert sums(report)["oldest_behind_s"] is None
        await with_tails(daemon.journal, older=now - 500, newer=now - 20)
        await daemon.journal.note(session("well"), None, State.CURRENT)
        totals = sums(report)
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


DAY_S = 86_400


def aged(path: Path, days: float) -> Path:
    """Let a file have changed last so many days ago."""
    changed_at = time() - days * DAY_S
    os.utime(path, (changed_at, changed_at))
    return path


def of_source(told: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in told["sources"] if each["source"] == name]
    return dict(found)


def expiring(told: dict[str, Any]) -> tuple[int, int]:
    claude = of_source(told, "claude")
    return claude["expiring"], claude["expiring_unarchived"]


async def test_what_an_agent_deletes_soon_is_counted_and_says_when(tmp_path: Path) -> None:
    claude = Claude(tmp_path)
    old = aged(claude.says("old", uuid="old"), 26)
    aged(claude.says("young", uuid="young"), 2)
    async with wired(tmp_path) as daemon:
        await daemon.sync_once(30)
        report = Report(daemon)
        told = report.document(everything=True)
        assert expiring(told) == (1, 0)
        assert of_source(told, "claude")["expires_after_s"] == 30 * DAY_S
        assert expiring(report.document(within_s=DAY_S)) == (0, 0)
        assert expiring(report.document(within_s=40 * DAY_S)) == (2, 0)
        assert of_source(told, "codex")["expiring"] == 0
    rows = by_id(told)
    at = old.stat().st_mtime + 30 * DAY_S
    assert rows["old"]["expires_at"] == pytest.approx(at, abs=0.01)
    assert rows["old"]["is_archived"] is rows["young"]["is_archived"] is True


@pytest.mark.parametrize("why", ["waits", "quarantined", "unknown"])
async def test_what_is_deleted_soon_and_not_archived_is_told_apart(
    tmp_path: Path, why: str
) -> None:
    path = aged(Claude(tmp_path).says("x", uuid="old"), 26)
    async with wired(tmp_path) as daemon:
        assert daemon.pool is not None
        if why != "unknown":
            await daemon.sync_once(30)
        session = daemon.sources["claude"].session(
            Claude(tmp_path).projects, f"-srv-shop/{path.name}"
        )
        assert session is not None
        if why == "quarantined":
            daemon.status.set(session, State.QUARANTINED, "denied")
            await daemon.journal.note(session, stat_at(path), State.QUARANTINED, reason="denied")
        else:
            daemon.pool.touch(session)
        told = Report(daemon).document()
    assert expiring(told) == (1, 1)
    assert by_id(told)["old"]["is_archived"] is False
    assert by_id(told)["old"]["expires_at"] < time() + 7 * DAY_S


async def test_what_changed_since_it_was_archived_lives_on_and_what_is_gone_does_not_expire(
    tmp_path: Path,
) -> None:
    claude = Claude(tmp_path)
    paths = [aged(claude.says("x", uuid=name), 26) for name in ("again", "gone")]
    async with wired(tmp_path) as daemon:
        assert daemon.pool is not None
        await daemon.sync_once(30)
        report = Report(daemon)
        assert expiring(report.document()) == (2, 0)
        again, gone = (
            daemon.sources["claude"].session(claude.projects, f"-srv-shop/{path.name}")
            for path in paths
        )
        assert again is not None
        assert gone is not None
        claude.says("more", uuid="again")
        daemon.pool.touch(again)
        daemon.status.set(gone, State.SOURCE_GONE)
        told = report.document()
    assert expiring(told) == (0, 0)
    assert by_id(told)["gone"]["expires_at"] is None


async def test_status_says_in_one_line_what_is_deleted_soon_and_names_what_is_not_archived(
    tmp_path: Path,
) -> None:
    claude = Claude(tmp_path)
    for name in ("one", "two"):
        aged(claude.says("x", uuid=name), 26)
    async with running(tmp_path) as daemon:
        await daemon.sync(30)
        shown = await call(tmp_path, "status")
        later = await call(tmp_path, "status", "--expiring", "0.5")
        assert daemon.pool is not None
        one, two = (
            daemon.sources["claude"].session(claude.projects, f"-srv-shop/{name}.jsonl")
            for name in ("one", "two")
        )
        assert one is not None
        assert two is not None
        daemon.status.set(one, State.CONFLICT, "another_writer", "archived beside it")
        daemon.status.set(two, State.QUARANTINED, "denied", "no permission to read it")
        alarming = await call(tmp_path, "status")
    line = "2 sessions will be deleted by claude within 7 days; "
    assert f"expiring     {line}all archived\n" in shown.out
    assert "expiring" not in later.out
    assert f"{line}1 not archived: two\n" in alarming.out
    assert "transcriptd sync" in alarming.out
    stopped = await call(tmp_path, "status")
    assert f"{line}all archived\n" in stopped.out, "as of the last stop"


async def test_without_a_deadline_nothing_expires(tmp_path: Path) -> None:
    claude = Claude(tmp_path)
    claude.keeps_for(99_999)
    aged(claude.says("x", uuid="old"), 900)
    async with wired(tmp_path) as daemon:
        await daemon.sync_once(30)
        assert expiring(Report(daemon).document()) == (0, 0)


async def test_damaged_lines_are_counted_by_source_and_shown_by_session(tmp_path: Path) -> None:
    claude = Claude(tmp_path)
    torn = claude.says("x", uuid="torn")
    write(torn, b'{"type":"us\n', b"\0\0\0\n")
    claude.says("x", uuid="well")
    claude.delegates("a1")
    for path in claude.projects.rglob("*.*"):
        aged(path, 1)
    async with wired(tmp_path) as daemon:
        await daemon.sync_once(30)
        told = Report(daemon).document()
    shown = await call(tmp_path, "status")
    assert of_source(told, "claude")["damaged_lines"] == 2
    assert of_source(told, "codex")["damaged_lines"] == 0
    assert [(row["id"], row["damaged_lines"]) for row in told["sessions"]] == [("torn", 2)]
    assert "archived as they are: 2 of claude" in shown.out
    assert re.search(r"^torn +claude +current: 2 damaged lines +3", shown.out, re.MULTILINE)
    assert "well" not in shown.out


async def test_the_scrub_is_shown_while_something_waits_for_it(tmp_path: Path) -> None:
    known = Cursor("k", 0, 9, 2048, "d", "e", "w")
    async with running(tmp_path) as daemon:
        assert "read again" not in (await call(tmp_path, "status")).out
        await daemon.journal.save(session("s"), known)
        await daemon.journal.note(session("s"), None, State.CURRENT, is_verified=False)
        daemon.scrub.found, daemon.scrub.read_bytes = 1, 7
        told = Report(daemon).document()
        shown = await call(tmp_path, "status")
    waits = {"waiting": 1, "waiting_bytes": 2048}
    assert told["scrub"] == {"rate": 4 << 20, **waits, "read_bytes": 7, "found": 1}
    line = "1 session (2.0 KiB) to be read again, at 4.0 MiB a second; 1 rewrite found"
    assert f"scrub        {line}\n" in shown.out


async def test_the_sums_of_the_sources_are_those_of_everything(tmp_path: Path) -> None:
    claude = Claude(tmp_path)
    claude.says("x")
    claude.delegates("a1")
    async with wired(tmp_path) as daemon:
        await with_one_of_each(daemon)
        await daemon.sync_once(30)
        told = Report(daemon).document()
    assert {each["source"] for each in told["sources"]} >= {"codetether", "claude", "codex"}
    for name in ("sessions", "records", "bytes"):
        assert sum(each[name] for each in told["sources"]) == told["totals"][name]
    assert of_source(told, "claude")["sessions"] == 3
    for state in WORDS:
        counted = sum(each["states"][state] for each in told["sources"])
        assert counted == told["totals"]["states"][state]


async def test_of_a_mirror_that_stands_out_status_says_id_source_and_path(tmp_path: Path) -> None:
    claude = Claude(tmp_path)
    path = claude.delegates("a1")
    async with wired(tmp_path) as daemon:
        session = daemon.sources["claude"].session(
            claude.projects, str(path.relative_to(claude.projects))
        )
        assert session is not None
        daemon.status.set(session, State.QUARANTINED, "denied", "no permission to read it")
        told = Report(daemon).document()
    (row,) = told["sessions"]
    assert (row["id"], row["source"]) == (f"{UUID}/subagents/agent-a1", "claude")
    assert row["path"] == str(path)


async def test_message_text_is_never_reported(tmp_path: Path) -> None:
    canary = "canary-4711"
    directory = sessions(tmp_path)
    (directory / "s.json").write_bytes(
        compact(document([message("user", canary)], "s", title=canary))
    )
    (directory / "broken.json").write_bytes(
        compact(document([message("user", canary)], "broken"))[:-20]
    )
    write(Claude(tmp_path).says(canary), canary.encode(), b"\n")
    async with wired(tmp_path) as daemon:
        await daemon.sync_once(30)
        told = Report(daemon).document(everything=True)
        assert len(told["sessions"]) == 3
        assert canary not in json.dumps(told)
        assert canary not in metrics(Report(daemon))


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
    told = without_daemon(config, Journal(config.state_dir / "journal.db"), {}, everything=False)
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
        monkeypatch.delattr(Known, "by_id")
        monkeypatch.delattr(Known, "everything")
        assert sums(Report(daemon))["states"]["source_gone"] == 300


async def test_the_sums_over_all_sessions_are_read_from_indexes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = traced(monkeypatch)
    async with wired(tmp_path) as daemon:
        sums(Report(daemon))
        asked.remove("BEGIN")
        with closing(sqlite3.connect(daemon.config.state_dir / "journal.db")) as connection:
            plans = [
                [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
                for query in asked
            ]
    assert plans
    for query, steps in zip(asked, plans, strict=True):
        # What was found stands in rows: those are looked at in which something was, no other.
        good = "USING (COVERING INDEX|INDEX sessions_found)"
        looks = [re.search(good, step) for step in steps if "sessions" in step]
        assert looks, query
        assert all(looks), query


def test_without_a_journal_nothing_is_known(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    told = without_daemon(config, Journal(config.state_dir / "journal.db"), {}, everything=True)
    assert (told["totals"]["sessions"], told["sessions"]) == (0, [])


def test_a_path_with_any_bytes_can_be_printed() -> None:
    assert printable(b"/a/\xff\xfe".decode("utf-8", "surrogateescape")).encode() != b""
    assert printable("/a/ü") == "/a/ü"
