"""`transcriptd verify`: whether the archive is what it should be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from transcriptd import identity, logs
from transcriptd.cli.config import archive_line, archive_place
from transcriptd.cli.listed import shown
from transcriptd.cli.options import config_option
from transcriptd.cli.progress import Bar
from transcriptd.cli.run import loop_factory
from transcriptd.doctor.finding import counted
from transcriptd.errors import TranscriptdError
from transcriptd.journal import Journal
from transcriptd.mirrors import find_mirrors, named
from transcriptd.model import State
from transcriptd.report import printable
from transcriptd.screens import screens_of
from transcriptd.sources import open_sources
from transcriptd.stores import open_store
from transcriptd.verify import LOST, MEANINGS, Here, Verifier, base_of, is_stream
from transcriptd.wanted import asked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transcriptd.config import Config
    from transcriptd.masks import Secret
    from transcriptd.stores import Store
    from transcriptd.verify import Finding, Verdict

_MOST_SHOWN = 30
_WIDTH = 96
_LOUD, _WRONG = "red", "yellow"


def _meanings() -> str:
    longest = max(map(len, MEANINGS))
    lines = ["\b", "What can be found:"]
    for what, meaning in MEANINGS.items():
        first, *more = wrap(meaning, _WIDTH - longest - 4)
        lines.append(f"  {what:<{longest}}  {first}")
        lines += [f"  {'':<{longest}}  {line}" for line in more]
    return "\n".join(lines)


@click.command(
    "verify",
    epilog=f"""{_meanings()}

\b
With --json, each line is one object, for a session or for something that is no session's:
  session, source, path     empty where there is none
  key, generation, length   where it is archived, and how many bytes of which generation
  state, reason             a state of `transcriptd status`, or lost
  machine                   who wrote it last; source_gone: no file of it is on this machine
  findings                  [{{what, key, message, hint}}]; nothing is wrong where there is none
                            but `leftover`

\b
Examples:
  transcriptd verify                     everything, by what the objects say of themselves
  transcriptd verify --deep              read every byte, here and there
  transcriptd verify 5f1c0a7e-…          one session
  transcriptd verify --json | jq -r 'select(.state == "lost") | .session'
