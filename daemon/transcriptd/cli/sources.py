"""`transcriptd sources`: which agents' sessions are archived, where they are, and how many."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from transcriptd import client
from transcriptd.agents import Agent, Configured, every
from transcriptd.census import Count, Root, count, journal_of, look
from transcriptd.cli.config import archive_line
from transcriptd.cli.options import config_option
from transcriptd.cli.units import many, size
from transcriptd.expiry import SOON_S, Expiry
from transcriptd.roster import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from rich.table import Table
    from rich.text import Text

    from transcriptd.config import Config

_STYLES = {"on": "green", "off": "dim", "absent": "dim"}
_MOST_ROOTS = 10
_DAY_S = 86_400
_UNBROKEN = 100_000  # columns: a reader that is no terminal wants each row on one line
_EMPTY = "No agent keeps sessions here yet. What will be archived once it is there:\n"
_START = "Start an agent, or name its directory: `transcriptd config example` has tables for more."
_OFF = "sources.NAME.enabled = false in the configuration turns an agent off."
_NO_DAEMON = (
    "No daemon runs: `transcriptd service install` keeps one running, "
    "`transcriptd sync` archives everything now."
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """An agent with what it has on this machine. Its `watched`: whether the daemon knows it."""

    agent: Agent
    roots: list[Root]
    count: Count
    expires_after_s: float | None
    watched: bool | None
    redaction: str

    @property
    def is_here(self) -> bool:
        return any(root.is_there for root in self.roots)

    @property
    def state(self) -> str:
        if self.agent.configured is not Configured.ON:
            return "off"
        return "on" if self.is_here else "absent"

    @property
    def unreadable(self) -> dict[str, str]:
        return {printable(p): why for root in self.roots for p, why in root.unreadable.items()}

    @property
    def skipped(self) -> dict[str, int]:
        names: dict[str, int] = {}
        for root in self.roots:
            for reason, skipped in root.skipped.items():
                names[reason] = names.get(reason, 0) + skipped
        return names

    @property
    def is_unwatched(self) -> bool:
        """Whether a daemon runs that began with another configuration."""
        return self.state == "on" and self.watched is False

    @property
    def is_complete(self) -> bool:
        """Whether all that should be archived is."""
        left = self.count.waiting or self.count.quarantined or self.unreadable
        return self.state != "on" or not left

    @property
    def hint(self) -> str:
        if self.is_unwatched:
            return "the daemon was started without it: restart it"
        return self.agent.hint(is_here=self.is_here)


@click.command(
    "sources",
    epilog="""\b
Examples:
  transcriptd sources
  transcriptd sources --json | jq '.sources[] | select(.state == "on") | .name'
  transcriptd sources --set sources.codex.enabled=false

\b
The JSON object (times in seconds, sizes in bytes):
  schema, daemon (whether one answers)
  sources  [name, state (on | off | absent), configured (on | off | unknown),
           redaction (off | report | mask), roots [path, present, sessions], sessions,
           archived, waiting, quarantined, gone, archived_bytes, expires_after_s,
           expiring, expiring_unarchived, excluded (sessions that stay here),
           excluded_bytes, excluded_by {reason: sessions}, skipped {reason: names},
           unreadable {path: why}, hint]
