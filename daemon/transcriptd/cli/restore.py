"""`transcriptd restore`: sessions from the archive, as the files that their agent loads."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transcriptd import logs
from transcriptd.choice import Choice, Chooser
from transcriptd.cli.config import archive_line, archive_place
from transcriptd.cli.ending import told
from transcriptd.cli.options import config_option
from transcriptd.cli.progress import Bar
from transcriptd.cli.restored import claimant, document, is_well, sources_of, tell
from transcriptd.cli.run import loop_factory
from transcriptd.journal import Journal
from transcriptd.projects import KNOWN
from transcriptd.remap import Remap
from transcriptd.restore import Fate, Order, Outcome, Restorer
from transcriptd.stores import open_store
from transcriptd.wanted import DOCUMENTS

if TYPE_CHECKING:
    from transcriptd.config import Config

_INTERRUPTED = (
    "Interrupted. What was restored stays, and nothing half-written is left; the same command "
    "goes on where this one ended."
)


class _Moved(click.ParamType[tuple[str, str]]):
    name = "OLD=NEW"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        old, separator, new = str(value).partition("=")
        try:
            Remap([(old, new)])
        except ValueError as error:
            self.fail(f"{error}" if separator else f"expected OLD=NEW, got {value!r}", param, ctx)
        return old, new


@click.command(
    "restore",
    epilog="""\b
Examples:
  transcriptd restore --all                          CodeTether's, and this machine's of others
  transcriptd restore --machine old-laptop           what Claude Code, Codex and others had there
  transcriptd restore 5f1c0a7e-…                     one that was deleted, with its subagents
  transcriptd restore --all --to ~/sessions-copy     somewhere else, to look at them
  transcriptd restore --agent claude --project ~/src/app --dry-run
  transcriptd restore --machine old --project /home/ann/app --map /home/ann=/Users/ann
  transcriptd restore 5f1c0a7e-… --generation 0 --force   what it was before it was undone
  transcriptd restore history/.conflicts/…/….jsonl --to .    a second machine's history
  transcriptd restore --all --json | jq -r '.sessions[] | select(.fate != "restored") | .session'
