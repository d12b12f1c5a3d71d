"""What came of a scan, told to a person in the end or as JSON while it goes; and the rules."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from transcriptd.cli.listed import shown
from transcriptd.cli.units import many, size
from transcriptd.roster import printable
from transcriptd.totals import in_words

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from transcriptd.finds import Find, Subject
    from transcriptd.redaction import RuleSet

_MOST_ROWS = 100
_MOST_PLACES = 8
_WIDEST = 64
_BESIDE = "session.json"
_REVOKE = 'Revoke what is still valid. `redaction = "mask"` masks what is archived from then on.'


@dataclass(slots=True)
class _Row:
    """What one rule found in one file: how much, and where the first of it is."""

    name: str
    rule: str
    count: int = 0
    places: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Scanned:
    """What was found and what could not be looked at, as it comes in.

    Holds places, never a match; of that a hint where one was asked for.
    """

    as_json: bool
    rules: Counter[str] = field(default_factory=Counter)
    looked_at: int = 0
    read_bytes: int = 0
    missed: list[str] = field(default_factory=list)
    _rows: dict[tuple[Path, str], _Row] = field(default_factory=dict)
    _found_in: set[Path] = field(default_factory=set)
    _kinds: set[str] = field(default_factory=set)

    @property
    def is_clean(self) -> bool:
        """Whether all was looked at and nothing was found."""
        return not self.rules and not self.missed

    def find(self, subject: Subject, find: Find) -> None:
        """Take in a finding."""
        self.rules[find.rule] += 1
        path = subject.session.path
        self._found_in.add(path)
        self._kinds.add(_kind(subject))
        if self.as_json:
            hinted = {"shown": find.hint} if find.hint else {}
            _print(rule=find.rule, **_names(subject), line=find.line, **hinted)
            return
        row = self._rows.setdefault((path, find.rule), _Row(_name(subject), find.rule))
        row.count += 1
        if len(row.places) < _MOST_PLACES:
            place = _BESIDE if find.line is None else str(find.line)
            row.places.append(f"{place} {shown(find.hint)}" if find.hint else place)

    def finish(self, subject: Subject) -> None:
        """Take in that all of it was looked at."""
        self._kinds.add(_kind(subject))
        self.looked_at += 1
        self.read_bytes += subject.size

    def miss(self, what: Subject | Path | str, reason: str, message: str) -> None:
        """Take in that something could not be looked at, or not to its end."""
        if isinstance(what, str | os.PathLike):
            names = {"session": "", "source": "", "path": printable(what)}
        else:
            names = _names(what)
        self.missed.append(f"{names['path']}: {message}")
        if self.as_json:
            _print(**names, reason=reason, message=message)

    def tell(self, rules: int) -> None:
        """Print what came of it; by so many rules it was looked for."""
        if self.as_json:
            _print(
                summary={
                    "findings": self.rules.total(),
                    "rules": dict(self.rules),
                    "found_in": len(self._found_in),
                    "looked_at": self.looked_at,
                    "bytes": self.read_bytes,
                    "not_looked_at": len(self.missed),
                }
            )
            return
        if self._rows:
            for line in self._table():
                click.echo(line)
            click.echo()
        for missed in self.missed:
            click.echo(f"transcriptd: not looked at: {shown(missed)}", err=True)
        click.echo(self._last_line(rules))
        if self.rules and "session" in self._kinds:
            click.echo(_REVOKE)

    def _table(self) -> Iterator[str]:
        rows = list(self._rows.values())
        most = sorted(range(len(rows)), key=lambda n: -rows[n].count)[:_MOST_ROWS]
        kept = [rows[n] for n in sorted(most)]
        title = "/".join(sorted(self._kinds, reverse=True)).upper() or "FILE"
        name_width = min(_WIDEST, max(len(title), *(len(row.name) for row in kept)))
        rule_width = max(len("RULE"), *(len(row.rule) for row in kept))
        header = f"{title:<{name_width}}  {'RULE':<{rule_width}}  {'FOUND':>6}  LINES"
        yield click.style(header, bold=True)
        before = None
        for row in kept:
            name = "" if row.name == before else row.name
            if len(name) > name_width:
                yield name
                name = ""
            more = row.count - len(row.places)
            places = [*row.places, *([f"… {more:,} more"] if more else [])]
            yield (
                f"{name:<{name_width}}  {row.rule:<{rule_width}}  {row.count:>6,}  "
                f"{', '.join(places)}"
            )
            before = row.name
        if more := len(rows) - len(kept):
            yield f"… and {more:,} more rows: transcriptd scan --json"

    def _last_line(self, rules: int) -> str:
        kinds = " or ".join(sorted(self._kinds, reverse=True)) or "session"
        several = kinds.replace(" ", "s ") + "s"
        where = f"{many(self.looked_at, kinds, several)}, {size(self.read_bytes)}"
        by = many(rules, "rule", "rules")
        if not self.rules:
            return f"Nothing found in {where}, by {by}."
        found = many(self.rules.total(), "finding", "findings")
        return f"{found} in {len(self._found_in):,} of {where}, by {by}: {in_words(self.rules)}."


def list_rules(rules: RuleSet, own: Collection[str], *, as_json: bool) -> None:
    """Print the names of the rules, and what each looks for.

    What an `own` one does may be a secret by itself, and stands in the configuration.
    """
    widest = max(map(len, rules.names))
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for rule in rules.rules:
        is_own = rule.name in own
        if as_json:
            _print(rule=rule.name, is_own=is_own, pattern=None if is_own else rule.pattern)
            continue
        line = (
            f"{rule.name:<{widest}}  {'[[rules]] of the configuration' if is_own else rule.pattern}"
        )
        click.echo(line if len(line) <= room else f"{line[: room - 1]}…")


def _names(subject: Subject) -> dict[str, str]:
    session = subject.session
    if subject.source is None:
        return {"session": "", "source": "", "path": printable(session.id)}
    return {
        "session": printable(session.id),
        "source": session.source,
        "path": printable(session.path),
    }


def _kind(subject: Subject) -> str:
    return "session" if subject.source else "file"


def _name(subject: Subject) -> str:
    return shown(printable(subject.session.id))


def _print(**said: Any) -> None:  # noqa: ANN401 - whatever JSON has
    click.echo(json.dumps(said))
