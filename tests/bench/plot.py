"""Draws curves and bars as SVG that reads well in light and in dark, in colour and without.

Knows nothing of what is drawn. Each name has a colour and a dash of its own by its place; labels
stand at their lines, where they hide the least.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from itertools import pairwise, product
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_WIDTH, _HEIGHT = 760, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 24, 44, 48
_GLYPH, _LINE = 7.0, 16.0  # about as wide and high as a letter is
_AWAY = (8.0, 40.0, 90.0)  # how far a name may stand from its line
_NEAR = 10.0  # closer to another line than this, a name could be the other's
_LIGHT = ("#0059a8", "#c44400", "#00785a", "#9b3d8f", "#8a6100", "#57606a")
_DARK = ("#5ab4f0", "#ff8a4c", "#3dcfa0", "#e79bd5", "#e6c34a", "#9aa4ae")
_DASHES = ("", "9 4", "2 3", "12 3 3 3", "5 3", "1 5")
_STYLE = """
.paper { fill: #ffffff; } text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; } .small { font-size: 12px; fill: #57606a; }
.grid { stroke: #8c959f; stroke-opacity: .3; } .axis { stroke: #8c959f; }
.label { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; }
"""
_STYLE_IN_DARK = """
.paper { fill: #0d1117; } text { fill: #e6edf3; } .small { fill: #9aa4ae; }
.label { stroke: #0d1117; }
"""


@dataclass(frozen=True, slots=True)
class Axis:
    """From the lowest to the highest value, with words at some of them."""

    low: float
    high: float
    ticks: Mapping[float, str]
    title: str
    is_log: bool = False

    def place(self, value: float) -> float:
        """Return where a value stands, from 0 to 1; what is beyond the axis stands at its end."""
        held = min(max(value, self.low), self.high)
        if self.is_log:
            return math.log(held / self.low) / math.log(self.high / self.low)
        return (held - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points in the units of the axes; the first name of all is drawn strongest."""

    name: str
    points: Sequence[tuple[float, float]]
    place: int  # among all names: gives its colour


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    value: float
    text: str  # what stands at its end
    place: int


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars to be compared with each other, from zero; or from the least of a log axis."""

    title: str
    bars: Sequence[Bar]
    is_log: bool = False


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def holds(self, x: float, y: float) -> bool:
        return self.left <= x <= self.right and self.top <= y <= self.bottom

    def grown(self, by: float) -> _Box:
        return _Box(self.left - by, self.top - by, self.right + by, self.bottom + by)

    def meets(self, other: _Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


_FRAME = _Box(_LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM)


class _Label(NamedTuple):
    x: float
    y: float
    anchor: str
    box: _Box
    of: tuple[float, float]  # the point of the line that it stands at
    away: float


def curves(title: str, across: Axis, up: Axis, drawn: Sequence[Curve]) -> str:
    """Draw curves on common axes, each with its name beside it."""
    rows = [*_grid(across, up)]
    lines = [_on_paper(curve, across, up) for curve in drawn]
    dense = [list(_dense(line)) for line in lines]
    taken: list[_Box] = []
    labels: list[str] = []
    for number, (curve, line) in enumerate(zip(drawn, lines, strict=True)):
        width = 3 if curve.place == 0 else 2
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        rows.append(
            f'<polyline class="line c{curve.place}" stroke-width="{width}" points="{path}"/>'
        )
        others = [point for each in (*dense[:number], *dense[number + 1 :]) for point in each]
        label = _best_label(curve.name, dense[number], others, taken)
        taken.append(label.box)
        labels += _leader(label, curve.place)
        labels.append(
            f'<text class="label t{curve.place}" x="{label.x:.1f}" y="{label.y:.1f}" '
            f'text-anchor="{label.anchor}">{escape(curve.name)}</text>'
        )
    return _svg(title, _HEIGHT, [*rows, *labels])


def bars(title: str, panels: Sequence[Panel]) -> str:
    """Draw panels of bars, one below the other, each bar with its name and its value."""
    rows, y = [], float(_TOP)
    begin = _LEFT + _GLYPH * max(len(bar.name) for panel in panels for bar in panel.bars) - 40
    room = _WIDTH - begin - _GLYPH * max(len(bar.text) for p in panels for bar in p.bars) - 24
    for panel in panels:
        rows.append(f'<text x="20" y="{y + 12:.0f}">{escape(panel.title)}</text>')
        y += 22
        axis = _axis_of(panel)
        for bar in panel.bars:
            length = max(room * axis.place(bar.value), 1.5)
            rows.append(
                f'<text class="small" x="{begin - 8:.0f}" y="{y + 13:.0f}" '
                f'text-anchor="end">{escape(bar.name)}</text>'
                f'<rect class="b{bar.place}" x="{begin:.0f}" y="{y + 2:.0f}" '
                f'width="{length:.1f}" height="14"/>'
                f'<text class="small" x="{begin + length + 8:.1f}" y="{y + 13:.0f}">'
                f"{escape(bar.text)}</text>"
            )
            y += 21
        y += 14
    return _svg(title, round(y), rows)


def _axis_of(panel: Panel) -> Axis:
    values = [bar.value for bar in panel.bars if bar.value > 0] or [1.0]
    if panel.is_log:
        return Axis(min(values) / 2, max(*values, min(values) * 2), {}, "", is_log=True)
    return Axis(0, max(values), {}, "")


def _grid(across: Axis, up: Axis) -> Iterator[str]:
    for value, word in up.ticks.items():
        y = _y(up.place(value))
        yield f'<line class="grid" x1="{_LEFT}" x2="{_FRAME.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="small" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{word}</text>'
    for value, word in across.ticks.items():
        x, y = _x(across.place(value)), _FRAME.bottom
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{y}"/>'
        yield f'<text class="small" x="{x:.1f}" y="{y + 18}" text-anchor="middle">{word}</text>'
    y = _FRAME.bottom
    yield f'<line class="axis" x1="{_LEFT}" x2="{_FRAME.right}" y1="{y}" y2="{y}"/>'
    yield (
        f'<text class="small" x="{_FRAME.right}" y="{y + 38}" text-anchor="end">'
        f"{across.title}</text>"
    )


def _on_paper(curve: Curve, across: Axis, up: Axis) -> list[tuple[float, float]]:
    return [(_x(across.place(x)), _y(up.place(y))) for x, y in curve.points]


def _dense(line: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Give points along a line, each at most some 6 px from the next."""
    for (x1, y1), (x2, y2) in pairwise(line):
        steps = max(int(math.hypot(x2 - x1, y2 - y1) / 6), 1)
        for step in range(steps):
            yield x1 + (x2 - x1) * step / steps, y1 + (y2 - y1) * step / steps
    yield line[-1]


def _best_label(
    name: str,
    line: Sequence[tuple[float, float]],
    others: Sequence[tuple[float, float]],
    taken: Sequence[_Box],
) -> _Label:
    """Find where a name meets no other name and few lines, far from others, amid its own."""

    def harm(label: _Label) -> tuple[int, int, float]:
        box, near = label.box, label.box.grown(_NEAR)
        is_out = not (_FRAME.holds(box.left, box.top) and _FRAME.holds(box.right, box.bottom))
        hidden = sum(box.holds(x, y) for x, y in line) + sum(near.holds(x, y) for x, y in others)
        from_middle = math.dist(label.of, middle)
        met = int(is_out) + sum(near.meets(other) for other in taken)
        return met, hidden, from_middle + 2 * label.away

    middle = line[len(line) // 2]
    return min(_labels(name, line[:: max(len(line) // 30, 1)]), key=harm)


def _labels(name: str, anchors: Sequence[tuple[float, float]]) -> Iterator[_Label]:
    width = _GLYPH * len(name)
    for (x, y), away in product(anchors, _AWAY):
        for begin, below, at, anchor in (
            (x + away, y + 4, x + away, "start"),
            (x - away - width, y + 4, x - away, "end"),
            (x - width / 2, y - away, x, "middle"),
            (x - width / 2, y + away + 10, x, "middle"),
        ):
            box = _Box(begin, below - 12, begin + width, below + 4)
            yield _Label(at, below, anchor, box, (x, y), away)


def _leader(label: _Label, place: int) -> Iterator[str]:
    """Lead from a line to its name where that stands further off."""
    if label.away > _AWAY[0]:
        (x, y), box = label.of, label.box
        end = min(max(x, box.left - 2), box.right + 2), min(max(y, box.top), box.bottom)
        yield (
            f'<line class="c{place} leader" x1="{x:.1f}" y1="{y:.1f}" '
            f'x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'
        )


def _svg(title: str, height: int, rows: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title><style>{_STYLE}{_colours(_LIGHT)}",
            f"@media (prefers-color-scheme: dark) {{{_STYLE_IN_DARK}{_colours(_DARK)}}}</style>",
            f'<rect class="paper" width="{_WIDTH}" height="{height}" rx="6"/>',
            f'<text class="title" x="20" y="26">{escape(title)}</text>',
            *rows,
            "</svg>",
            "",
        ]
    )


def _colours(colours: Sequence[str]) -> str:
    rules = [".line { fill: none; stroke-linejoin: round; }"]
    for place, colour in enumerate(colours):
        dash = f" stroke-dasharray: {_DASHES[place]};" if _DASHES[place] else ""
        rules.append(
            f".c{place} {{ stroke: {colour};{dash} }} .t{place}, .b{place} {{ fill: {colour}; }}"
        )
    rules.append(".leader { stroke-dasharray: none; }")
    return "\n".join(rules)


def _x(share: float) -> float:
    return _LEFT + (_FRAME.right - _LEFT) * share


def _y(share: float) -> float:
    return _FRAME.bottom - (_FRAME.bottom - _TOP) * share
