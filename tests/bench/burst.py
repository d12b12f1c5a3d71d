"""200 new sessions of 100 KB, saved at once."""

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

SCENARIO = "200 new sessions of 100 KB, saved at once"
_COURSE = Course(SCENARIO, size=100_000, saves=1, sessions=200, new=True)
_QUICK = replace(_COURSE, sessions=20, pause_s=0.5)


def run(server: Server, contenders: Sequence[type[Contender]], *, quick: bool) -> list[Figure]:
    course = _QUICK if quick else _COURSE
    figures = floors.of_a_burst(server, SCENARIO, count=course.sessions, size=course.size)
    for kind in contenders:
        figures += run_course(server, kind, course)
    return figures
