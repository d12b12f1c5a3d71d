"""Turns the results file into the tables of the README, and says which counts are wrong.

A cell of another contender says how many times what transcriptd takes it takes; what is counted,
and what transcriptd needs none of, is said as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.bench.counts import SUBJECT
from tests.bench.rows import (
    BUDGETS,
    GROWTHS,
    LINES,
    LOAD,
    REQUESTS,
    SAVES,
    WHOLE,
    WIRE,
    Place,
)
from tests.bench.wording import TIMES, is_base, measured, number, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.book import About, Book
    from tests.bench.rows import Budget, Line

BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->"
_COMPARED = (
    f"transcriptd as it is; the others in multiples of it ({TIMES}), counts as they are; and the"
    " floor, the least that any way of doing it takes:"
)
_JUDGED = "transcriptd beside the floors of the same run, and the budgets:"
_GREW = (
    "What a growing session costs on the wire, everything counted, seals and claims included (these"
    " budgets are tests); rewriting is CodeTether's own sink, beyond 1 GB added up:"
)
_RAN = "The runs, by scenario:"
_NO_FIGURE = "\N{EN DASH}"
_AT_MOST, _AT_LEAST = "\N{LESS-THAN OR EQUAL TO}", "\N{GREATER-THAN OR EQUAL TO}"


def tables(book: Book) -> str:
    """Return all tables, as they stand in the README between `BEGIN` and `END`."""
    drawn = {
        _COMPARED: comparison(book),
        _JUDGED: budgets(book),
        _GREW: growing(book),
        _RAN: origin(book),
    }
    return "\n".join(f"{words}\n\n{part}" for words, part in drawn.items() if part)


def into_readme(readme: str, book: Book) -> str:
    """Return a README with the tables of a book between the marks. Raises `ValueError` if none."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"no {BEGIN!r} and {END!r}")
    return f"{before}{begin}{tables(book)}{end}{after}"


def comparison(book: Book) -> str:
    """Draw transcriptd beside each contender; empty where nothing was measured."""
    peers = contenders(book)[1:]
    rows = []
    for line in LINES:
        own = line.place.value(book, SUBJECT)
        if own is not None:
            floor = _floor(book, line.floor, line.place)
            cells = [_own(book, line), *(_beside(book, line, peer) for peer in peers)]
            rows.append([line.label, *cells, ratio(floor, own) if floor and is_base(own) else ""])
    return _markdown(["", SUBJECT, *peers, "floor"], rows) if rows else ""


def budgets(book: Book) -> str:
    """Draw what was measured beside its floor and its budget; empty where nothing was."""
    rows = [cells for budget in BUDGETS if (cells := _judged(book, budget))]
    titles = ["", "measured", "floor", f"{TIMES} floor", "budget", "met", "beyond"]
    return _markdown(titles, rows) if rows else ""


def growing(book: Book) -> str:
    """Draw what growing sessions cost on the wire; empty where that was not measured."""
    rows = []
    for scenario, label in GROWTHS.items():
        found = [
            Place("wire", what, scenario).value(book, who)
            for what, who in ((SAVES, SUBJECT), (WIRE, SUBJECT), (REQUESTS, SUBJECT), (WIRE, WHOLE))
        ]
        if all(value is not None for value in found):
            saves, bodies, requests, whole = (value or 0.0 for value in found)
            rows.append([label, number(saves), f"{bodies:.1f}", f"{requests:.3g}", number(whole)])
    titles = ["a session that grows", "saves", "bodies, per new byte", "requests a save"]
    return _markdown([*titles, "rewriting it at each save"], rows) if rows else ""


def origin(book: Book) -> str:
    """Say what was measured when, how, on what and with what; a line for each run."""
    runs: dict[str, list[str]] = {}
    for name, part in book.parts.items():
        runs.setdefault(_run(part.about), []).append(name)
    return "".join(f"- {', '.join(names)}: {run}\n" for run, names in runs.items())


def _run(about: About) -> str:
    machine, versions = about.get("machine"), about.get("versions")
    said = [f"`{about.get('command')}`, {about.get('date')}"]
    if isinstance(machine, dict):
        said.append(
            f"on {machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']:.0f} GB,"
            f" {machine['kernel']}"
        )
    said.append(f"against {about.get('server')}")
    if isinstance(versions, dict):
        told = ", ".join(f"{name} {version}" for name, version in versions.items())
        said.append(f"with {told}")
    return "; ".join(said)


def contenders(book: Book) -> list[str]:
    """Name all that were measured or are missing, transcriptd first."""
    names = [SUBJECT]
    for part in book.parts.values():
        told = part.about.get("contenders")
        names += told if isinstance(told, list) else ()
    return list(dict.fromkeys(names))


def _own(book: Book, line: Line) -> str:
    entry, value = line.place.entry(book, SUBJECT), line.place.value(book, SUBJECT)
    assert entry is not None
    assert value is not None
    return measured(value, entry.unit) + _of_all(book, line.place)


def _beside(book: Book, line: Line, peer: str) -> str:
    part = book.parts[line.place.part]
    entry, value = line.place.entry(book, peer), line.place.value(book, peer)
    own = line.place.value(book, SUBJECT)
    if entry is None or value is None or own is None:
        return _absent(part.missing.get(peer))
    if line.is_count or not is_base(own):
        return measured(value, entry.unit) + _of_all(book, line.place)
    return ratio(value, own)


def _absent(why: str | None) -> str:
    if why is None:
        return _NO_FIGURE
    return "failed" if why.startswith("failed") else "missing"


def _of_all(book: Book, place: Place) -> str:
    """Say of how many something was lost."""
    total = replace(place, what=place.what.removeprefix("lost ")).value(book, LOAD)
    return f" of {number(total)}" if total is not None and place.what.startswith("lost ") else ""


def _judged(book: Book, budget: Budget) -> list[str]:
    entry, value = budget.place.entry(book, SUBJECT), budget.place.value(book, SUBJECT)
    if entry is None or value is None:
        return []
    floor = _floor(book, budget.floor, budget.at or budget.place)
    times = value / floor if floor else None
    judged = times if budget.is_ratio else value
    if judged is None:
        return []

    def limit(most: float) -> str:
        said = f"{number(most)} {TIMES}" if budget.is_ratio else measured(most, entry.unit)
        return f"{_AT_LEAST if budget.is_least else _AT_MOST} {said}"

    def holds(most: float) -> str:
        return "yes" if (judged >= most if budget.is_least else judged <= most) else "**no**"

    return [
        budget.label,
        measured(value, entry.unit),
        measured(floor, entry.unit) if floor is not None else _NO_FIGURE,
        f"{number(times)} {TIMES}" if times is not None else _NO_FIGURE,
        limit(budget.limit),
        holds(budget.limit),
        f"{limit(budget.beyond)}: {holds(budget.beyond).strip('*')}" if budget.beyond else "",
    ]


def _floor(book: Book, floor: str | float | None, place: Place) -> float | None:
    return place.value(book, floor) if isinstance(floor, str) else floor


def _markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
    return "".join(f"{line}\n" for line in [*lines, *(f"| {' | '.join(row)} |" for row in rows)])
