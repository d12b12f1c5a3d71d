"""`transcriptd demo`: see it work, on simulated agents."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import click

from transcriptd.config.settings import DebounceSettings
from transcriptd.demo import QUIET_S, Demo, DemoFailed, percentile

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.table import Table

    from transcriptd.demo import Progress, Result, Row

_BAR = 24
_MOST_ROWS = 16
_LINE_EVERY_S = 1.0


@click.command(
    "demo",
    epilog="""\b
Examples:
  transcriptd demo
  transcriptd demo --seconds 30 --sessions 50
  transcriptd demo --keep              and look at the archive afterwards
  transcriptd demo --json | jq .lost
""",
)
@click.option("--seconds", default=8.0, show_default=True, type=click.FloatRange(0.5, 3600),
              help="How long the agents work.")  # fmt: skip
@click.option("--sessions", default=12, show_default=True, type=click.IntRange(1, 500),
              help="How many agents work at once, each on one session.")  # fmt: skip
@click.option("--keep", is_flag=True, help="Keep the directory: sessions, archive, journal, log.")
@click.option("as_json", "--json", is_flag=True, help="Print the result alone, as JSON.")
@click.option("--config", metavar="FILE", expose_value=False,
              help="Not read: the demonstration has its own.")  # fmt: skip
def command(*, seconds: float, sessions: int, keep: bool, as_json: bool) -> None:
    """Show it at work on simulated agents.

    They save sessions while the real daemon archives them; then both are compared. Everything lies
    in a temporary directory; your own sessions, configuration and archive are neither read nor
    written. Exit status 0 only if every session is archived line by line.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # as an interrupt: nothing is left running
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    place = Path(tempfile.mkdtemp(prefix="transcriptd-demo-"))
    kept = keep
    try:
        with _Show(seconds, shown=not as_json) as show:
            result = Demo(place, sessions).run(seconds, show)
        kept = keep or not result.is_good
        if as_json:
            click.echo(json.dumps({**dataclasses.asdict(result), "ok": result.is_good}))
        else:
            _tell(result)
    except DemoFailed as error:
        kept = True
        raise click.ClickException(str(error)) from None
    finally:
        if kept:
            click.echo(f"Kept: {place}", err=True)
        else:
            shutil.rmtree(place, ignore_errors=True)
    sys.exit(0 if result.is_good else 1)


def _tell(result: Result) -> None:
    latency = " / ".join(map(_ms, (result.archived_p50_s, result.archived_p99_s)))
    click.echo(f"sessions            {result.sessions:,}")
    click.echo(f"saves               {result.saves:,}")
    click.echo(f"messages            {result.messages:,}  ({result.bytes:,} bytes)")
    click.echo(f"save → archived     {latency}  (p50 / p99; {_debounce()})")
    lost = click.style(f"lost                {result.lost}", bold=True, fg=_color(result))
    click.echo(lost)
    for problem in result.problems:
        click.echo(f"  {problem}")
    if result.is_good:
        click.echo("Every session was compared line by line with its archive: nothing differs.")


def _debounce() -> str:
    return f"with debounce.quiet = {QUIET_S:g} s, the default is {DebounceSettings().quiet:g} s"


def _color(result: Result) -> str:
    return "green" if result.is_good else "red"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


class _Show:
    """A live table on a terminal, a line a second elsewhere."""

    def __init__(self, seconds: float, *, shown: bool) -> None:
        self._seconds = seconds
        self._shown = shown
        self._live: Live | None = None
        self._next_line_s = 0.0

    def __enter__(self) -> Self:
        if self._shown and sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(highlight=False), auto_refresh=False)
            self._live.start()
        elif self._shown:
            click.echo(f"Simulated agents work for {self._seconds:g} s; the daemon archives.")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        if self._live is not None:
            self._live.update(draw(progress, self._seconds), refresh=True)
        elif self._shown and progress.elapsed_s >= self._next_line_s:
            self._next_line_s = progress.elapsed_s + _LINE_EVERY_S
            click.echo(f"{progress.elapsed_s:5.1f} s  {_summary(progress)}")


def draw(progress: Progress, seconds: float) -> RenderableType:
    """Draw one moment: the sums, and a row for each session."""
    from rich.console import Group
    from rich.text import Text

    done = min(1.0, progress.elapsed_s / seconds)
    count = len(progress.rows)
    who = "1 agent saves" if count == 1 else f"{count} agents save"
    title = Text.assemble(
        ("transcriptd demo  ", "bold"),
        (f"{who}, the daemon archives  ", ""),
        ("━" * round(_BAR * done), "cyan"),
        ("━" * (_BAR - round(_BAR * done)), "bright_black"),
    )
    more = count - _MOST_ROWS
    below = Text(f"… and {more} more" if more > 0 else "", style="dim")
    summary = Text(_summary(progress))
    return Group(title, summary, Text(), _table(progress.rows[:_MOST_ROWS]), below)


def _table(rows: tuple[Row, ...]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("session", no_wrap=True)
    table.add_column("task", no_wrap=True, overflow="ellipsis", max_width=34)
    table.add_column("saves", justify="right")
    table.add_column("messages", justify="right")
    table.add_column("archived", justify="right")
    table.add_column("")
    for row in rows:
        is_current = row.archived == row.messages
        filled = round(_BAR * row.archived / row.messages) if row.messages else 0
        bar = Text("█" * filled, style="green" if is_current else "yellow")
        table.add_row(
            Text(row.id[:8], style="dim"),
            Text(row.title),
            f"{row.saves}",
            f"{row.messages}",
            Text(f"{row.archived}", style="green" if is_current else "yellow"),
            bar.append("░" * (_BAR - filled), style="bright_black"),
        )
    return table


def _summary(progress: Progress) -> str:
    archived = len(progress.latencies_s)
    p50, p99 = (_ms(percentile(progress.latencies_s, percent)) for percent in (50, 99))
    return f"{progress.saves} saves, {archived} archived; save → archived p50 {p50}, p99 {p99}"
