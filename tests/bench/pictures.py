"""Which figures are drawn, and how: the results file as pictures."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING

from tests.bench.book import BEHIND
from tests.bench.plot import Axis, Bar, Curve, Panel, bars, curves
from tests.bench.report import contenders
from tests.bench.rows import CPU, MESSAGES, SESSIONS, WAIT, WIRE, Place
from tests.bench.wording import measured, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.book import Book, Entry

_WAITS = Axis(
    10,
    60_000,
    {10: "10 ms", 100: "100 ms", 1000: "1 s", 5000: "5 s", 10_000: "10 s", 60_000: "1 min"},
    "from save to archived",
    is_log=True,
)
_MEAN_S = 5  # a loop is behind and not behind within one turn; that would hide the rest
_SHARES = Axis(0, 1, {share / 4: f"{share * 25} %" for share in range(5)}, "")


def pictures(book: Book) -> dict[str, str]:
    """Return each picture that there are figures for, by its file name."""
    drawn = {
        "latency.svg": _waits(book),
        "outage.svg": _outage(book),
        "cost.svg": _costs(book),
        "lost.svg": _lost(book),
    }
    return {name: svg for name, svg in drawn.items() if svg}


def _waits(book: Book) -> str:
    found = [
        Curve(entry.contender, _shares(entry), place)
        for place, entry in _entries(book, Place("day", WAIT))
        if entry.spread
    ]
    title = "Mixed day: share of the saves that are archived within"
    return curves(title, _WAITS, _SHARES, found) if found else ""


def _shares(entry: Entry) -> list[tuple[float, float]]:
    """Return which share of the saves took at most so many ms; those that never came end it."""
    assert entry.spread is not None
    points = entry.spread.points
    factor = 1000 if entry.unit == "s" else 1
    return [
        (took * factor, rank / len(points))
        for rank, took in enumerate(points, 1)
        if math.isfinite(took)
    ]


def _outage(book: Book) -> str:
    entries = [
        (place, entry) for place, entry in _entries(book, Place("outage", BEHIND)) if entry.spread
    ]
    if not entries:
        return ""
    lines = {entry.contender: _means(entry) for _, entry in entries}
    longest = max(round(line[-1][0]) for line in lines.values())
    highest = max(count for line in lines.values() for _, count in line)
    most = max(5 * math.ceil(highest / 5), 5)
    step = max(round(longest / 6 / 60), 1) * 60 if longest > 120 else 15
    minutes = {float(at): f"{at / 60:g} min" for at in range(0, longest + 1, step)}
    across = Axis(0, longest, minutes, f"of the day; means of {_MEAN_S} s")
    counts = {float(count): f"{count}" for count in range(0, most + 1, max(most // 20, 1) * 5)}
    found = [Curve(entry.contender, lines[entry.contender], place) for place, entry in entries]
    title = "Sessions whose last save is not archived yet; the store is gone for a minute"
    return curves(title, across, Axis(0, most, counts, ""), found)


def _means(entry: Entry) -> list[tuple[float, float]]:
    """Return when and how much, for every few seconds of what is told second by second."""
    assert entry.spread is not None
    points = entry.spread.points
    spans = [points[at : at + _MEAN_S] for at in range(0, len(points), _MEAN_S)]
    return [(at * _MEAN_S + len(span) / 2, fmean(span)) for at, span in enumerate(spans)]


def _costs(book: Book) -> str:
    panels = [
        Panel(
            title,
            [
                Bar(entry.contender, entry.value, measured(entry.value, entry.unit), place)
                for place, entry in _entries(book, Place("day", what))
            ],
            is_log=True,
        )
        for title, what in (
            ("Bytes on the wire per new byte (log)", WIRE),
            ("CPU per save (log)", CPU),
        )
    ]
    panels = [panel for panel in panels if panel.bars]
    return bars("Mixed day: what it costs", panels) if panels else ""


def _lost(book: Book) -> str:
    panels = [
        Panel(
            title,
            [
                Bar(entry.contender, entry.value, number(entry.value), place)
                for place, entry in _entries(book, Place("kills", what))
            ],
        )
        for title, what in (
            ("Messages that stand nowhere in the archive", MESSAGES),
            ("Sessions not archived as they ended", SESSIONS),
        )
    ]
    panels = [panel for panel in panels if panel.bars]
    return bars("Mixed day with kill -9 every few seconds: what is lost", panels) if panels else ""


def _entries(book: Book, place: Place) -> Iterator[tuple[int, Entry]]:
    """Give a figure of each contender that has it, with the contender's place among all."""
    for number_, name in enumerate(contenders(book)):
        if entry := place.entry(book, name):
            yield number_, entry
