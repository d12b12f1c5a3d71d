"""One session, saved once a second: of 100 KB, and of 1 MB."""

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

SMALL = "one session of 100 KB, saved once a second"
LARGE = "one session of 1 MB, saved once a second"
_COURSES = (
    Course(SMALL, size=100_000, growth=500, saves=30),
    Course(LARGE, size=1_000_000, growth=500, saves=30),
)


def run(server: Server, contenders: Sequence[type[Contender]], *, quick: bool) -> list[Figure]:
    figures = []
    for usual in _COURSES:
        course = replace(usual, saves=3, every_s=0.02, pause_s=0.5) if quick else usual
        figures += floors.of_a_save(
            server,
            course.scenario,
            whole=course.size,
            change=course.growth,
            every_s=course.every_s,
        )
        for kind in contenders:
            figures += run_course(server, kind, course)
    return figures
