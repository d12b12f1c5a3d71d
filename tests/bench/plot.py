"""Draws the delays from save to archived as a picture that reads well in light and dark."""

from __future__ import annotations

from math import ceil
from statistics import quantiles
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT = 720, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 40, 28, 48
_COLOURS = ("#2a7de1", "#e07b00")
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.axis { stroke: #8c959f; } .grid { stroke: #8c959f; stroke-opacity: .25; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } }
"""


def shares(title: str, series: Mapping[str, Sequence[float]]) -> str:
    """Draw for each series of delays (ms) which share of the saves was archived within a time."""
    longest = 50.0 * ceil(max(max(delays) for delays in series.values()) / 50)
    rows = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{title}</title><style>{_STYLE}</style>",
        f'<text x="{_LEFT}" y="16">{title}</text>',
    ]
    for percent in (0, 25, 50, 75, 100):
        y = _y(percent / 100)
        rows.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        rows.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{percent} %</text>')
    for step in range(6):
        ms = longest * step / 5
        x = _x(ms, longest)
        rows.append(f'<text x="{x}" y="{_HEIGHT - 26}" text-anchor="middle">{ms:.0f} ms</text>')
    rows.append(
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(0)}" y2="{_y(0)}"/>'
    )
    for index, (name, delays) in enumerate(series.items()):
        rows += _curve(name, delays, longest, index)
    return "\n".join([*rows, "</svg>", ""])


def _curve(name: str, delays: Sequence[float], longest: float, index: int) -> list[str]:
    colour = _COLOURS[index % len(_COLOURS)]
    ordered = sorted(delays)
    points = [(_x(0, longest), _y(0))]
    for rank, delay in enumerate(ordered, 1):
        x = _x(delay, longest)
        points += [(x, points[-1][1]), (x, _y(rank / len(ordered)))]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    cut = quantiles(ordered, n=100)
    label = f"{name}: p50 {cut[49]:.0f} ms, p99 {cut[98]:.0f} ms"
    y = _y(0) - 40 + 20 * index
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        f'<rect x="{_WIDTH // 2}" y="{y - 9}" width="12" height="4" fill="{colour}"/>',
        f'<text x="{_WIDTH // 2 + 20}" y="{y}">{label}</text>',
    ]


def _x(ms: float, longest: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ms / longest


def _y(share: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share)
