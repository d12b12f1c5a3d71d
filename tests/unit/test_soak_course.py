"""When a soak restarts the daemon, which of its lives is judged, and how it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tests.soak.course import Outcome, Plan, restarts, trends
from tests.soak.told import document, picture, table
from tests.soak.watch import Sample

if TYPE_CHECKING:
    from collections.abc import Callable

PLAN = Plan(seconds=3600.0, seed=1)


def life(number: int, seconds: range, rss_mb: Callable[[float], float]) -> list[Sample]:
    return [
        Sample(
            at_s=at, life=number, rss_mb=rss_mb(at), descriptors=30, threads=9, journal_mb=1.0,
            wal_mb=4.0, entries=900, sessions=100, backlog=3, lag_ms=1.0, cpu_s=at / 10,
        )
        for at in seconds
    ]  # fmt: skip


def test_the_daemon_lives_for_most_of_the_time_in_one_go_and_dies_both_ways_on_either_side() -> (
    None
):
    planned = restarts(PLAN)
    assert all(when < 720 or when > 2880 for when, _ in planned)
    for side in (
        [how for when, how in planned if (when < 720) is early] for early in (True, False)
    ):
        assert {"killed", "stopped"} <= {*side}


def test_the_longest_life_is_judged_without_its_beginning() -> None:
    samples = [
        *life(1, range(700), lambda at: at),
        *life(2, range(700, 2900), lambda at: min(90, at - 700)),
        *life(3, range(2900, 3600), lambda at: at),
    ]
    found = {each.limit.what: each for each in trends(samples)}
    memory = found["resident memory"]
    assert (memory.first, memory.last, memory.creeps) == (90, 90, False)
    assert round(found["CPU"].first) == 100


def test_a_leak_of_the_longest_life_is_told_and_drawn() -> None:
    outcome = Outcome(PLAN, "none", samples=life(1, range(3600), lambda at: 60 + at / 60))
    outcome.trends = trends(outcome.samples)
    outcome.restarts = [(100.0, "killed")]
    assert "| resident memory | 69.24 MB | 112.7 MB | 60 MB | 24 MB | creeps |" in table(outcome)
    assert len(document(outcome)["samples"]) == 3600
    drawn = ET.fromstring(picture(outcome))
    lines = [each for each in drawn.iter() if each.tag.endswith("polyline")]
    assert len(lines) == 4


def test_nothing_to_judge_is_drawn_as_nothing() -> None:
    outcome = Outcome(PLAN, "none")
    assert trends([]) == []
    ET.fromstring(picture(outcome))
