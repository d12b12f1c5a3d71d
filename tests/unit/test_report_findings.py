"""What the rules found is counted wherever the daemon says how it is, and never told."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.observed import call, configuration, running, wired
from transcriptd.doctor import Level, redaction
from transcriptd.journal import Journal
from transcriptd.known import Known
from transcriptd.metrics import Metrics
from transcriptd.model import Cursor, Mask, Screening, Session, State
from transcriptd.report import Report, without_daemon

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transcriptd.app import Daemon

ALL = {"aws-access-key": 9, "jwt": 3}
MASKED = {"TRANSCRIPTD_REDACTION": "mask"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)


def session(name: str, source: str = "claude") -> Session:
    return Session(source, name, "/projects", f"p/{name}.jsonl")


async def find(
    journal: Journal,
    name: str,
    found: Mapping[str, int],
    in_document: Mapping[str, int] = {},
    *,
    source: str = "claude",
    state: State = State.CURRENT,
) -> None:
    """Let a journal know of an archived session in which the rules found something."""
    await journal.save(session(name, source), Cursor("k", 0, 9, 1000, "d", "e", "w"))
    screening = Screening(1000, found, in_document)
    await journal.note(session(name, source), None, state, screening=screening)


async def with_findings(daemon: Daemon) -> Report:
    """Tell a daemon of three sessions with findings, and of one without."""
    await find(daemon.journal, "few", {}, {"jwt": 1})
    await find(daemon.journal, "most", {"aws-access-key": 7, "jwt": 1}, {"jwt": 1})
    await find(daemon.journal, "some", {"aws-access-key": 2})
    await find(daemon.journal, "well", {})
    return Report(daemon)


def of_source(told: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in told["sources"] if each["source"] == name]
    return dict(found)


def scraped(report: Report) -> str:
    return Metrics(report, report.moment().sums()).text().decode()


def shown_line(shown: str) -> str:
    (line,) = re.findall(r"^findings +(.+)$", shown, re.MULTILINE)
    return str(line)


async def test_findings_are_counted_by_rule_for_all_by_source_and_by_session(
    tmp_path: Path,
) -> None:
    async with wired(tmp_path) as daemon:
        report = await with_findings(daemon)
        await find(daemon.journal, "else", {"jwt": 2}, source="codex")
        told = report.document()
        everything = report.document(everything=True)
    assert told["totals"]["findings"] == {"aws-access-key": 9, "jwt": 5}
    assert of_source(told, "claude")["findings"] == ALL
    assert of_source(told, "codex")["findings"] == {"jwt": 2}
    assert of_source(told, "zeroclaw")["findings"] == {}
    by_session = {
        "else": {"jwt": 2},
        "few": {"jwt": 1},
        "most": {"aws-access-key": 7, "jwt": 2},
        "some": {"aws-access-key": 2},
    }
    assert {row["id"]: row["findings"] for row in told["sessions"]} == by_session
    assert {row["id"]: row["findings"] for row in everything["sessions"]} == {
        **by_session,
        "well": {},
    }


async def test_each_source_says_what_is_done_about_secrets(tmp_path: Path) -> None:
    more = {**MASKED, "TRANSCRIPTD_SOURCES__CODEX__REDACTION": "off"}
    async with wired(tmp_path, **more) as daemon:
        await find(daemon.journal, "gone", {}, source="not-configured")
        told = Report(daemon).document()
        metrics = scraped(Report(daemon))
    for name, mode in (("claude", "mask"), ("codex", "off"), ("not-configured", "mask")):
        assert of_source(told, name)["redaction"] == mode
        assert f'transcriptd_redaction{{mode="{mode}",source="{name}"}} 1.0\n' in metrics


async def test_findings_are_measured_by_source_and_rule(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        before = scraped(Report(daemon))
        metrics = scraped(await with_findings(daemon))
    assert "transcriptd_findings{" not in before
    series = re.findall(r"^transcriptd_findings(\{.+\}) (.+)$", metrics, re.MULTILINE)
    assert series == [
        ('{rule="aws-access-key",source="claude"}', "9.0"),
        ('{rule="jwt",source="claude"}', "3.0"),
    ]


async def test_without_a_daemon_the_journal_tells_what_was_found(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        await with_findings(daemon)
    config = configuration(tmp_path, **MASKED)
    told = without_daemon(config, Journal(config.state_dir / "journal.db"), {}, everything=False)
    assert told["totals"]["findings"] == ALL
    assert of_source(told, "claude")["redaction"] == "mask"
    assert [row["id"] for row in told["sessions"]] == ["few", "most", "some"]
    line = shown_line((await call(tmp_path, "status")).out)
    assert line.startswith("12 in 3 sessions of claude (aws-access-key 9, jwt 3); ")


async def test_what_stands_instead_of_a_secret_is_not_told(tmp_path: Path) -> None:
    masks = (Mask(7, "[jwt]****"), Mask(90, "*****"))
    screening = Screening(1000, {"jwt": 2}, {}, masks, "plain-digest", "chain-digest")
    async with wired(tmp_path, **MASKED) as daemon:
        await daemon.journal.note(session("s"), None, State.CURRENT, screening=screening)
        report = Report(daemon)
        said = json.dumps(report.document(everything=True)) + scraped(report)
        said += str(list(redaction.examine(daemon.config)))
    for told in ("**", "plain-digest", "chain-digest", "masks"):
        assert told not in said


@pytest.mark.parametrize(
    ("mode", "done"),
    [
        ("report", "nothing is masked"),
        ("off", "found before `redaction` was off; nothing is looked for now"),
        ("mask", "masked, but for what was archived before `redaction` was mask"),
    ],
)
async def test_status_says_in_one_line_what_was_found_and_what_is_done_about_it(
    tmp_path: Path, mode: str, done: str
) -> None:
    async with running(tmp_path, TRANSCRIPTD_REDACTION=mode) as daemon:
        before = await call(tmp_path, "status")
        await with_findings(daemon)
        shown = await call(tmp_path, "status")
    assert "findings" not in before.out
    said = "12 in 3 sessions of claude (aws-access-key 9, jwt 3)"
    assert shown_line(shown.out) == f"{said}; {done}"
    assert ("→ revoke what is still valid" in shown.out) == (mode != "mask")
    assert ("some" in shown.out) == (mode != "mask"), "what is masked needs no attention"


async def test_sources_that_differ_in_what_is_done_have_a_line_each(tmp_path: Path) -> None:
    async with running(tmp_path, TRANSCRIPTD_SOURCES__CODEX__REDACTION="mask") as daemon:
        await with_findings(daemon)
        await find(daemon.journal, "else", {"jwt": 2}, source="codex")
        await find(daemon.journal, "other", {"jwt": 2}, source="codetether")
        shown = await call(tmp_path, "status")
    lines = re.findall(r"^findings +(\d+ in .+);", shown.out, re.MULTILINE)
    assert lines == [
        "14 in 4 sessions of codetether, claude (aws-access-key 9, jwt 5)",
        "2 in 1 session of codex (jwt 2)",
    ]


async def test_the_table_has_what_needs_attention_before_what_was_found(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        await with_findings(daemon)
        for number in range(20):
            await find(daemon.journal, f"more-{number:02}", {"jwt": 1})
        daemon.status.set(session("zz"), State.QUARANTINED, "denied")
        shown = await call(tmp_path, "status")
    table = shown.out.partition("\nsession ")[2].splitlines()[1:]
    rows = [re.split(" {2,}", line) for line in table]
    assert [row[0] for row in rows[:4]] == ["zz", "most", "some", "few"]
    assert rows[1][2] == "current: found aws-access-key 7, jwt 2"
    assert len(rows) == 12
    assert table[-1] == "… and 13 more: transcriptd status --json"


async def test_what_was_found_before_a_session_was_excluded_is_still_shown(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        await find(daemon.journal, "kept", {"jwt": 1}, state=State.EXCLUDED)
        await daemon.journal.note(session("well"), None, State.EXCLUDED)
        shown = await call(tmp_path, "status")
    assert shown_line(shown.out).startswith("1 in 1 session of claude (jwt 1); ")
    assert re.search(r"^kept +claude +excluded: found jwt 1 +9", shown.out, re.MULTILINE)
    assert "well" not in shown.out


async def test_sessions_that_are_too_many_to_list_are_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        for number in range(120):
            await find(daemon.journal, f"s{number}", {"jwt": 20 + number})
        told = Report(daemon).document()
        shown = await call(tmp_path, "status")
    assert len(told["sessions"]) == 100
    assert min(row["findings"]["jwt"] for row in told["sessions"]) == 40
    assert shown_line(shown.out).startswith("9,540 in 120 sessions of claude (jwt 9,540); ")


async def test_only_the_most_frequent_rules_are_named(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        await find(daemon.journal, "s", {f"rule-{n}": n for n in range(1, 9)})
        shown = await call(tmp_path, "status")
    assert "(rule-8 8, rule-7 7, rule-6 6, rule-5 5, rule-4 4, others 6)" in shown.out


async def test_a_source_in_which_nothing_was_found_costs_no_look_at_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wired(tmp_path) as daemon:
        await find(daemon.journal, "well", {})
        monkeypatch.delattr(Known, "everything")
        monkeypatch.delattr(Known, "record")
        told = Report(daemon).document()
    assert told["sessions"] == []
    assert told["totals"]["findings"] == {}


async def test_the_doctor_says_what_was_found_by_source_and_in_which_sessions(
    tmp_path: Path,
) -> None:
    async with wired(tmp_path, TRANSCRIPTD_SOURCES__CODEX__REDACTION="mask") as daemon:
        (nothing,) = redaction.examine(daemon.config)
        await with_findings(daemon)
        await find(daemon.journal, "else", {"jwt": 2}, source="codex")
        found = list(redaction.examine(daemon.config))
    assert (nothing.level, nothing.message) == (Level.OK, 'none; `redaction = "report"`')
    assert [(each.level, each.subject, each.message) for each in found] == [
        (Level.WARN, "claude", "12 (aws-access-key 9, jwt 3); nothing is masked"),
        (
            Level.OK,
            "codex",
            "2 (jwt 2); masked, but for what was archived before `redaction` was mask",
        ),
        (Level.WARN, "most", "aws-access-key 7, jwt 2 (claude)"),
        (Level.WARN, "some", "aws-access-key 2 (claude)"),
        (Level.WARN, "few", "jwt 1 (claude)"),
    ]
    assert found[0].hint.startswith("revoke what is still valid")


async def test_what_was_found_is_a_warning_of_the_doctor_and_no_failure(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        await with_findings(daemon)
    said = await call(tmp_path, "doctor", "--json")
    findings = json.loads(said.out)["findings"]
    assert said.status == 0
    assert {each["level"] for each in findings if each["section"] == "secrets"} == {"warn"}
