"""`transcriptd run`: the daemon itself."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transcriptd import logs, memory
from transcriptd.cli.options import config_option
from transcriptd.errors import LockHeld

if TYPE_CHECKING:
    from collections.abc import Callable

    from transcriptd.config import Config


@click.command(
    "run",
    epilog="""\b
Examples:
  transcriptd run
  transcriptd run --config ~/transcriptd.toml
  transcriptd run --set log.format=console --set debounce.quiet=0.2
""",
)
@config_option
def command(config: Config) -> None:
    """Archive this machine's sessions until stopped (SIGTERM, SIGINT, SIGHUP).

    Without configuration the archive is a local directory; `transcriptd config check` says which.
    A stop archives what is left, for at most `drain` seconds; a second signal ends at once.
    """
    memory.use_one_heap()
    from transcriptd.serve import serve

    logs.configure(config.log.level, config.log.format)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            sys.exit(runner.run(serve(config, os.environ)))
    except LockHeld as error:
        click.echo(f"transcriptd: {error}", err=True)
        click.echo(f"hint: {error.hint}", err=True)
        sys.exit(os.EX_TEMPFAIL)
    except OSError as error:
        refuse_state(config, error)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return how to make uvloop's event loop; `None` means asyncio's, where uvloop is missing."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def refuse_state(config: Config, error: OSError) -> None:
    """Say that the state directory cannot be used, and exit; raise any other error again."""
    where = Path(os.fsdecode(error.filename)) if error.filename else Path("/")
    if config.state_dir not in (where, *where.parents) and where not in config.state_dir.parents:
        raise error
    if where == Path("/"):
        raise error
    click.echo(
        f"transcriptd: configuration: state_dir: {config.state_dir} cannot be used: "
        f"{error.strerror} ({where})",
        err=True,
    )
    sys.exit(os.EX_CONFIG)
