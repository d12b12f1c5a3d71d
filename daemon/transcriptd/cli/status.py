"""`transcriptd status`: what is archived, what is not, and since when."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from transcriptd import client
from transcriptd.cli.options import config_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.table import Table

    from transcriptd.config import Config

_REFRESH_S = 1.0
_MOST_ROWS = 30
_MOST_ROOTS = 10
_UNBROKEN = 100_000  # columns: a reader that is no terminal wants each row on one line
_KIB = 1024
_STATES = {
    "current": "green",
    "pending": "yellow",
    "uploading": "cyan",
    "retrying": "yellow",
    "source_gone": "dim",
}
_ALARMING = "bold red"


@click.command(
    "status",
    epilog="""\b
Examples:
  transcriptd status
  transcriptd status --watch
  transcriptd status --json | jq '.sessions[] | select(.state != "current")'

\b
The JSON object (times in Unix seconds, durations in seconds, sizes in bytes):
  schema, version, pid, started_at, state, machine, max_age
  stale     true where it is the journal's: as of the last stop, with less in it
  archive   place, kind, guarantees
  totals    sessions, states, records, bytes, backlog, oldest_unarchived_s,
            bases_behind, behind_bytes, oldest_behind_s,
            archived, failed_attempts, last_archived_at
  store     state, error, in_flight, limit, next_attempt_in_s,
            requests [op, outcome, count], sent_bytes, received_bytes
  watch     [source, roots, files, polling]
  degraded  [reason, since, message, hint]
  sessions  [id, source, path, state, reason, message, since, records, bytes,
            generation, key, requests, sent_bytes, behind_bytes, behind_since,
            oldest_unarchived_s]
""",
)
@click.option("--watch", is_flag=True, help="Show it anew each second until interrupted.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object, with every session.")
@config_option
def command(config: Config, *, watch: bool, as_json: bool) -> None:
    """Show what is archived, what waits, and what is wrong.

    What is "behind" is archived, too: beside the object that it belongs to, which takes it in
    after a while (seal.max_lag at the latest). Only a reader that knows that object alone lacks it.

    Exit status 1 while no daemon runs; then what the journal knows is shown.
    """
    if watch and as_json:
        raise click.UsageError("--watch and --json exclude each other")
    if watch:
        _watch(config)
        return
    document = ask(config, everything=as_json)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        _print(overview(document, str(config.health.socket)))
    sys.exit(1 if document["state"] == "stopped" else 0)


def ask(config: Config, *, everything: bool = False) -> dict[str, Any]:
    """Get the status document from the daemon, or from the journal while none runs.

    `stale` says that it is the journal's: as of the last stop, whatever happened to files since.
    """
    try:
        answer = client.get(str(config.health.socket), f"/status?all={everything:d}")
        document: dict[str, Any] = answer.json()
    except (OSError, ValueError):
        from transcriptd import report
        from transcriptd.journal import Journal

        journal = Journal(config.state_dir / "journal.db")
        stopped = report.without_daemon(config, journal, everything=everything)
        return {**stopped, "stale": True}
    return {**document, "stale": False}


def overview(document: dict[str, Any], socket: str = "") -> RenderableType:
    """Draw the document: a few lines, and a table of the sessions that are not current."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column(overflow="fold")
    for name, said, style in _lines(document, socket):
        lines.add_row(Text(name), Text(said, style=style))
    shown = [s for s in document["sessions"] if s["state"] != "current"]
    if not shown:
        return lines
    parts: list[RenderableType] = [lines, "", _table(shown[:_MOST_ROWS])]
    if len(shown) > _MOST_ROWS:
        parts.append(f"… and {len(shown) - _MOST_ROWS} more: transcriptd status --json")
    return Group(*parts)


def _print(drawn: RenderableType) -> None:
    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False).print(drawn)
        return
    console = Console(highlight=False, width=_UNBROKEN)
    with console.capture() as captured:
        console.print(drawn)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _watch(config: Config) -> None:
    from rich.console import Console
    from rich.live import Live

    socket = str(config.health.socket)
    console = Console(highlight=False)
    try:
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                live.update(overview(ask(config), socket), refresh=True)
                time.sleep(_REFRESH_S)
    except KeyboardInterrupt:
        return


