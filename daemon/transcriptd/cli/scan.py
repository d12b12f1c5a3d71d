"""`transcriptd scan`: what the rules take for secrets in sessions and files, and where."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from transcriptd import logs
from transcriptd.cli.options import config_option
from transcriptd.cli.progress import Bar
from transcriptd.cli.scanned import Scanned, list_rules
from transcriptd.errors import SourceError, Unreadable, Vanished
from transcriptd.finds import finds_in
from transcriptd.journal import Journal
from transcriptd.layout import Names
from transcriptd.redaction import Rule, RuleSet, Unscannable
from transcriptd.sources import open_sources
from transcriptd.subjects import Here

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from transcriptd.config import Config
    from transcriptd.finds import Subject
    from transcriptd.subjects import Subjects

_MIB = 20  # bits


@click.command(
    "scan",
    epilog="""\b
With --json, each line is one object. First, for each finding:
  rule, session, source      session and source are empty where a path was named
  path, line                 line: null where it is in what is archived as session.json
  shown                      with --show
for each file that could not be looked at:
  path, session, source, reason, message
and at the end
  summary                    {findings, rules {rule: findings}, found_in, looked_at, bytes,
                             not_looked_at}

\b
Examples:
  transcriptd scan                           every session of every agent on this machine
  transcriptd scan 0f0e7a52                  one session, with its subagents and tool output
  transcriptd scan ~/backup/sessions x.log   files and directories, whatever they are
  transcriptd scan --rule aws-access-key --show
  transcriptd scan --json | jq -r 'select(.rule) | [.rule, .path, .line] | @tsv'
  transcriptd scan --list-rules
""",
)
@click.argument("wanted", metavar="[PATH|SESSION]...", nargs=-1)
@click.option("only", "--rule", metavar="NAME", multiple=True,
              help="Only what this rule finds. Can be repeated.")  # fmt: skip
@click.option("with_hints", "--show", is_flag=True,
              help="Show the ends of each match, abcd…wxyz: a third of it at most.")  # fmt: skip
@click.option("as_json", "--json", is_flag=True, help="Print a JSON object a line.")
@click.option("lists_rules", "--list-rules", is_flag=True,
              help="List the rules instead, with what each looks for.")  # fmt: skip
@config_option
def command(
    config: Config,
    wanted: tuple[str, ...],
    only: tuple[str, ...],
    *,
    with_hints: bool,
    as_json: bool,
    lists_rules: bool,
) -> None:
    """Find what looks like a secret: by rule, by session or file, and by line.

    Looks at the sessions of all agents that are on, also at those that are excluded; or at what is
    named. PATH is a file or a directory, and goes before SESSION: an id, 8 characters of one or
    more where it is not CodeTether's, or a key of the archive. The rules are the built-in ones and
    `[[rules]]` of the configuration, whatever `redaction` says. Nothing is written, no archive and
    no daemon is needed.

    Lines count from 1, and of a CodeTether session messages do. Of files by name, those called
    .jsonl are looked at line by line, and decompressed if .zst follows; CodeTether's are known by
    what is in them; any other is one text. Links below a directory are not followed.

    Exit status 0 if nothing was found, 1 if something was, or could not be looked at or is not
    there, 2 if the command line and 78 if the configuration cannot mean anything.
    """
    logs.configure("error")
    rules = RuleSet(Rule(own.name, own.pattern) for own in config.rules)
    if unknown := [name for name in only if name not in rules.names]:
        message = f"there is no rule {unknown[0]!r}: `transcriptd scan --list-rules`"
        raise click.BadParameter(message, param_hint="--rule")
    if lists_rules:
        list_rules(rules, {own.name for own in config.rules}, as_json=as_json)
        return
    scanned = Scanned(as_json=as_json)
    with Bar("scanning, MiB", shown=sys.stderr.isatty() and not as_json) as bar:
        subjects = _chosen(config, wanted)
        for place, why in subjects.unreadable.items():
            scanned.miss(place, "unreadable", why)
        for what in subjects.missing:
            message = "there is no such file, and no such session on this machine"
            scanned.miss(what, "missing", message)
        total, done = sum(subject.size for subject in subjects.found.values()), 0
        for subject in subjects.found.values():

            def show(part: float, done: int = done, size: int = subject.size) -> None:
                bar.show((done + int(part * size)) >> _MIB, total >> _MIB)

            _look(config, rules, subject, scanned, show, only=only, with_hints=with_hints)
            done += subject.size
    scanned.tell(len(set(only)) or len(rules.names))
    sys.exit(0 if scanned.is_clean else 1)


def _chosen(config: Config, wanted: tuple[str, ...]) -> Subjects:
    here = Here(
        open_sources(config, os.environ),
        Names(config.prefix, f"{config.machine}."),
        Journal(config.state_dir / "journal.db"),
    )
    return here.chosen(wanted) if wanted else here.everything


def _look(
    config: Config,
    rules: RuleSet,
    subject: Subject,
    scanned: Scanned,
    on_read: Callable[[float], None],
    *,
    only: Collection[str],
    with_hints: bool,
) -> None:
    """Look at one subject. What cannot be looked at does not keep others from being."""
    try:
        for find in finds_in(
            rules,
            subject,
            max_document=config.max_document,
            with_hints=with_hints,
            on_read=on_read,
        ):
            if not only or find.rule in only:
                scanned.find(subject, find)
    except Vanished:
        return  # it went in this moment
    except Unreadable as error:
        scanned.miss(subject, error.reason, str(error))
    except SourceError as error:
        scanned.miss(subject, "changing", str(error))
    except Unscannable as error:
        scanned.miss(subject, "unscannable", error.reason)
    else:
        scanned.finish(subject)
