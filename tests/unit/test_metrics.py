"""The metrics: their names are a contract with dashboards and rules."""

from __future__ import annotations

import re
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import transcriptd
from tests.observed import wired
from transcriptd import errors
from transcriptd.errors import Retry, StoreError
from transcriptd.metrics import REASONS, Metrics
from transcriptd.model import Cursor, Guard, Screening, Session, Stat, State
from transcriptd.report import Report

if TYPE_CHECKING:
    from transcriptd.app import Daemon

RULES = Path(__file__).parents[2] / "config" / "prometheus-rules.yaml"
README = RULES.parents[1] / "README.md"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)


def scraped(daemon: Daemon) -> Samples:
    report = Report(daemon)
    text = Metrics(report, report.moment().sums()).text().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def session(number: int) -> Session:
    return Session("codetether", f"s{number}", "/sessions", f"s{number}.json")


async def find_something(daemon: Daemon) -> None:
    screening = Screening(9, {"jwt": 1}, {})
    await daemon.journal.note(session(1), None, State.CURRENT, screening=screening)


async def test_the_number_of_series_does_not_grow_with_sessions(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        assert daemon.pool is not None
        before = set(scraped(daemon))
        for number in range(50):
            daemon.pool.touch(session(number))
            daemon.status.set(session(number), State.QUARANTINED, f"reason-{number}")
            daemon.status.archived(session(number), 0.1, 10, 0)
        after = scraped(daemon)
    assert set(after) == before
    assert after["transcriptd_sessions", (("state", "quarantined"),)] == 50
    assert after["transcriptd_backlog", ()] == 50
    assert after["transcriptd_archived_total", ()] == 50
    assert after["transcriptd_archive_seconds_count", ()] == 50


async def test_a_degraded_reason_is_one_while_it_holds_and_zero_else(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        series = "transcriptd_degraded", (("reason", "journal"),)
        assert scraped(daemon)[series] == 0
        daemon.status.degrade("journal", "full")
        assert scraped(daemon)[series] == 1
        daemon.status.recover("journal")
        assert scraped(daemon)[series] == 0


def test_every_reason_that_can_be_degraded_is_exported() -> None:
    said = set()
    for module in Path(transcriptd.__file__).parent.rglob("*.py"):
        said |= set(re.findall(r"\.degrade\(\s*\"(\w+)\"", module.read_text("utf-8")))
    said |= {
        error.degraded
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, StoreError) and error.retry is Retry.STORE
    }
    assert said <= set(REASONS)


async def test_requests_to_the_store_are_counted_by_operation_and_outcome(tmp_path: Path) -> None:
    async with wired(tmp_path) as daemon:
        assert daemon.store is not None
        daemon.store.traffic.count("put", "ok")
        daemon.store.traffic.count("put", "slow_down")
        daemon.store.traffic.sent_bytes += 7
        found = scraped(daemon)
    name = "transcriptd_store_requests_total"
    assert found[name, (("op", "put"), ("outcome", "ok"))] == 1
    assert found[name, (("op", "put"), ("outcome", "slow_down"))] == 1
    assert found["transcriptd_sent_bytes_total", ()] == 7


async def test_how_far_bases_are_behind_is_measured_and_zero_where_none_is(tmp_path: Path) -> None:
    names = ("bases_behind", "behind_bytes", "oldest_behind_seconds")
    async with wired(tmp_path) as daemon:
        before = scraped(daemon)
        known = Cursor("k", 0, 9, 1000, "d", "e", "w", tail_length=100, behind_since=time() - 60)
        await daemon.journal.save(session(1), known)
        after = scraped(daemon)
    assert [before[f"transcriptd_{name}", ()] for name in names] == [0, 0, 0]
    assert [after[f"transcriptd_{name}", ()] for name in names[:2]] == [1, 100]
    assert after["transcriptd_oldest_behind_seconds", ()] == pytest.approx(60, abs=30)


async def test_sessions_are_counted_by_source_also_where_there_are_none(tmp_path: Path) -> None:
    mirrored = Session("claude", "c", "/projects", "p/c.jsonl")
    async with wired(tmp_path) as daemon:
        await daemon.journal.note(mirrored, None, State.CURRENT)
        daemon.status.set(session(1), State.QUARANTINED, "invalid_json")
        found = scraped(daemon)
    series = {
        labels: value
        for (name, labels), value in found.items()
        if name == "transcriptd_source_sessions"
    }
    assert series.pop((("source", "claude"), ("state", "current"))) == 1
    assert series.pop((("source", "codetether"), ("state", "quarantined"))) == 1
    assert set(series.values()) == {0}
    assert {dict(labels)["source"] for labels in series} == set(daemon.sources)


async def test_what_is_damaged_or_soon_deleted_and_what_the_scrub_does_is_measured(
    tmp_path: Path,
) -> None:
    mirrored = Session("claude", "c", "/projects", "p/c.jsonl")
    known = Cursor("k", 0, 9, 1000, "d", "e", "w")
    guard = Guard(length=9, chain="", head="", feeds=3, damaged=2, inode=1, ctime_ns=1)
    long_ago = Stat(size=9, mtime_ns=1, ctime_ns=1, inode=1, device=1)
    async with wired(tmp_path) as daemon:
        await daemon.journal.save(mirrored, known)
        before = scraped(daemon)
        await daemon.journal.note(
            mirrored, long_ago, State.QUARANTINED, guard=guard, is_verified=False
        )
        daemon.scrub.read_bytes, daemon.scrub.found = 5, 1
        after = scraped(daemon)
    expected = {
        ("transcriptd_damaged_lines", (("source", "claude"),)): 2,
        ("transcriptd_expiring_unarchived", ()): 1,
        ("transcriptd_scrub_waiting", ()): 1,
        ("transcriptd_scrub_bytes_total", ()): 5,
        ("transcriptd_rewrites_found_total", ()): 1,
    }
    assert {name: before[name] for name in expected} == dict.fromkeys(expected, 0)
    assert {name: after[name] for name in expected} == expected


async def test_metrics_are_there_while_nothing_is_archived(tmp_path: Path) -> None:
    async with wired(tmp_path, CODETETHER_HISTORY_S3_BUCKET="b") as daemon:
        assert scraped(daemon)["transcriptd_degraded", (("reason", "disabled"),)] == 1


async def test_every_metric_that_the_alert_rules_name_exists(tmp_path: Path) -> None:
    rules = yaml.safe_load(RULES.read_text("utf-8"))
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    named = set(re.findall(r"transcriptd_\w+", " ".join(expressions)))
    async with wired(tmp_path) as daemon:
        assert daemon.store is not None
        daemon.store.traffic.count("put", "ok")
        await find_something(daemon)
        there = {name for name, _ in scraped(daemon)}
    assert named
    assert named <= there


async def test_the_readme_explains_every_metric_with_its_labels(tmp_path: Path) -> None:
    readme = README.read_text("utf-8")
    async with wired(tmp_path) as daemon:
        assert daemon.store is not None
        daemon.store.traffic.count("put", "ok")
        await find_something(daemon)
        series = {(name, tuple(key for key, _ in labels)) for name, labels in scraped(daemon)}
    for name, labels in series:
        shown = name
        for suffix in ("_bucket", "_count", "_sum"):
            shown = shown.removesuffix(suffix)
        told = "{" + ",".join(sorted(labels)) + "}" if labels and shown == name else ""
        assert f"`{shown}{told}`" in readme, name
