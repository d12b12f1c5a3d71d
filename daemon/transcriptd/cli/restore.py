"""`transcriptd restore`: sessions from the archive, as the files that their agent loads."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transcriptd import identity, logs
from transcriptd.cli.config import archive_line, archive_place
from transcriptd.cli.ending import told
from transcriptd.cli.options import config_option
from transcriptd.cli.progress import Bar
from transcriptd.cli.run import loop_factory
from transcriptd.journal import Journal
from transcriptd.layout import Names
from transcriptd.report import printable
from transcriptd.restore import Fate, Outcome, Restorer
from transcriptd.sources.codetether import CodeTether
from transcriptd.stores import open_store
from transcriptd.wanted import everything, wanted

if TYPE_CHECKING:
    from transcriptd.config import Config
    from transcriptd.wanted import Wanted

_MOST_ROWS = 30
_NOTES = {
    "unclaimed": "The archive could not be told that this machine goes on with these sessions; "
    "the daemon will find out by comparing",
    "not_indexed": "CodeTether's index of sessions could not be written",
}


@click.command(
    "restore",
    epilog="""\b
Examples:
  transcriptd restore --all                          on a new laptop: every session
  transcriptd restore 5f1c0a7e-…                     one that was deleted
  transcriptd restore --all --to ~/sessions-copy     somewhere else, to look at them
  transcriptd restore 5f1c0a7e-… --generation 0 --force   what it was before it was undone
  transcriptd restore history/.conflicts/…/….jsonl --to .    a second machine's history
  transcriptd restore --all --json | jq -r '.sessions[] | select(.fate != "restored") | .session'
