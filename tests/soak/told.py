"""A soak as a table, as JSON, and as a picture of what it took over time."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.soak.course import Outcome
    from tests.soak.watch import Sample

_WIDTH, _PANEL = 760, 130
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 30, 30, 30
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
polyline { fill: none; stroke: #2a7de1; stroke-width: 1.5; }
.grid { stroke: #8c959f; stroke-opacity: .4; } .restart { stroke: #e07b00; stroke-dasharray: 3; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } }
"""
_PANELS: tuple[tuple[str, Callable[[Sample], float]], ...] = (
    ("resident memory, MB", lambda s: s.rss_mb),
    ("file descriptors", lambda s: s.descriptors),
    ("journal and its log, MB", lambda s: s.journal_mb + s.wal_mb),
    ("backlog, sessions", lambda s: s.backlog),
)


def table(outcome: Outcome) -> str:
    """Draw what was judged, in Markdown."""
    lines = [
        "| what | first quarter | last quarter | slope per hour | limit per hour | |",
        "|---|---|---|---|---|---|",
    ]
    for each in outcome.trends:
        limit = each.limit
        most = "" if limit.per_hour is None else f"{limit.per_hour:g} {limit.unit}"
        cells = [
            limit.what,
            *(f"{value:.4g} {limit.unit}" for value in (each.first, each.last, each.per_hour)),
            most,
            "creeps" if each.creeps else "",
        ]
        lines.append(f"| {' | '.join(cell.strip() for cell in cells)} |")
    return "\n".join(lines)


def document(outcome: Outcome) -> dict[str, Any]:
    """Return everything, for JSON."""
    return {
        "plan": asdict(outcome.plan),
        "server": outcome.server,
        "faults": outcome.faults,
        "trends": [asdict(each) | {"creeps": each.creeps} for each in outcome.trends],
        "restarts": outcome.restarts,
        "counts": outcome.counts,
        "samples": [asdict(each) for each in outcome.samples],
    }


def picture(outcome: Outcome) -> str:
    """Draw memory, descriptors, journal and backlog over time, and each restart, as SVG."""
    samples = outcome.samples
    ends = max((each.at_s for each in samples), default=1.0)
    height = _TOP + _PANEL * len(_PANELS) + _BOTTOM
    minutes = f"{outcome.plan.seconds / 60:g} minutes"
    rows = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>A soak of {minutes}</title><style>{_STYLE}</style>",
        f'<text x="{_LEFT}" y="16">A soak of {minutes}; dashed: killed or stopped</text>',
    ]
    for number, (name, value) in enumerate(_PANELS):
        rows += _panel(samples, ends, _TOP + _PANEL * number, name, value)
    for at_s, _ in outcome.restarts:
        x = _x(at_s, ends)
        rows.append(f'<line class="restart" x1="{x}" x2="{x}" y1="{_TOP}" y2="{height - 30}"/>')
    for step in range(6):
        x = _x(ends * step / 5, ends)
        when = f"{ends * step / 300:.3g} min"
        rows.append(f'<text x="{x}" y="{height - 8}" text-anchor="middle">{when}</text>')
    return "\n".join([*rows, "</svg>", ""])


def _panel(
    samples: Sequence[Sample], ends: float, top: int, name: str, value: Callable[[Sample], float]
) -> list[str]:
    highest = max((value(each) for each in samples), default=1.0) or 1.0
    floor, room = top + _PANEL - 10, _PANEL - 34
    rows = [f'<text x="{_LEFT}" y="{top + 14}">{name}</text>']
    for share in (0.0, 1.0):
        y = floor - room * share
        rows.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        rows.append(
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{highest * share:.4g}</text>'
        )
    for life in sorted({each.life for each in samples}):
        points = [
            f"{_x(each.at_s, ends):.1f},{floor - room * value(each) / highest:.1f}"
            for each in samples
            if each.life == life
        ]
        rows.append(f'<polyline points="{" ".join(points)}"/>')
    return rows


def _x(at_s: float, ends: float) -> float:
    return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * at_s / ends, 1)
