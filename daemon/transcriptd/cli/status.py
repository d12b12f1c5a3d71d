"""`transcriptd status`: what is archived, what is not, and since when."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from transcriptd import client
from transcriptd.cli.options import config_option
from transcriptd.cli.overview import overview
from transcriptd.cli.units import duration, size

if TYPE_CHECKING:
    from rich.console import RenderableType

    from transcriptd.config import Config

__all__ = ["ask", "command", "duration", "overview", "size"]

_REFRESH_S = 1.0
_UNBROKEN = 100_000  # columns: a reader that is no terminal wants each row on one line
_DAY_S = 86_400.0
_EVERYTHING_S = 120.0  # 100,000 sessions take 7 s on a slow machine


@click.command(
    "status",
    epilog="""\b
Examples:
  transcriptd status
  transcriptd status --watch
  transcriptd status --expiring 14
  transcriptd status --json | jq '.sessions[] | select(.state != "current")'

\b
The JSON object (times in Unix seconds, durations in seconds, sizes in bytes):
  schema, version, pid, started_at, state, machine, max_age
  stale     true where it is the journal's: as of the last stop, with less in it
  archive   place, kind, guarantees
  totals    sessions, states, records, bytes, findings {rule: count},
            backlog, oldest_unarchived_s,
            bases_behind, behind_bytes, oldest_behind_s,
            archived, failed_attempts, last_archived_at
  sources   [source, sessions, states, records, bytes, damaged_lines,
            redaction, findings, with_findings,
            expires_after_s, expiring, expiring_unarchived]
  expiring_within_s   what counts as expiring: --expiring
  scrub     rate, waiting, waiting_bytes, read_bytes, found
  store     state, error, in_flight, limit, next_attempt_in_s,
            requests [op, outcome, count], sent_bytes, received_bytes
  watch     [source, roots, files, skipped, polling]
  degraded  [reason, since, message, hint]
  sessions  [id, source, path, state, reason, message, since, records, bytes,
            generation, key, requests, sent_bytes, behind_bytes, behind_since,
            oldest_unarchived_s, is_archived, expires_at, damaged_lines, findings]
  sessions_left_off   how many have no row: 0 with --json
""",
)
@click.option("--watch", is_flag=True, help="Show it anew each second until interrupted.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object, with every session.")
@click.option(
    "expiring_days",
    "--expiring",
    metavar="DAYS",
    type=click.FloatRange(0, 36_500),
    default=7.0,
    show_default=True,
    help="Count what agents delete within so many days as expiring.",
)
@config_option
def command(config: Config, *, watch: bool, as_json: bool, expiring_days: float) -> None:
    """Show what is archived, what waits, and what is wrong.

    What is "behind" is archived, too: beside the object that it belongs to, which takes it in
    after a while (seal.max_lag at the latest). Only a reader that knows that object alone lacks it.

    "Findings" are what the rules take for secrets in what is archived, by rule; none is shown.

    What is "expiring" will be deleted by its agent, which keeps a session for so long after its
    last change (Claude Code: cleanupPeriodDays). Its archive stays.

    Exit status 1 while no daemon runs; then what the journal knows is shown.
    """
    if watch and as_json:
        raise click.UsageError("--watch and --json exclude each other")
    within_s = expiring_days * _DAY_S
    if watch:
        _watch(config, within_s)
        return
    document = ask(config, everything=as_json, within_s=within_s)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        _print(overview(document, str(config.health.socket)))
    sys.exit(1 if document["state"] == "stopped" else 0)


def ask(config: Config, *, everything: bool = False, within_s: float) -> dict[str, Any]:
    """Get the status document from the daemon, or from the journal while none runs.

    What its agent deletes within `within_s` seconds counts as expiring.

    `stale` says that it is the journal's: as of the last stop, whatever happened to files since.
    """
    try:
        asked = f"/status?all={everything:d}&expiring={within_s:.0f}"
        patience_s = _EVERYTHING_S if everything else client.DEFAULT_TIMEOUT_S
        answer = client.get(str(config.health.socket), asked, patience_s)
        document: dict[str, Any] = answer.json()
    except (OSError, ValueError):
        from transcriptd import report
        from transcriptd.journal import Journal
        from transcriptd.sources import open_sources

        journal = Journal(config.state_dir / "journal.db")
        stopped = report.without_daemon(
            config,
            journal,
            open_sources(config, os.environ),
            everything=everything,
            within_s=within_s,
        )
        return {**stopped, "stale": True}
    return {**document, "stale": False}


def _print(drawn: RenderableType) -> None:
    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False).print(drawn)
        return
    console = Console(highlight=False, width=_UNBROKEN)
    with console.capture() as captured:
        console.print(drawn)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _watch(config: Config, within_s: float) -> None:
    from rich.console import Console
    from rich.live import Live

    socket = str(config.health.socket)
    console = Console(highlight=False)
    try:
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                live.update(overview(ask(config, within_s=within_s), socket), refresh=True)
                time.sleep(_REFRESH_S)
    except KeyboardInterrupt:
        return
