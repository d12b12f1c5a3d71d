"""`transcriptd sync`: archive everything now."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import click

from transcriptd import client, logs
from transcriptd.cli.options import config_option
from transcriptd.cli.progress import Bar
from transcriptd.cli.run import loop_factory, refuse_state
from transcriptd.errors import LockHeld
from transcriptd.report import printable

if TYPE_CHECKING:
    from transcriptd.config import Config

_POLL_S = 0.25
_GRACE_S = 5.0  # for an answer that comes when the time is over
_LONGEST_S = 24 * 3600


@click.command(
    "sync",
    epilog="""\b
Examples:
  transcriptd sync                       before a shutdown, or after an outage
  transcriptd sync --seal                so that DuckDB or another tool sees it all
  transcriptd sync --timeout 300 --json | jq -r '.left[].session'
""",
)
@click.option("timeout_s", "--timeout", metavar="S", default=60.0, show_default=True,
              type=click.FloatRange(0, _LONGEST_S, min_open=True),
              help="How many seconds it may take.")  # fmt: skip
@click.option("--seal", is_flag=True,
              help="Also fold what was appended into each object, for readers that know only "
              "history.jsonl.")  # fmt: skip
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object.")
@config_option
def command(config: Config, timeout_s: float, *, seal: bool, as_json: bool) -> None:
    """Archive everything now, and name what could not be archived.

    Through the running daemon where there is one, else in this process. Exit status 0 if all is
    archived, 1 if not, 75 if a daemon runs that does not answer.
    """
    with Bar("archiving", shown=sys.stderr.isatty() and not as_json) as shown:
        bar = _Backlog(shown)
        outcome = _through_daemon(config, timeout_s, bar, seal=seal)
        where = ""
        if outcome is not None:
            looked = _looked_by_daemon(config)
        else:
            outcome, report = _alone(config, timeout_s, bar, seal=seal)
            looked = report["watch"]
            where = "" if config.store == "disabled" else f" in {report['archive']['place']}"
    if as_json:
        click.echo(json.dumps(outcome))
    else:
        _tell(outcome, looked, where)
    sys.exit(1 if outcome["left"] else 0)


def _through_daemon(
    config: Config, timeout_s: float, bar: _Backlog, *, seal: bool
) -> dict[str, Any] | None:
    """Have the running daemon do it; `None` where none answers."""
    socket = str(config.health.socket)
    done = Event()
    watching = Thread(target=_follow, args=(socket, bar, done), daemon=True)
    watching.start()
    try:
        answer = client.post(
            socket, f"/sync?timeout={timeout_s:g}&seal={seal:d}", timeout_s + _GRACE_S
        )
        outcome: dict[str, Any] = answer.json()
    except (OSError, ValueError):
        return None
    finally:
        done.set()
        watching.join()
    if "left" not in outcome:
        raise click.ClickException(f"the daemon answered: {outcome.get('error', answer.status)}")
    return outcome


def _looked_by_daemon(config: Config) -> list[dict[str, Any]]:
    """Return where the daemon looked for sessions; nothing where it has gone since."""
    try:
        looked: list[dict[str, Any]] = client.get(str(config.health.socket), "/status").json()[
            "watch"
        ]
    except (OSError, ValueError, KeyError):
        return []
    return looked


def _follow(socket: str, bar: _Backlog, done: Event) -> None:
    """Show how much is left until `done`."""
    while bar.is_shown and not done.wait(_POLL_S):
        try:
            bar.show(client.get(socket, "/status").json()["totals"]["backlog"])
        except (OSError, ValueError):
            return


def _alone(
    config: Config, timeout_s: float, bar: _Backlog, *, seal: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Do it in this process; return the outcome and what there is to report."""
    level = config.log.level if config.log.level == "error" else "warning"  # the rest is told below
    logs.configure(level, config.log.format)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_pass(config, timeout_s, bar, seal=seal))
    except LockHeld as error:
        click.echo(f"transcriptd: {error}, and nobody answers at {config.health.socket}", err=True)
        sys.exit(os.EX_TEMPFAIL)
    except OSError as error:
        refuse_state(config, error)
        raise


async def _pass(
    config: Config, timeout_s: float, bar: _Backlog, *, seal: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    from transcriptd.app import Daemon
    from transcriptd.report import Report

    async with Daemon(config, os.environ) as daemon:

        async def follow() -> None:
            while bar.is_shown and daemon.pool is not None:
                bar.show(daemon.pool.backlog)
                await asyncio.sleep(_POLL_S)

        following = asyncio.create_task(follow(), name="progress")
        try:
            result = await daemon.sync_once(timeout_s, seal=seal)
        finally:
            following.cancel()
        report = Report(daemon).document()
    return {"archived": result.archived, "left": list(result.left)}, report


def _tell(outcome: dict[str, Any], looked: list[dict[str, Any]], where: str) -> None:
    archived, left = outcome["archived"], outcome["left"]
    if not left and looked and not any(watch["files"] for watch in looked):
        roots = (root["path"] for watch in looked for root in watch["roots"])
        click.echo(f"No sessions found; looked in: {', '.join(roots)}")
        return
    if not left:
        click.echo(f"Everything is archived ({archived} now){where}.")
        return
    click.echo(f"{archived} archived now{where}; not archived: {len(left)}")
    for session in left:
        why = ": ".join(filter(None, (session.get("reason", ""), session.get("message", ""))))
        name = session["path"] if session.get("reason") == "root_unreadable" else session["session"]
        click.echo(f"  {printable(name)}  {session['state']}  {why}".rstrip())


class _Backlog:
    """How much is left of the most there was, on a bar."""

    def __init__(self, bar: Bar) -> None:
        self.is_shown = bar.is_shown
        self._bar = bar
        self._most = 0

    def show(self, waiting: int) -> None:
        self._most = max(self._most, waiting)
        if self._most:
            self._bar.show(self._most - waiting, self._most)
