"""Whether something creeps, told from samples."""

from __future__ import annotations

import random

from tests.soak.trend import Limit, slope, trend

LIMIT = Limit("memory", "MB", 20.0, slack=5.0)
HOUR = 3600


def samples(
    *, per_hour: float, noise: float = 0.0, seconds: int = HOUR
) -> list[tuple[float, float]]:
    chance = random.Random(1)
    return [(at, 80 + per_hour * at / HOUR + chance.gauss(0, noise)) for at in range(seconds)]


def creeps(series: list[tuple[float, float]], limit: Limit = LIMIT) -> bool:
    found = trend(limit, series)
    assert found is not None
    return found.creeps


def test_a_leak_is_found_below_noise_of_its_size() -> None:
    assert creeps(samples(per_hour=30, noise=10))


def test_noise_alone_does_not_creep() -> None:
    assert not creeps(samples(per_hour=0, noise=30))


def test_what_comes_back_down_does_not_creep() -> None:
    saw = [(float(at), 80 + 40 * (at % 300) / 300) for at in range(HOUR)]
    assert not creeps(saw)


def test_a_few_wild_samples_neither_make_a_leak_nor_hide_one() -> None:
    for per_hour, leaks in ((0, False), (30, True)):
        series = samples(per_hour=per_hour, noise=1)
        wild = [(at, 900 if leaks and at < 200 and at % 9 == 0 else v) for at, v in series]
        wild = [(at, 900 if not leaks and at > 3400 and at % 9 == 0 else v) for at, v in wild]
        assert creeps(wild) is leaks


def test_what_creeps_less_than_the_limit_is_left_alone() -> None:
    assert not creeps(samples(per_hour=15))


def test_a_steep_slope_over_little_is_no_leak() -> None:
    assert not creeps(samples(per_hour=40, seconds=400))


def test_what_was_watched_for_too_short_a_time_is_not_judged() -> None:
    assert not creeps(samples(per_hour=4000, seconds=200))
    assert creeps(samples(per_hour=4000, seconds=400))


def test_what_has_no_limit_is_not_judged() -> None:
    assert not creeps(samples(per_hour=4000), Limit("journal", "MB", None))


def test_too_few_samples_say_nothing() -> None:
    assert trend(LIMIT, samples(per_hour=0, seconds=7)) is None


def test_the_slope_is_what_was_gained_per_second() -> None:
    assert slope([(0, 1.0), (10, 6.0), (20, 11.0)]) == 0.5
    assert slope([(0, 1.0)]) == 0
    assert slope([(0, 1.0), (10, 6.0), (20, 11.0), (30, 900.0), (40, 21.0), (50, 26.0)]) == 0.5


def test_what_creeps_is_told_with_its_numbers() -> None:
    said = str(trend(LIMIT, samples(per_hour=40)))
    assert said == (
        "memory grew from 84.99 to 115 MB within 60 minutes, 40 an hour: 20 is the limit"
    )
