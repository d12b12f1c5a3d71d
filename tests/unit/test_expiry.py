"""When agents delete what does not change any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.agents import Claude
from tests.observed import configuration, environment
from transcriptd.expiry import Expiry
from transcriptd.sources import open_sources

if TYPE_CHECKING:
    from pathlib import Path

DAY_S = 86_400


def deadlines(home: Path, clock: list[float]) -> Expiry:
    sources = open_sources(configuration(home), environment(home))
    return Expiry(sources, clock=lambda: clock[0])


@pytest.mark.parametrize("source", ["codetether", "codex", "zeroclaw", "nobody"])
def test_an_agent_that_deletes_nothing_has_no_deadline(tmp_path: Path, source: str) -> None:
    expiry = deadlines(tmp_path, [0.0])
    assert (expiry.after(source), expiry.at(source, 1000.0)) == (None, None)


def test_a_session_goes_so_many_days_after_its_last_change(tmp_path: Path) -> None:
    Claude(tmp_path).keeps_for(10)
    assert deadlines(tmp_path, [0.0]).at("claude", 1000.0) == 1000.0 + 10 * DAY_S


def test_the_setting_is_read_when_it_is_asked_for_and_again_a_minute_later(tmp_path: Path) -> None:
    clock = [0.0]
    expiry = deadlines(tmp_path, clock)
    Claude(tmp_path).keeps_for(10)
    assert expiry.after("claude") == 10 * DAY_S
    Claude(tmp_path).keeps_for(20)
    clock[0] = 59.0
    assert expiry.after("claude") == 10 * DAY_S
    clock[0] = 60.0
    assert expiry.after("claude") == 20 * DAY_S


@pytest.mark.parametrize(
    ("days", "seconds"), [(0, 0.0), (-1, 0.0), (1e300, None), (99_999, None), (3650, 3650 * DAY_S)]
)
def test_any_number_of_days_is_one_that_can_be_counted_with(
    tmp_path: Path, days: float, seconds: float | None
) -> None:
    Claude(tmp_path).keeps_for(days)
    assert deadlines(tmp_path, [0.0]).after("claude") == seconds