""",
)
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object.")
@config_option
def command(config: Config, *, as_json: bool) -> None:
    """Show which agents are on this machine, where, and how much of each is archived.

    Every file is a session here: subagents and tool output count, too. Looks by itself, beside a
    daemon and without one. An agent is "absent" as long as none of its directories exists, and
    archived from then on; one that is "off" is not looked at by the daemon.

    Exit status 1 if something of an agent that is on is not archived, or cannot be read.
    """
    watched = _watched(config)
    found = _look(config, watched)
    if as_json:
        rows = [_row(seen) for seen in found]
        said = {"schema": 1, "daemon": watched is not None, "sources": rows}
        click.echo(json.dumps(said, indent=2))
    else:
        _tell(config, found, has_daemon=watched is not None)
    sys.exit(0 if all(seen.is_complete for seen in found) else 1)


def _watched(config: Config) -> set[str] | None:
    """Return the agents that the daemon watches; `None` where none answers."""
    try:
        said = client.get(str(config.health.socket), "/status").json()
        return {watch["source"] for watch in said["watch"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _look(config: Config, watched: Collection[str] | None) -> list[_Seen]:
    agents = every(config, os.environ)
    journal = journal_of(config)
    expiry = Expiry({agent.name: agent.source for agent in agents})
    found = []
    for agent in agents:
        roots = look(agent.source, journal)
        counted = count(agent.name, roots, journal, expiry, within_s=SOON_S)
        is_watched = None if watched is None else agent.name in watched
        seen = _Seen(
            agent,
            roots,
            counted,
            expiry.after(agent.name),
            is_watched,
            config.redaction_of(agent.name),
        )
        if seen.is_here or agent.configured is not Configured.UNKNOWN:
            found.append(seen)
    return found


def _row(seen: _Seen) -> dict[str, Any]:
    return {
        "name": seen.agent.name,
        "state": seen.state,
        "configured": seen.agent.configured.value,
        "redaction": seen.redaction,
        "roots": [
            {"path": printable(r.path), "present": r.is_there, "sessions": len(r.sessions)}
            for r in seen.roots
        ],
        **asdict(seen.count),
        "expires_after_s": seen.expires_after_s,
        "skipped": seen.skipped,
        "unreadable": seen.unreadable,
        "hint": seen.hint,
    }


def _tell(config: Config, found: list[_Seen], *, has_daemon: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _UNBROKEN)
    with console.capture() as captured:
        if any(seen.is_here for seen in found):
            notes = [_grid(noted)] if (noted := list(_notes(found))) else []
            how = Text(_OFF, "dim")
            secrets = _secrets(config, found)
            for drawn in (_table(found), "", _grid(_roots(found)), "", *notes, secrets, how):
                console.print(drawn)
        else:
            console.print(_EMPTY, _grid(_roots(found)), f"\n{_START}", sep="\n")
        console.print("", archive_line(config), sep="\n", markup=False)
        if not has_daemon:
            console.print(_NO_DAEMON)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _grid(rows: Iterable[tuple[Text, Text]]) -> Table:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, said in rows:
        grid.add_row(name, said)
    return grid


def _table(found: list[_Seen]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("source", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in ("sessions", "archived", "size", "waiting", "quarantined"):
        table.add_column(name, justify="right", no_wrap=True)
    for seen in found:
        counted = seen.count
        table.add_row(
            Text(seen.agent.name),
            Text(seen.state, _STYLES[seen.state]),
            _number(counted.sessions),
            _number(counted.archived),
            Text(size(counted.archived_bytes) if counted.archived_bytes else ""),
            _number(counted.waiting if seen.state == "on" else 0, "yellow"),
            _number(counted.quarantined, "bold red"),
        )
    return table


def _number(number: int, style: str = "") -> Text:
    from rich.text import Text

    return Text(f"{number:,}" if number else "", style)


def _roots(found: list[_Seen]) -> Iterator[tuple[Text, Text]]:
    """Yield where each agent's sessions are, or may appear."""
    from rich.text import Text

    for seen in found:
        name = seen.agent.name
        for root in sorted(seen.roots, key=lambda root: not root.is_there)[:_MOST_ROOTS]:
            there = many(len(root.sessions), "session", "sessions")
            said = Text(printable(root.path), "" if root.is_there else "dim")
            said.append(f"  {there}" if root.is_there else "  not there")
            yield Text(name), said
            name = ""
        if (more := len(seen.roots) - _MOST_ROOTS) > 0:
            yield Text(), Text(f"… and {more:,} more: transcriptd sources --json")


def _notes(found: list[_Seen]) -> Iterator[tuple[Text, Text]]:
    """Yield what is to be known of each agent that is here, or is off."""
    from rich.text import Text

    for seen in found:
        name, counted = Text(seen.agent.name), seen.count
        for path, why in seen.unreadable.items():
            yield name, Text(f"{path} cannot be read: {why}", "bold red")
        if skipped := ", ".join(f"{names:,} {reason}" for reason, names in seen.skipped.items()):
            yield name, Text(f"names left out: {skipped}", "yellow")
        if counted.gone:
            gone = many(counted.gone, "session is", "sessions are")
            yield name, Text(f"{gone} gone from here; the archive keeps what it has of them")
        if counted.excluded:
            yield name, _excluded(counted)
        if counted.expiring:
            yield name, _expiring(seen)
        if seen.state == "off" or seen.is_unwatched:
            yield name, Text(seen.hint, "yellow")


def _excluded(counted: Count) -> Text:
    from rich.text import Text

    sessions = many(counted.excluded, "session stays here", "sessions stay here")
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(counted.excluded_by.items()))
    return Text(f"{sessions}, {size(counted.excluded_bytes)}: {reasons}")


def _secrets(config: Config, found: list[_Seen]) -> Text:
    """Say what is done about secrets, of which agent something else than of all."""
    from rich.text import Text

    others = [f"{s.agent.name}: {s.redaction}" for s in found if s.redaction != config.redaction]
    return Text("; ".join([f"redaction: {config.redaction}", *others]), "dim")


def _expiring(seen: _Seen) -> Text:
    from rich.text import Text

    counted = seen.count
    sessions = many(counted.expiring, "session", "sessions")
    said = f"it deletes {sessions} within {SOON_S / _DAY_S:g} days"
    if counted.expiring_unarchived:
        return Text(f"{said}; {counted.expiring_unarchived:,} not archived", "bold red")
    return Text(f"{said}; all archived")
