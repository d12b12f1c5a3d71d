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
from transcriptd.config.agents import SHIPPED
from transcriptd.config.reference import parse_size
from transcriptd.errors import StoreError, TranscriptdError
from transcriptd.hydrate import Bounds, Earlier, Found, Hydrator
from transcriptd.journal import Journal
from transcriptd.report import printable
from transcriptd.restore import Order, Outcome, Restorer
from transcriptd.stores import open_store

if TYPE_CHECKING:
    from transcriptd.config import Config
    from transcriptd.stores import Store

_REASON_S = 0.5  # how long it is asked why it took too long, after the time is over


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
@click.option("agents", "--agent", metavar="NAME", multiple=True,
              help="Only this agent: codetether, claude, codex, zeroclaw, or the name of one of "
              "`[[sources]]`. Can be repeated.  "
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

    Exit status 0, also where the archive is empty, cannot be reached, has nothing of a machine of
    this name but of others, or the time is over: a warning says so. Status 1 only
    with --strict; 2 and 78 as everywhere.
    """
    logs.configure("warning")
    if config.store == "disabled":
        _warn(archive_line(config), strict=strict)
    hydration = _Hydration(config, _meant(config, agents), str(workspace or Path.cwd()))
    with told(interrupted="Interrupted. What was restored stays."):
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(hydration.run(Bounds(max_sessions, max_bytes), timeout))
        except TimeoutError:
            problem = f"not all within {timeout:g} s{hydration.reason}"
        except (TranscriptdError, OSError, ValueError) as error:
            problem = str(error)
        else:
            problem = hydration.doubt()
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
        self.reason = ""
        """Why it took too long, as far as the archive says, to be added to that."""

    async def run(self, bounds: Bounds, timeout: float) -> None:  # noqa: ASYNC109 - of all of it
        """Do all of it. Raises `TimeoutError`, `TranscriptdError`."""
        store = open_store(self._config)
        try:
            async with asyncio.timeout(timeout):
                await self._hydrate(store, bounds)
        except TimeoutError:
            self.reason = await self._why(store)
            raise
        finally:
            await store.close()

    async def _why(self, store: Store) -> str:
        """Ask the archive once more, to say what is wrong with it."""
        try:
            async with asyncio.timeout(_REASON_S):
                async for _ in store.list(self._config.prefix):
                    break
        except TimeoutError:
            return ": the archive does not answer"
        except StoreError as error:
            return f": {error}"
        return ""

    def doubt(self) -> str:
        """Say what may be a mistake where nothing came back."""
        others = self._found.strangers if self._found else []
        if not others:
            return ""
        return (
            f"nothing is stored under the name of this machine, {self._config.machine} "
            f"(TRANSCRIPTD_MACHINE); the archive has sessions of: {', '.join(others)}"
        )

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
        self._found = await hydrator.find(self._agents, self._workspace, bounds)
        await hydrator.restore(self._found.wanted, self.outcomes.append)
        self._notes = restorer.notes

    def tell(self) -> None:
        found = self._found or Found([])
        tell(self.outcomes, self._notes, there=found.there)
        if found.left:
            click.echo(f"{found.left:,} more are in the archive (--max-sessions, --max-bytes)")
        if found.elsewhere:
            click.echo(
                f"{len(found.elsewhere):,} in the archive are about other directories than "
                f"{printable(Path(self._workspace))} (--workspace DIR)"
            )

    def document(self, problem: str) -> dict[str, object]:
        said = document(self.outcomes, self._notes)
        found = self._found or Found([])
        return {
            **said,
            "there": found.there,
            "left": found.left,
            "elsewhere": len(found.elsewhere),
            "problem": problem,
        }


def _meant(config: Config, agents: tuple[str, ...]) -> frozenset[str]:
    """Return the agents that were named, else all that are enabled."""
    enabled = [each for each in SHIPPED if getattr(config.sources, each).enabled]
    enabled += [other.name for other in config.sources.others if other.enabled]
    for each in agents:
        if each not in {*SHIPPED, *enabled}:
            message = f"no agent of the name {each} is enabled; there are: {', '.join(enabled)}"
            raise click.BadParameter(message, param_hint="--agent")
    return frozenset(agents or enabled)
