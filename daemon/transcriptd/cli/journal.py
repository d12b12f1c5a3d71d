"""`transcriptd journal`: what was changed in the archive, entry by entry."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from transcriptd.cli.options import config_option
from transcriptd.journal import entries
from transcriptd.writeback import JournalEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from transcriptd.config import Config
    from transcriptd.rows import Entry

_POLL_S = 0.5
_PAGE = 1000
_COLORS = {"staged": "yellow", "committed": "green", "rejected": "red"}
_OPS = {"history_sink_upload": "upload", "compaction": "preserve", "save": "read"}


@click.command(
    "journal",
    epilog="""\b
Examples:
  transcriptd journal                          a table on a terminal, lines elsewhere
  transcriptd journal --session 5f1c… --json   one session, as CodeTether writes its journal
  transcriptd journal --follow --json | jq -c 'select(.phase == "rejected")'
""",
)
@click.option("session_id", "--session", metavar="ID", help="Only this session.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new entries until interrupted.")
@click.option("as_json", "--json", is_flag=True, help="Print lines also on a terminal.")
@config_option
def command(config: Config, session_id: str | None, *, follow: bool, as_json: bool) -> None:
    """Print what was changed in the archive, entry by entry.

    Every change is staged, then committed or rejected. The lines are those of CodeTether's own
    journal.
    """
    path = config.state_dir / "journal.db"
    if not path.exists():
        click.echo(f"There is no journal at {path} yet.", err=True)
    show = line if as_json or not sys.stdout.isatty() else row
    try:
        shown = _print(path, session_id, show, follow=follow)
    except sqlite3.Error as error:
        raise click.ClickException(f"{path} cannot be read: {error}") from None
    except KeyboardInterrupt:
        click.echo(err=True)
    else:
        if session_id and not shown and path.exists():
            click.echo(f"There is no entry for session {session_id}.", err=True)


def line(entry: Entry) -> str:
    """Return an entry in CodeTether's line format."""
    detail = json.loads(entry.detail) if entry.detail else None
    said = JournalEntry(
        phase=_phase(entry),
        txn=entry.txn,
        at=_rfc3339(entry.at_ns),
        op=detail if entry.phase == "staged" else None,
        reason=detail if entry.phase == "rejected" else None,
    )
    return msgspec.json.encode(said).decode()


def row(entry: Entry) -> str:
    """Return an entry for a person, in columns."""
    at = datetime.fromtimestamp(entry.at_ns / 1e9).astimezone()
    phase = click.style(f"{entry.phase:<10}", fg=_COLORS.get(entry.phase))
    detail = json.loads(entry.detail) if entry.detail else {}
    return f"{at:%Y-%m-%d %H:%M:%S}  {entry.txn:>6}  {phase}  {entry.session_id}  {_told(detail)}"


def _print(
    path: Path, session_id: str | None, show: Callable[[Entry], str], *, follow: bool
) -> int:
    """Print the entries, with `follow` also those to come; return the last one's number, or 0."""
    after = 0
    while True:
        for entry in _after(path, session_id, after):
            click.echo(show(entry))
            after = entry.seq
        if not follow:
            return after
        time.sleep(_POLL_S)


def _after(path: Path, session_id: str | None, after: int) -> Iterator[Entry]:
    while page := entries(path, session_id=session_id, after=after, limit=_PAGE):
        yield from page
        after = page[-1].seq


def _phase(entry: Entry) -> Any:  # noqa: ANN401 - one of the literals: the journal wrote it
    return entry.phase


def _rfc3339(at_ns: int) -> str:
    seconds, fraction = divmod(at_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09}Z"


def _told(detail: dict[str, Any]) -> str:
    match detail:
        case {"op": "history_sink_upload", "key": key, "bytes": size}:
            return f"{key}  {size:,} bytes"
        case {"op": "compaction", "before": before, "after": after}:
            return f"preserve {before} records; then {after}"
        case {"reason": reason}:
            return f"{reason}: {detail['detail']}" if detail.get("detail") else str(reason)
    return str(detail.get("op", ""))
