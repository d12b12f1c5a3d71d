"""One session that grows to 50 MB, saved once a second."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.bench import floors
from tests.bench.course import Course, run_course

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.contender import Contender
    from tests.bench.result import Figure
    from tests.servers import Server

SCENARIO = "one session that grows to 50 MB in 100 saves, one a second"
_COURSE = Course(SCENARIO, size=500_000, growth=500_000, saves=100, new=True, message=5000)
_QUICK = replace(_COURSE, saves=4, every_s=0.02, pause_s=0.5)


def run(server: Server, contenders: Sequence[type[Contender]], *, quick: bool) -> list[Figure]:
    course = _QUICK if quick else _COURSE
    whole = course.size * course.saves // 2  # on the average
    figures = floors.of_a_save(
        server, SCENARIO, whole=whole, change=course.growth, every_s=course.every_s
    )
    for kind in contenders:
        figures += run_course(server, kind, course)
    return figures
