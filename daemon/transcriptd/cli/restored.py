"""What became of restored sessions, told to a person or as JSON, and what restoring verbs share."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from transcriptd import identity
from transcriptd.cli.units import many
from transcriptd.layout import Names
from transcriptd.report import printable
from transcriptd.restore import Fate, Outcome
from transcriptd.sources import open_sources
from transcriptd.sources.codetether import CodeTether

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from transcriptd.config import Config
    from transcriptd.sources import Source

MOST_ROWS = 30
_NOTES = {
    "unclaimed": "The archive could not be told that this machine goes on with these sessions; "
    "the daemon will find out by comparing",
    "not_indexed": "CodeTether's index of sessions could not be written",
    "others": "The archive also has mirrored sessions of other machines (--machine NAME)",
}
_MAY_PASS = frozenset(
    {"not_tried", "not_written", "moved_on", "store_unreachable", "store_slow", "store_failing"}
)
_ALARMING = {
    Fate.KEPT: "kept as they are",
    Fate.PARTIAL: "restored in part",
    Fate.FAILED: "not restored",
}


def claimant(config: Config) -> Names | None:
    """Say who claims; `None` where this machine cannot remember who it is."""
    try:
        config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Names(config.prefix, identity.writer(config.state_dir, config.machine))
    except OSError as error:
        message = f"{config.state_dir}: {error.strerror}; sessions are restored without a claim"
        click.echo(f"transcriptd: {message}", err=True)
        return None


def sources_of(config: Config, environ: Mapping[str, str]) -> dict[str, Source]:
    """Return the agents to which sessions can go back; CodeTether is always among them."""
    documents = CodeTether(config.sources.codetether.roots, environ)
    return {documents.name: documents, **open_sources(config, environ)}


def is_well(outcomes: Iterable[Outcome]) -> bool:
    """Say whether all are there, or would be."""
    return not any(outcome.fate in _ALARMING for outcome in outcomes)


def document(outcomes: list[Outcome], notes: Mapping[str, str]) -> dict[str, Any]:
    """Return all of it, to be encoded."""
    counts = Counter(outcome.fate for outcome in outcomes)
    return {
        **{fate.value: counts[fate] for fate in Fate},
        "notes": [{"reason": reason, "message": message} for reason, message in notes.items()],
        "sessions": [
            {
                "session": outcome.session_id,
                "agent": outcome.agent,
                "fate": outcome.fate.value,
                "path": printable(outcome.path) if outcome.path else None,
                "reason": outcome.reason,
                "message": outcome.message,
                "generation": outcome.generation,
                "records": outcome.records,
                "bytes": outcome.size,
                "document": outcome.document,
                "kept_as": printable(outcome.aside) if outcome.aside else None,
                "unmapped": outcome.unmapped,
            }
            for outcome in outcomes
        ],
    }


def tell(
    outcomes: list[Outcome], notes: Mapping[str, str], *, is_dry: bool = False, there: int = 0
) -> None:
    """Print how many there are of each kind, and a line for each of which there is more to say.

    `there` is how many are there already beside those that came to be restored.
    """
    counts = Counter(outcome.fate for outcome in outcomes)
    first = Fate.PLANNED if is_dry else Fate.RESTORED
    parts = [
        f"{counts[first]:,} {'to be restored' if is_dry else 'restored'}",
        f"{counts[Fate.SKIPPED] + there:,} already there",
    ]
    parts += [f"{counts[fate]:,} {words}" for fate, words in _ALARMING.items() if counts[fate]]
    click.echo(", ".join(parts))
    rows = [row for outcome in outcomes if (row := _row(outcome, alone=len(outcomes) == 1))]
    for row in rows[:MOST_ROWS]:
        click.echo(f"  {row}")
    if len(rows) > MOST_ROWS:
        click.echo(f"  … and {len(rows) - MOST_ROWS} more; --json names all")
    if counts[Fate.KEPT]:
        click.echo("--force replaces what was kept; the files are then kept beside.")
    if any(outcome.reason in _MAY_PASS for outcome in outcomes):
        click.echo("The same command goes on where this one ended: what is there is left alone.")
    for reason, message in notes.items():
        click.echo(f"{_NOTES[reason]}: {message}", err=True)


def _row(outcome: Outcome, *, alone: bool) -> str:
    """Say what became of a session, where there is something to say."""
    place = printable(outcome.path) if outcome.path else ""
    what = [outcome.message]
    if outcome.fate in {Fate.RESTORED, Fate.PARTIAL}:
        what += _written(outcome, alone=alone)
    elif outcome.fate is Fate.PLANNED:
        what.append("would be restored")
    elif outcome.fate is not Fate.SKIPPED:
        what.insert(0, outcome.fate.value)
    elif alone:
        what.append("it holds what the archive has")
    said = "; ".join(filter(None, what))
    return "  ".join(filter(None, [outcome.session_id, place, said])) if said else ""


def _written(outcome: Outcome, *, alone: bool) -> list[str]:
    what = []
    if outcome.document not in {"", "archived"}:
        what.append(
            f"its session.json is {outcome.document} in the archive: all but the "
            "messages (title, workspace, times) is made up"
        )
    if outcome.aside:
        what.append(f"what stood there is now {printable(outcome.aside)}")
    if outcome.unmapped:
        what.append(f"{outcome.unmapped:,} lines above 1 MiB were not looked at for --map")
    if alone:
        unit = "message" if outcome.document else "line"
        what.append(many(outcome.records, unit, f"{unit}s"))
    return what
