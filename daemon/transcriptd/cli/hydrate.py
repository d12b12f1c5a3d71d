"""`transcriptd hydrate`: the newest sessions back onto a machine that starts empty."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transcriptd import logs
from transcriptd.cli.config import archive_line
from transcriptd.cli.ending import told
from transcriptd.cli.options import config_option
from transcriptd.cli.restored import claimant, document, is_well, sources_of, tell
from transcriptd.cli.run import loop_factory
from transcriptd.config.reference import parse_size
from transcriptd.errors import TranscriptdError
from transcriptd.hydrate import Bounds, Earlier, Hydrator
from transcriptd.journal import Journal
from transcriptd.restore import Order, Outcome, Restorer
from transcriptd.stores import open_store

if TYPE_CHECKING:
    from transcriptd.config import Config
    from transcriptd.hydrate import Found
    from transcriptd.stores import Store

AGENTS = ("codetether", "claude", "codex", "zeroclaw")


class _Size(click.ParamType[int]):
    name = "SIZE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        try:
            return parse_size(str(value))
        except ValueError:
            self.fail(f"expected a size such as 512MiB, got {value!r}", param, ctx)


@click.command(
    "hydrate",
    epilog="""\b
Examples:
  transcriptd hydrate                                 before any agent of this directory starts
  transcriptd hydrate --agent claude --workspace /work --max-sessions 5
  transcriptd hydrate --timeout 20 --strict           and do not start without them
""",
)
@click.option("agents", "--agent", metavar="NAME", type=click.Choice(AGENTS), multiple=True,
              help="Only this agent: codetether, claude, codex or zeroclaw. Can be repeated.  "
              "[default: all that are enabled]")  # fmt: skip
@click.option("--workspace", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
              help="Only sessions about this directory and those below it, of agents whose "
              "sessions say one.  [default: the current directory]")  # fmt: skip
@click.option("--max-sessions", metavar="N", type=click.IntRange(min=1), default=20,
              show_default=True, help="No more than the N newest ones.")  # fmt: skip
@click.option("--max-bytes", metavar="SIZE", type=_Size(), default="512MiB", show_default=True,
              help="No more than this; a session that does not fit is left out.")  # fmt: skip
@click.option("--timeout", metavar="S", type=click.FloatRange(min=0, min_open=True), default=60.0,
              show_default=True, help="Seconds it may take.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Exit status 1 where not all of it went well.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object.")
@config_option
def command(
    config: Config,
    *,
    agents: tuple[str, ...],
    workspace: Path | None,
    max_sessions: int,
    max_bytes: int,
    timeout: float,
    strict: bool,
    as_json: bool,
) -> None:
    """Restore the newest sessions that are missing on this machine, and let the agent start.

    For a pod that starts empty: run it before the agent and before the daemon, with the same
    `machine` as ever; the daemon then goes on with the same streams. What stands already is left
    alone. Only this machine's own sessions come back: its mirrors, and what it wrote last of
    CodeTether's; `transcriptd restore` brings others.

    Exit status 0, also where the archive is empty, cannot be reached, or the time is over: a
    warning says so. Status 1 only with --strict; 2 and 78 as everywhere.
    """
    logs.configure("warning")
    if config.store == "disabled":
        _warn(archive_line(config), strict=strict)
    hydration = _Hydration(config, frozenset(agents), str(workspace or Path.cwd()))
    with told(interrupted="Interrupted. What was restored stays."):
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(hydration.run(Bounds(max_sessions, max_bytes), timeout))
        except TimeoutError:
            problem = f"not all within {timeout:g} s"
        except (TranscriptdError, OSError, ValueError) as error:
            problem = str(error)
        else:
            problem = ""
    if as_json:
        click.echo(json.dumps(hydration.document(problem)))
    else:
        hydration.tell()
    if problem:
        _warn(problem, strict=strict)
    sys.exit(1 if strict and not is_well(hydration.outcomes) else 0)


def _warn(problem: str, *, strict: bool) -> None:
    click.echo(f"transcriptd: hydrate: {problem}; the agent starts without the rest", err=True)
    sys.exit(1 if strict else 0)


class _Hydration:
    """One run; what is known of it so far."""

    def __init__(self, config: Config, agents: frozenset[str], workspace: str) -> None:
        self._config = config
        self._agents = agents
        self._workspace = workspace
        self._found: Found | None = None
        self._notes: dict[str, str] = {}
        self.outcomes: list[Outcome] = []

    async def run(self, bounds: Bounds, timeout: float) -> None:  # noqa: ASYNC109 - of all of it
        """Do all of it. Raises `TimeoutError`, `TranscriptdError`."""
        store = open_store(self._config)
        try:
            async with asyncio.timeout(timeout):
                await self._hydrate(store, bounds)
        finally:
            await store.close()

    async def _hydrate(self, store: Store, bounds: Bounds) -> None:
        config = self._config
        sources = sources_of(config, os.environ)
        restorer = Restorer(
            store,
            config.prefix,
            sources,
            Journal(config.state_dir / "journal.db"),
            Order(),
            names=claimant(config),
            max_document=config.max_document,
            memory_budget=config.memory_budget,
            clock=Earlier(),
        )
        hydrator = Hydrator(store, config.prefix, config.machine, restorer)
        agents = self._agents or frozenset(each for each in AGENTS if _is_enabled(config, each))
        self._found = await hydrator.find(agents, self._workspace, bounds)
        await hydrator.restore(self._found.wanted, self.outcomes.append)
        self._notes = restorer.notes

    def tell(self) -> None:
        tell(self.outcomes, self._notes)
        if self._found and self._found.left:
            click.echo(
                f"{self._found.left:,} more are in the archive (--max-sessions, --max-bytes)"
            )

    def document(self, problem: str) -> dict[str, object]:
        said = document(self.outcomes, self._notes)
        there, left = (self._found.there, self._found.left) if self._found else (0, 0)
        return {**said, "there": there, "left": left, "problem": problem}


def _is_enabled(config: Config, agent: str) -> bool:
    return bool(getattr(config.sources, agent).enabled)
