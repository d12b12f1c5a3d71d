"""What the rules found in what is archived: how much, in which sessions, and what to do about it.

Reads the journal, also beside a daemon. Of what was found it knows the rules' names only.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from transcriptd.doctor.finding import Finding, Level
from transcriptd.journal import Journal
from transcriptd.roster import findings_of, printable
from transcriptd.totals import DONE, REVOKE, in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transcriptd.config import Config
    from transcriptd.known import Known

_SECTION = "secrets"
_MOST = 10  # sessions to name


def examine(config: Config) -> Iterator[Finding]:
    """Say for each source what was found, and name the sessions with most of that. Blocks."""
    journal = Journal(config.state_dir / "journal.db")
    by_source: dict[str, Counter[str]] = {}
    for (source, rule), count in journal.findings().items():
        by_source.setdefault(source, Counter())[rule] += count
    if not by_source:
        yield Finding(_SECTION, Level.OK, "findings", f'none; `redaction = "{config.redaction}"`')
    for source, counts in sorted(by_source.items()):
        mode = config.redaction_of(source)
        said = f"{counts.total():,} ({in_words(counts)}); {DONE[mode]}"
        if mode == "mask":
            yield Finding(_SECTION, Level.OK, source, said)
        else:
            yield Finding(_SECTION, Level.WARN, source, said, REVOKE)
    yield from _sessions(config, journal)


def _sessions(config: Config, journal: Known) -> Iterator[Finding]:
    """Name the sessions with most findings, but those of sources that are masked."""
    for record in journal.most_findings(_MOST):
        session = record.session
        if config.redaction_of(session.source) != "mask":
            said = f"{in_words(findings_of(record))} ({session.source})"
            yield Finding(_SECTION, Level.WARN, printable(session.id), said)
