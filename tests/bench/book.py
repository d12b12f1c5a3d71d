"""The results file, `figures.json`: what was measured last of each part, and on what.

    {"format": 1,
     "parts": {PART: {
        "about": {"date", "command", "took_s", "server", "machine", "versions", ...},
        "missing": {CONTENDER: why it could not run},
        "figures": [{"scenario", "contender", "what", "unit", "value",
                     "n", "min", "p50", "p99", "max", "points"}, ...]}}}

PART is a word of the command line, such as `steady`. `unit` is "" for counts and ratios, else ms,
s, MB, MB/s or ms/s. The last six stand where a figure is the median of single values: how many, and
which of them are the least, the middle, the 99th of a hundred by nearest rank, and the greatest;
`points` are all of them, ascending, or so many of their ranks; what is told second by second stands
in its order. `null` is without end: it never came.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from tests.bench.result import sample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.bench.result import Figure

BEHIND = "sessions behind, each second"
_FORMAT = 1
_POINTS = 400
_DIGITS = 4  # of each single value: more would be noise
About: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Spread:
    """The single values behind a figure."""

    n: int
    min: float
    p50: float
    p99: float
    max: float
    points: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A figure as it is kept: of one contender, or of a floor, in one scenario."""

    scenario: str
    contender: str
    what: str
    unit: str
    value: float
    spread: Spread | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What one part has measured in one run, and on what."""

    about: About
    entries: tuple[Entry, ...]
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Book:
    """The last run of each part."""

    parts: dict[str, Part]

    def with_part(self, name: str, part: Part) -> Book:
        """Return the book with this part measured anew, and the others as they were."""
        return Book({**self.parts, name: part})

    def entries(self, part: str) -> tuple[Entry, ...]:
        return self.parts[part].entries if part in self.parts else ()


def entry_of(figure: Figure) -> Entry:
    spread = None
    if figure.spread:
        told = sample(figure.spread)
        points = figure.spread if figure.what == BEHIND else _thinned(sorted(figure.spread))
        spread = Spread(**told, points=tuple(_rounded(point) for point in points))
    return Entry(figure.scenario, figure.contender, figure.what, figure.unit, figure.value, spread)


def read(path: Path) -> Book:
    """Read a results file; one that is not there, or of another format, is an empty book."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Book({})
    if document.get("format") != _FORMAT:
        return Book({})
    return Book({name: _part(part) for name, part in document["parts"].items()})


def write(path: Path, book: Book) -> None:
    """Write a results file, whole or not at all: a line for each figure, for who compares runs."""
    parts = []
    for name, part in book.parts.items():
        rows = ",\n".join(f"    {_json(_row(entry))}" for entry in part.entries)
        parts.append(
            f'  {_json(name)}: {{\n   "about": {_json(part.about)},\n'
            f'   "missing": {_json(part.missing)},\n   "figures": [\n{rows}\n   ]\n  }}'
        )
    text = f'{{\n "format": {_FORMAT},\n "parts": {{\n' + ",\n".join(parts) + "\n }\n}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".json.new")
    written.write_text(text, "utf-8")
    written.replace(path)


def _thinned(ordered: Sequence[float]) -> Sequence[float]:
    if len(ordered) <= _POINTS:
        return ordered
    last = len(ordered) - 1
    return [ordered[round(step * last / (_POINTS - 1))] for step in range(_POINTS)]


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _row(entry: Entry) -> dict[str, object]:
    row: dict[str, object] = {
        "scenario": entry.scenario,
        "contender": entry.contender,
        "what": entry.what,
        "unit": entry.unit,
        "value": _finite(entry.value),
    }
    if spread := entry.spread:
        row |= {"n": spread.n, "min": _finite(spread.min), "p50": _finite(spread.p50)}
        row |= {"p99": _finite(spread.p99), "max": _finite(spread.max)}
        row["points"] = [_finite(point) for point in spread.points]
    return row


def _finite(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.6g}")


def _part(part: Mapping[str, object]) -> Part:
    about, missing, rows = part["about"], part["missing"], part["figures"]
    assert isinstance(about, dict)
    assert isinstance(missing, dict)
    assert isinstance(rows, list)
    return Part(about, tuple(_entry(row) for row in rows), missing)


def _entry(row: Mapping[str, object]) -> Entry:
    points = row.get("points")
    spread = None
    if isinstance(points, list):
        low, middle, high, most = (_number(row[key]) for key in ("min", "p50", "p99", "max"))
        count = int(_number(row["n"]))
        spread = Spread(
            n=count, min=low, p50=middle, p99=high, max=most, points=tuple(map(_number, points))
        )
    scenario, contender, what, unit = (
        str(row[key]) for key in ("scenario", "contender", "what", "unit")
    )
    return Entry(scenario, contender, what, unit, _number(row["value"]), spread)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.inf