""",
)
@click.argument("sessions", metavar="[SESSION]...", nargs=-1)
@click.option("every", "--all", is_flag=True, help="Every session in the archive.")
@click.option("--to", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
              help="Write DIR/<id>.json.  [default: where CodeTether looks for it]")  # fmt: skip
@click.option("--generation", metavar="N", type=click.IntRange(min=0),
              help="This generation.  [default: the current one]")  # fmt: skip
@click.option("--force", is_flag=True,
              help="Replace files also where they hold more; those are kept beside, as "
              "<id>.json.before-restore.")  # fmt: skip
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object.")
@config_option
def command(
    config: Config,
    sessions: tuple[str, ...],
    to: Path | None,
    generation: int | None,
    *,
    every: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Rebuild session files from the archive, as CodeTether loads them.

    SESSION is a session's id, or the key of its history in the archive. A session goes where its
    file stands or last stood on this machine; else into the workspace it is about, where that
    exists; else into CodeTether's data directory. The archive is told that this machine goes on
    with it. With --to nothing is written to the archive.

    A file that holds the messages of the archive is left alone, so after an interruption the same
    command goes on. One that holds fewer of them is replaced. One that is longer (it holds more
    messages), that holds other messages, that is newer (fewer messages, but a later `updated_at`)
    or that cannot be read is kept and named.

    Exit status 0 if all are there now, 1 if not.
    """
    logs.configure("warning")
    if every == bool(sessions):
        raise click.UsageError("name sessions, or say --all")
    if every and generation is not None:
        raise click.UsageError("--generation is for sessions that are named")
    if config.store == "disabled":
        raise click.ClickException(archive_line(config))
    try:
        named = [wanted(config.prefix, each, generation) for each in dict.fromkeys(sessions)]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="SESSION") from None
    to = to.absolute() if to else None
    outcomes: list[Outcome] = []
    with (
        told(),
        Bar("restoring", shown=sys.stderr.isatty() and not as_json) as bar,
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        notes = runner.run(_restore(config, named, to, outcomes, bar, force=force))
    if not outcomes:
        raise click.ClickException(f"There is no session in {archive_place(config)}.")
    if as_json:
        click.echo(json.dumps(_document(outcomes, notes)))
    else:
        _tell(outcomes, notes)
    counts = _counts(outcomes)
    sys.exit(1 if counts[Fate.KEPT] or counts[Fate.FAILED] else 0)


async def _restore(
    config: Config,
    named: list[Wanted],
    to: Path | None,
    outcomes: list[Outcome],
    bar: Bar,
    *,
    force: bool,
) -> dict[str, str]:
    """Restore what is named, or everything; return what is to be said once."""
    store = open_store(config)
    restorer = Restorer(
        store,
        config.prefix,
        CodeTether(config.sources.codetether.roots, os.environ),
        Journal(config.state_dir / "journal.db"),
        names=None if to else _names(config),
        to=to,
        force=force,
        max_document=config.max_document,
        memory_budget=config.memory_budget,
    )

    def report(outcome: Outcome) -> None:
        outcomes.append(outcome)
        bar.show(len(outcomes), len(named))

    try:
        named = named or await everything(store, config.prefix)
        bar.show(0, len(named))
        await restorer.restore(named, report)
    finally:
        await store.close()
    return restorer.notes


def _names(config: Config) -> Names | None:
    """Say who claims; `None` where this machine cannot remember who it is."""
    try:
        config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Names(config.prefix, identity.writer(config.state_dir, config.machine))
    except OSError as error:
        message = f"{config.state_dir}: {error.strerror}; sessions are restored without a claim"
        click.echo(f"transcriptd: {message}", err=True)
        return None


def _counts(outcomes: list[Outcome]) -> Counter[Fate]:
    return Counter(outcome.fate for outcome in outcomes)


def _document(outcomes: list[Outcome], notes: dict[str, str]) -> dict[str, Any]:
    counts = _counts(outcomes)
    return {
        **{fate.value: counts[fate] for fate in Fate},
        "notes": [{"reason": reason, "message": message} for reason, message in notes.items()],
        "sessions": [
            {
                "session": outcome.session_id,
                "fate": outcome.fate.value,
                "path": printable(outcome.path) if outcome.path else None,
                "reason": outcome.reason,
                "message": outcome.message,
                "generation": outcome.generation,
                "records": outcome.records,
                "bytes": outcome.size,
                "document": outcome.document,
                "kept_as": printable(outcome.aside) if outcome.aside else None,
            }
            for outcome in outcomes
        ],
    }


def _tell(outcomes: list[Outcome], notes: dict[str, str]) -> None:
    counts = _counts(outcomes)
    several = {"restored": Fate.RESTORED, "already there": Fate.SKIPPED}
    alarming = {"kept as they are": Fate.KEPT, "not restored": Fate.FAILED}
    parts = [f"{counts[fate]:,} {word}" for word, fate in several.items()]
    parts += [f"{counts[fate]:,} {word}" for word, fate in alarming.items() if counts[fate]]
    click.echo(", ".join(parts))
    rows = [row for outcome in outcomes if (row := _row(outcome, alone=len(outcomes) == 1))]
    for row in rows[:_MOST_ROWS]:
        click.echo(f"  {row}")
    if len(rows) > _MOST_ROWS:
        click.echo(f"  … and {len(rows) - _MOST_ROWS} more; --json names all")
    if counts[Fate.KEPT]:
        click.echo("--force replaces what was kept; the files are then kept beside.")
    for reason, message in notes.items():
        click.echo(f"{_NOTES[reason]}: {message}", err=True)


def _row(outcome: Outcome, *, alone: bool) -> str:
    """Say what became of a session, where there is something to say."""
    place = printable(outcome.path) if outcome.path else ""
    what = [outcome.message]
    if outcome.fate is Fate.RESTORED:
        if outcome.document != "archived":
            what.append(f"its session.json is {outcome.document} in the archive: all but the "
                        "messages (title, workspace, times) is made up")  # fmt: skip
        if outcome.aside:
            what.append(f"what stood there is now {printable(outcome.aside)}")
        if alone:
            what.append(f"{outcome.records:,} messages")
    elif outcome.fate is not Fate.SKIPPED:
        what.insert(0, outcome.fate.value)
    elif alone:
        what.append("it holds what the archive has")
    said = "; ".join(filter(None, what))
    return f"{outcome.session_id}  {place}  {said}" if said else ""
