"""`transcriptd takeover`: let this machine's history stand where another machine's does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from transcriptd import client, logs
from transcriptd.cli.options import config_option
from transcriptd.cli.run import loop_factory, refuse_state
from transcriptd.errors import LockHeld, StoreError

if TYPE_CHECKING:
    from transcriptd.config import Config

_TIMEOUT_S = 60.0


@click.command(
    "takeover",
    epilog="""\b
Examples:
  transcriptd takeover --from old-laptop      go on here with what was that machine's
  transcriptd takeover 5f1c0a7e-…             only this session
  transcriptd takeover --all                  every session in conflict
""",
)
@click.argument("sessions", metavar="[SESSION]...", nargs=-1)
@click.option("machine", "--from", metavar="MACHINE", help="Only what is this machine's.")
@click.option("everything", "--all", is_flag=True, help="Every session in conflict.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object.")
@config_option
def command(
    config: Config,
    sessions: tuple[str, ...],
    machine: str | None,
    *,
    everything: bool,
    as_json: bool,
) -> None:
    """Take sessions over that another machine archives, too.

    For sessions in state `conflict` or `behind`. Their history on this machine becomes the current
    generation in the archive with their next turn; the other machine's stays as a finished
    generation. Nothing is lost. If the other machine still writes, its next change goes below
    `.conflicts/`. Exit status 0 if something was taken over, 1 if there was nothing to take.
    """
    if not sessions and machine is None and not everything:
        raise click.UsageError("name sessions, a machine with --from, or --all")
    taken = _through_daemon(config, sessions, machine)
    if taken is None:
        taken = _alone(config, sessions, machine)
    if as_json:
        click.echo(json.dumps({"taken": taken}))
    elif not taken:
        click.echo("Nothing to take over: no such session is in conflict.")
    for each in taken if not as_json else ():
        click.echo(f"{each['session']}  taken over from {', '.join(each['writers'])}")
    sys.exit(0 if taken else 1)


def _through_daemon(
    config: Config, sessions: tuple[str, ...], machine: str | None
) -> list[dict[str, Any]] | None:
    """Have the running daemon do it; `None` where none answers."""
    asked = [("session", each) for each in sessions]
    if machine is not None:
        asked.append(("from", machine))
    try:
        answer = client.post(
            str(config.health.socket), f"/takeover?{urlencode(asked)}", _TIMEOUT_S
        ).json()
    except (OSError, ValueError):
        return None
    if "taken" not in answer:
        raise click.ClickException(f"the daemon answered: {answer.get('error', answer)}")
    taken: list[dict[str, Any]] = answer["taken"]
    return taken


def _alone(config: Config, sessions: tuple[str, ...], machine: str | None) -> list[dict[str, Any]]:
    logs.configure("warning", config.log.format)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_take(config, sessions, machine))
    except LockHeld as error:
        click.echo(f"transcriptd: {error}, and nobody answers at {config.health.socket}", err=True)
        sys.exit(os.EX_TEMPFAIL)
    except StoreError as error:
        hint = f"\n{error.hint}" if error.hint else ""
        raise click.ClickException(f"{error}{hint}") from None
    except OSError as error:
        refuse_state(config, error)
        raise


async def _take(
    config: Config, sessions: tuple[str, ...], machine: str | None
) -> list[dict[str, Any]]:
    from transcriptd.app import Daemon

    async with Daemon(config, os.environ) as daemon:
        taken = await daemon.take_over(sessions, machine)
        await daemon.sync_once(_TIMEOUT_S)
        return [{"session": t.session, "path": t.path, "writers": t.writers} for t in taken]