""",
)
@click.argument("wanted", metavar="[SESSION]...", nargs=-1)
@click.option("--deep", is_flag=True, help="Read every byte of the archive and of the sessions.")
@click.option("as_json", "--json", is_flag=True, help="Print a JSON object a line.")
@config_option
def command(config: Config, wanted: tuple[str, ...], *, deep: bool, as_json: bool) -> None:
    """Check the archive, and the sessions of this machine against it. Changes nothing.

    SESSION is a session's id or a key of the archive; without any, everything is checked. Of
    sessions that are mirrored, the first 8 characters of an id or more mean all that begin so, on
    any machine. Needs no daemon, and disturbs none. Sessions that wait, cannot be read or are gone
    from this machine are counted and nothing is wrong with them: `sync` archives what waits.

    Exit status 0 if nothing is wrong, 1 if something is or could not be checked.
    """
    logs.configure("error")
    for name in wanted:
        is_key = name.startswith(config.prefix)
        if not name or (is_key and not is_stream(config.prefix, name)):
            message = f"expected a session id or the key of a session's lines, got {name!r}"
            raise click.BadParameter(message, param_hint="SESSION")
    if config.store == "disabled":
        raise click.ClickException(archive_line(config))
    tally = _Tally(config.machine)
    try:
        with (
            Bar("verifying", shown=sys.stderr.isatty() and not as_json) as bar,
            asyncio.Runner(loop_factory=loop_factory()) as runner,
        ):

            def hear(verdict: Verdict) -> None:
                tally.take(verdict)
                if as_json:
                    click.echo(line(verdict))

            meant = runner.run(_verify(config, wanted, hear, bar.show, deep=deep))
    except TranscriptdError as error:
        hint = f"\n{error.hint}" if error.hint else ""
        raise click.ClickException(f"The archive could not be checked: {error}{hint}") from None
    if not as_json:
        tally.tell(archive_place(config), deep=deep)
    known = tally.sessions | {base_of(config.prefix, key) for key in tally.keys}
    unknown = [name for name, ids in meant.items() if known.isdisjoint(ids)]
    for name in unknown:
        click.echo(
            f"There is no session {name}: neither in {archive_place(config)} nor on this machine.",
            err=True,
        )
    sys.exit(1 if tally.wrong or unknown else 0)


def line(verdict: Verdict) -> str:
    """Return a verdict as one line of JSON."""
    names = {"session": printable(verdict.session), "path": printable(verdict.path)}
    return json.dumps(asdict(verdict) | names, ensure_ascii=False)


async def _verify(
    config: Config,
    wanted: tuple[str, ...],
    on_verdict: Callable[[Verdict], None],
    on_progress: Callable[[int, int], None],
    *,
    deep: bool,
) -> dict[str, set[str]]:
    """Check what is wanted; return what each of these names means, by ids and base keys."""
    store = open_store(config)
    try:
        sources = open_sources(config, os.environ)
        here = Here(
            sources,
            config.prefix,
            config.machine,
            config.max_document,
            _journal(config, store),
            screens_of(config, sources),
            _secret(config),
        )
        verifier = Verifier(
            store, here, deep=deep, memory=config.memory_budget, on_progress=on_progress
        )
        meant = await _meant(store, config.prefix, wanted)
        await verifier.run(set().union(*meant.values()), on_verdict)
        return meant
    finally:
        await store.close()


async def _meant(store: Store, prefix: str, wanted: tuple[str, ...]) -> dict[str, set[str]]:
    """Return what each name means: itself, or the mirrored sessions whose ids begin so."""
    meant = {name: {base_of(prefix, name)} for name in wanted}
    if ids := [name for name in wanted if not name.startswith(prefix)]:
        mirrors = await asked(partial(find_mirrors, store, prefix))
        for name in ids:
            meant[name] |= {each.session_id for each in named(mirrors, name)}
    return meant


def _journal(config: Config, store: Store) -> Journal | None:
    """Return the journal, if it is about this archive: of another one it can tell nothing here."""
    path = config.state_dir / "journal.db"
    if not path.exists():
        return None
    journal = Journal(path)
    archive = journal.fact("archive")
    if archive == f"{config.prefix} in {store.place}":
        return journal
    if archive is not None:
        click.echo(f"The journal is about another archive and was not used: {archive}", err=True)
    return None


def _secret(config: Config) -> Secret | None:
    """Return what digests of masked sources are keyed with, if it can be read."""
    with contextlib.suppress(OSError):
        return identity.secret(config.state_dir, make=False)
    return None


@dataclass(slots=True)
class _Tally:
    """What is told in the end: how many there are of what, and the first that are wrong."""

    machine: str
    counts: Counter[str] = field(default_factory=Counter)
    sessions: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    shown: list[Verdict] = field(default_factory=list)
    wrong: int = 0
    wrong_sessions: int = 0
    leftover: int = 0

    def take(self, verdict: Verdict) -> None:
        if verdict.session:
            self.sessions.add(verdict.session)
            self.keys.add(verdict.key)
            self.counts[self._word(verdict)] += 1
        self.leftover += any(not finding.is_wrong for finding in verdict.findings)
        if not verdict.is_well:
            self.wrong += 1
            self.wrong_sessions += bool(verdict.session)
            if len(self.shown) < _MOST_SHOWN:
                self.shown.append(verdict)

    def tell(self, place: str, *, deep: bool) -> None:
        """Print what is wrong, what to do about it, and a last line that says it all."""
        shown = sorted(self.shown, key=lambda verdict: (not verdict.session, verdict.session))
        rows = [(verdict, f) for verdict in shown for f in verdict.findings if f.is_wrong]
        for row in rows:
            _tell(*row)
        if more := self.wrong - len(shown):
            click.echo(f"… and {more:,} more: transcriptd verify --json")
        hints = dict.fromkeys((finding.what, finding.hint) for _, finding in rows if finding.hint)
        if hints:
            click.echo()
        for what, hint in hints:
            click.echo(f"{click.style(what, bold=True)} → {hint}")
        if rows:
            click.echo()
        click.echo(self._last_line(place, deep=deep))

    def _last_line(self, place: str, *, deep: bool) -> str:
        total = self.counts.total()
        if not total and not self.wrong:
            return f"No sessions: none in {place}, and none found on this machine."
        states = ", ".join(f"{count:,} {word}" for word, count in sorted(self.counts.items()))
        how = ", every byte read" if deep else ""
        well = " and ".join(self._wrong()) or "all well"
        left = f" {self.leftover:,} with leftover tail segments." if self.leftover else ""
        return f"{counted(total, 'session')}, {well}{how}: {states or 'none'}.{left}"

    def _wrong(self) -> Iterator[str]:
        if self.wrong_sessions:
            yield f"{self.wrong_sessions:,} wrong"
        if others := self.wrong - self.wrong_sessions:
            yield f"{counted(others, 'thing')} wrong beside them"

    def _word(self, verdict: Verdict) -> str:
        others = verdict.machine not in {"", self.machine}
        if verdict.state == State.SOURCE_GONE and others:
            return f"of {verdict.machine}"
        return verdict.state or "not checked"


def _tell(verdict: Verdict, finding: Finding) -> None:
    name = shown(verdict.session) or printable(verdict.path) or "no session's"
    what = click.style(finding.what, fg=_LOUD if finding.what == LOST else _WRONG)
    click.echo(f"{name}  {what}: {finding.message}")
    if finding.key != verdict.path:
        click.echo(f"  {finding.key}")