""",
)
@click.argument("sessions", metavar="[SESSION]...", nargs=-1)
@click.option("every", "--all", is_flag=True,
              help="Every CodeTether session in the archive, and this machine's mirrors of the "
              "other agents.")  # fmt: skip
@click.option("--machine", metavar="NAME",
              help="The mirrors of this machine instead of this one's; with --all, CodeTether's "
              "sessions as well.")  # fmt: skip
@click.option("agents", "--agent", metavar="NAME", multiple=True,
              help="Only this agent's sessions. Can be repeated.")  # fmt: skip
@click.option("--project", metavar="DIR",
              help="Only sessions about this directory or those below it, by what CodeTether's, "
              "Claude Code's and Codex's say; or the name of Claude Code's directory.")  # fmt: skip
@click.option("--to", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
              help="Write DIR/<id>.json, and mirrors below DIR/<agent>/.  "
              "[default: where each agent looks for them]")  # fmt: skip
@click.option("moved", "--map", metavar="OLD=NEW", type=_Moved(), multiple=True,
              help="A directory that lives elsewhere now: see above. Can be repeated.")  # fmt: skip
@click.option("--generation", metavar="N", type=click.IntRange(min=0),
              help="This generation.  [default: the current one]")  # fmt: skip
@click.option("--force", is_flag=True,
              help="Replace files also where they hold more; those are kept beside, as "
              "<name>.before-restore.")  # fmt: skip
@click.option("is_dry", "--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object.")
@config_option
def command(
    config: Config,
    *,
    sessions: tuple[str, ...],
    machine: str | None,
    agents: tuple[str, ...],
    project: str | None,
    to: Path | None,
    moved: tuple[tuple[str, str], ...],
    generation: int | None,
    every: bool,
    force: bool,
    is_dry: bool,
    as_json: bool,
) -> None:
    """Bring sessions back from the archive, as the files that their agents load.

    SESSION is a session's id, or its key in the archive; what belongs to it, such as subagents,
    comes with it. CodeTether's sessions are rebuilt, all others are written byte for byte, with the
    time of this moment. A session goes where its agent looks for it: CodeTether's where its file
    stands or last stood on this machine, else into the workspace it is about, where that exists.
    The archive is told that this machine goes on with its own. With --to nothing is written to it.

    A file that holds what the archive has is left alone, so after an interruption the same command
    goes on. One that holds less is replaced. One that is longer, that is newer, that is a
    CodeTether session with other messages, or that cannot be read is kept and named. A mirrored
    file that differs and is older gives way, and is kept beside. A file that differs from the
    archive by its masks alone is left as it is.

    --map: of Claude Code the project's directory and each record's `cwd`, of Codex the `cwd` from
    which it resumes, of CodeTether the workspace. All else stays, and so does the archive. What is
    written then differs from it, so the daemon archives it as what it is: Claude Code's under its
    new directory, as a new stream; Codex's as the next generation of the same.

    Exit status 0 if all are there now, 1 if not.
    """
    logs.configure("warning")
    choice = Choice(
        tuple(dict.fromkeys(sessions)), every, machine, frozenset(agents), project, generation
    )
    _require_sense(choice)
    if config.store == "disabled":
        raise click.ClickException(archive_line(config))
    try:
        remap = Remap(moved) if moved else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--map") from None
    order = Order(to.absolute() if to else None, force, remap, is_dry)
    outcomes: list[Outcome] = []
    with (
        told(interrupted=_INTERRUPTED),
        Bar("restoring", shown=sys.stderr.isatty() and not as_json) as bar,
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        notes = runner.run(_restore(config, choice, order, outcomes, bar))
    if not outcomes:
        raise click.ClickException(_nothing(config, choice, notes))
    if as_json:
        click.echo(json.dumps(document(outcomes, notes)))
    else:
        tell(outcomes, notes, is_dry=is_dry)
    sys.exit(0 if is_well(outcomes) else 1)


def _require_sense(choice: Choice) -> None:
    several = choice.every or choice.machine or choice.agents or choice.project
    if not choice.names and not several:
        raise click.UsageError("name sessions, or say --all, --machine, --agent or --project")
    if choice.names and (choice.every or choice.project):
        raise click.UsageError("sessions are named, or chosen by --all or --project, not both")
    if choice.generation is not None and not choice.names:
        raise click.UsageError("--generation is for sessions that are named")
    if choice.machine and choice.agents == {DOCUMENTS}:
        raise click.UsageError("CodeTether's sessions belong to no machine: leave out --machine")
    silent = sorted(choice.agents - set(KNOWN))
    if choice.project and silent:
        raise click.UsageError(
            f"the sessions of {', '.join(silent)} say no directory: no --project"
        )


async def _restore(
    config: Config, choice: Choice, order: Order, outcomes: list[Outcome], bar: Bar
) -> dict[str, str]:
    """Restore what is chosen; return what is to be said once."""
    store = open_store(config)
    try:
        chosen = await Chooser(store, config.prefix, config.machine).choose(choice)
        total = len(chosen.wanted) + len(chosen.missing)
        bar.show(0, total)

        def report(outcome: Outcome) -> None:
            outcomes.append(outcome)
            bar.show(len(outcomes), total)

        for name, message in chosen.missing.items():
            report(Outcome(name, Fate.FAILED, None, "not_archived", message))
        restorer = Restorer(
            store,
            config.prefix,
            sources_of(config, os.environ),
            Journal(config.state_dir / "journal.db"),
            order,
            names=None if order.to or order.is_dry else claimant(config),
            max_document=config.max_document,
            memory_budget=config.memory_budget,
        )
        await restorer.restore(chosen.wanted, report)
    finally:
        await store.close()
    others = {"others": ", ".join(chosen.others)} if choice.every and chosen.others else {}
    return restorer.notes | (others if choice.machine is None else {})


def _nothing(config: Config, choice: Choice, notes: dict[str, str]) -> str:
    narrowed = any((choice.machine, choice.agents, choice.project))
    what = "There is no session of that kind" if narrowed else "There is no session"
    others = notes.get("others")
    if not others:
        return f"{what} in {archive_place(config)}."
    first = others.partition(",")[0]
    return (
        f"{what} in {archive_place(config)} that is CodeTether's or of this machine, "
        f"{config.machine}. It has mirrored sessions of: {others}.\n"
        f"Bring those back with: transcriptd restore --machine {first}"
    )
