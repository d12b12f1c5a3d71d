"""The soak in short: what `python -m tests.soak` does for as long as one likes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.home import Home
from tests.life import bucket_on
from tests.soak.course import Course, Plan

if TYPE_CHECKING:
    from tests.servers import Pool


async def test_nothing_is_lost_in_bad_weather_and_no_life_ends_badly(servers: Pool) -> None:
    server = bucket_on("ministack", servers)
    with tempfile.TemporaryDirectory(prefix="td-") as place:
        plan = Plan(seconds=10.0, seed=7, desks=22, rate=12.0)
        outcome = await Course(plan, server, Home.make(Path(place, "home"))).run()
    assert outcome.faults == []
    totals = outcome.counts["totals"]
    assert totals["lives"] == 3
    assert totals["promises"] > 10
    assert outcome.samples
