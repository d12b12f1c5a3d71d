"""All that can be measured, by the words of the command line.

Each scenario is imported when it is run, so that one that cannot be does not hold up the others.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.bench.contender import Contender
    from tests.bench.result import Figure
    from tests.servers import Server


_QUICK_SESSIONS = 200


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for: against which server, of whom, and how long."""

    server: Server
    contenders: Sequence[type[Contender]]
    minutes: float
    quick: bool


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing to measure. `takes_s` guesses how long for so many contenders, on two cores."""

    name: str
    title: str
    run: Callable[[Order], list[Figure]]
    takes_s: Callable[[Order], float]
    in_turn: bool = False  # contenders one after another; else all at once, or not at all


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one scenario gave: figures, and who failed at it, and how."""

    figures: list[Figure]
    failed: dict[str, str]


def measured(scenario: Scenario, order: Order) -> Outcome:
    """Run a scenario; where one contender fails, run it for each by itself, if that can be."""
    try:
        return Outcome(scenario.run(order), {})
    except Exception as error:  # noqa: BLE001 - whatever it is, the others are still measured
        traceback.print_exc()
        names = [contender.name for contender in order.contenders]
        if not scenario.in_turn or len(names) < 2:
            return Outcome([], dict.fromkeys(names or [scenario.name], _said(error)))
    alone = [measured(scenario, replace(order, contenders=[each])) for each in order.contenders]
    # A floor is measured each time; the last counts.
    figures = {
        (figure.scenario, figure.contender, figure.what): figure
        for outcome in alone
        for figure in outcome.figures
    }
    failed = {who: why for outcome in alone for who, why in outcome.failed.items()}
    return Outcome(list(figures.values()), failed)


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1][:200]}" if lines else type(error).__name__


def _in_turn(module: str) -> Callable[[Order], list[Figure]]:
    def run(order: Order) -> list[Figure]:
        measure: Callable[..., list[Figure]] = import_module(f"tests.bench.{module}").run
        return measure(order.server, order.contenders, quick=order.quick)

    return run


def _unchanged(sessions: int) -> Callable[[Order], list[Figure]]:
    def run(order: Order) -> list[Figure]:
        from tests.bench import unchanged

        count = _QUICK_SESSIONS if order.quick else sessions
        return unchanged.run(order.server, order.contenders, sessions=count, quick=order.quick)

    return run


def _day(*, outage: bool = False, kills: bool = False) -> Callable[[Order], list[Figure]]:
    def run(order: Order) -> list[Figure]:
        from tests.bench import day

        return day.run(
            order.server,
            order.contenders,
            minutes=order.minutes,
            outage=outage,
            kills=kills,
            quick=order.quick,
        )

    return run


def _wire(order: Order) -> list[Figure]:
    from tests.bench import wire

    return wire.run(order.server, wire.GROWTHS[:1] if order.quick else wire.GROWTHS)


def _lines(order: Order) -> list[Figure]:
    from tests.bench import lines

    return lines.run(quick=order.quick)


def _masking(order: Order) -> list[Figure]:
    from tests.bench import masking

    return masking.run(quick=order.quick)


def _each(seconds: float, quick: float = 10) -> Callable[[Order], float]:
    """Guess the time of what takes so many seconds for each contender."""
    return lambda order: (quick if order.quick else seconds) * len(order.contenders)


def _once(seconds: float, quick: float = 10) -> Callable[[Order], float]:
    return lambda order: quick if order.quick else seconds


def _of_day(order: Order) -> float:
    return 60 if order.quick else 60 * order.minutes + 90


SCENARIOS = (
    Scenario(
        "steady",
        "one session, saved once a second: of 100 KB, and of 1 MB",
        _in_turn("steady"),
        _each(45),
        in_turn=True,
    ),
    Scenario(
        "burst", "200 sessions of 100 KB, saved at once", _in_turn("burst"), _each(30), in_turn=True
    ),
    Scenario(
        "growth", "one session that grows to 50 MB", _in_turn("growth"), _each(130), in_turn=True
    ),
    Scenario(
        "unchanged",
        "10,000 sessions that do not change",
        _unchanged(10_000),
        _each(160, 20),
        in_turn=True,
    ),
    Scenario(
        "many",
        "100,000 sessions that do not change",
        _unchanged(100_000),
        _each(520, 20),
        in_turn=True,
    ),
    Scenario("day", "a mixed day, all at once", _day(), _of_day),
    Scenario("outage", "… with the store gone for a minute", _day(outage=True), _of_day),
    Scenario("kills", "… killed every few seconds", _day(kills=True), _of_day),
    Scenario("wire", "what growing sessions cost on the wire", _wire, _once(300, 20)),
    Scenario("lines", "from a document to lines", _lines, _once(10, 2)),
    Scenario("masking", "looking for secrets", _masking, _once(30, 5)),
)