def _lines(document: dict[str, Any], socket: str) -> Iterator[tuple[str, str, str]]:
    """Yield (name, what is to be said, style)."""
    state, totals = document["state"], document["totals"]
    if state == "stopped":
        yield "transcriptd", f"not running: nobody answers at {socket}", _ALARMING
        yield "", "as of the last stop; files were not looked at since", "yellow"
    else:
        up = duration(time.time() - document["started_at"])
        version, pid = document["version"], document["pid"]
        style = "bold green" if state == "ready" else _ALARMING
        yield "transcriptd", f"{version}, {state} for {up}, process {pid}", style
        yield "archive", f"{document['archive']['place']} (as {document['machine']})", ""
    yield "sessions", _counted(totals), ""
    records = _many(totals["records"], "record", "records")
    archived = f"current content: {records}, {size(totals['bytes'])}"
    if last := totals.get("last_archived_at"):
        archived += f", the last {duration(time.time() - last)} ago"
    yield "archived", archived, ""
    if said := "; ".join(_traffic(document)):
        yield "store", said, ""
    if oldest := totals.get("oldest_unarchived_s"):
        yield "oldest", f"something has been waiting for {duration(oldest)}", "yellow"
    for watch in document.get("watch", ()):
        yield from _roots(watch)
    if document.get("store", {}).get("state") == "failing":
        store = document["store"]
        again = f"next attempt in {duration(store['next_attempt_in_s'])}"
        yield "store", f"{store['error']}; {again}", _ALARMING
    for trouble in document.get("degraded", ()):
        since = duration(time.time() - trouble["since"])
        yield "degraded", f"{trouble['reason']} for {since}: {trouble['message']}", _ALARMING
        if trouble["hint"]:
            yield "", f"→ {trouble['hint']}", "yellow"


def _traffic(document: dict[str, Any]) -> Iterator[str]:
    """Yield what was sent, and how far the objects are behind what is archived."""
    store, totals = document.get("store", {}), document["totals"]
    if "requests" in store:
        requests = _many(sum(row["count"] for row in store["requests"]), "request", "requests")
        yield f"{requests}, {size(store['sent_bytes'])} sent"
    if behind := totals.get("bases_behind"):  # a daemon of an earlier version does not say
        bases, by = _many(behind, "base", "bases"), size(totals["behind_bytes"])
        yield f"{bases} behind by {by}, for up to {duration(totals['oldest_behind_s'])}"


def _roots(watch: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    how = ", polling" if watch["polling"] else ""
    for name, present in (("watching", True), ("awaited", False)):
        paths = [root["path"] for root in watch["roots"] if root["present"] is present]
        for path in paths[:_MOST_ROOTS]:
            yield name, f"{watch['source']}{how if present else ''}: {path}", ""
        if len(paths) > _MOST_ROOTS:
            yield "", f"… and {len(paths) - _MOST_ROOTS} more: transcriptd status --json", ""


def _counted(totals: dict[str, Any]) -> str:
    states = totals["states"]
    several = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    return f"{totals['sessions']:,}" + (f": {several}" if several else "")


def _table(sessions: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    longest = max(len(session["id"]) for session in sessions)
    table.add_column("session", no_wrap=True, min_width=longest)  # an id is there to be copied
    table.add_column("state", overflow="fold")
    table.add_column("archived", justify="right", no_wrap=True)
    table.add_column("waiting", justify="right", no_wrap=True)
    for session in sessions:
        state, age = session["state"], session["oldest_unarchived_s"]
        why = "".join(f": {word}" for word in (session["reason"], session["message"]) if word)
        table.add_row(
            Text(session["id"]),
            Text.assemble((state, _STATES.get(state, _ALARMING)), why),
            Text(f"{session['records']:,}"),
            Text("" if age is None else duration(age)),
        )
    return table


def _many(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def duration(seconds: float) -> str:
    """Say a duration in its two largest units."""
    whole = max(0, round(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def size(count: float) -> str:
    """Say a number of bytes in the unit that fits."""
    if count < _KIB:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= _KIB
        if count < _KIB:
            return f"{count:.1f} {unit}"
    return f"{count / _KIB:.1f} TiB"
