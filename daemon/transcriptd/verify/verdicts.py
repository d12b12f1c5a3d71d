"""What is said of a session in the end, and how sure one look makes us. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from transcriptd.model import State
from transcriptd.verify.finding import LOST, Finding, Verdict, What
from transcriptd.verify.places import session_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from transcriptd.errors import TranscriptdError
    from transcriptd.model import Session
    from transcriptd.verify.look import Found
    from transcriptd.verify.standing import Standing

Wrong = set[tuple[What, str]]
"""What seems wrong, by what and where: the same in two looks is believed."""


def wrong_in(verdicts: list[Verdict]) -> Wrong:
    """Return what these verdicts call wrong."""
    return {(f.what, f.key) for v in verdicts for f in v.findings if f.is_wrong}


def is_doubtful(verdicts: list[Verdict], before: Wrong | None) -> bool:
    """Whether one has to look again: nothing is called wrong that was not so a look before."""
    wrong = wrong_in(verdicts)
    if before is not None:
        return not wrong <= before
    # An archive that is longer than the file may have grown, with the file, since that was read.
    return bool(wrong) or any(verdict.state == State.BEHIND for verdict in verdicts)


def unsettled(verdict: Verdict, before: Wrong) -> Verdict:
    """Say what stayed, and that the rest was something else each time."""
    stayed = [f for f in verdict.findings if not f.is_wrong or (f.what, f.key) in before]
    if len(stayed) == len(verdict.findings):
        return verdict
    restless = Finding(
        What.UNREADABLE, verdict.key, "it changed each time it was looked at",
        "verify it again when less is written to it",
    )  # fmt: skip
    state = "" if verdict.state == LOST else verdict.state
    return replace(verdict, state=state or State.PENDING, findings=(*stayed, restless))


def verdicts_on(
    prefix: str, found: Found, findings: list[Finding], standings: Mapping[Session, Standing]
) -> Iterator[Verdict]:
    """Say how each session of a stream stands; what is wrong with the stream is said once."""
    source = found.meta.source if found.meta else ""
    stream = Verdict(
        session=session_of(prefix, found.key),
        source=source,
        key=found.key,
        machine=found.machine,
        state=State.SOURCE_GONE,
        generation=found.generation,
        length=found.chain.end,
    )
    if not standings:
        if found.head or findings:
            yield _with(stream, findings)
        return
    here = [s for s in standings.values() if s.state is not State.SOURCE_GONE]
    said = {finding.key for standing in here for finding in standing.findings}
    for session, standing in standings.items():
        if here and standing not in here and {f.key for f in standing.findings} <= said:
            continue  # its file has another name by now, under which it has been told
        is_nothing = standing.state is State.SOURCE_GONE and found.head is None
        if is_nothing and not findings and not standing.findings:
            continue  # it came and went before anything of it was archived
        verdict = replace(
            stream,
            session=session.id,
            source=session.source,
            path="" if standing.state is State.SOURCE_GONE else str(session.path),
            state=standing.state,
            reason=standing.reason,
        )
        yield _with(verdict, [*findings, *standing.findings])
        findings = []


def _with(verdict: Verdict, findings: list[Finding]) -> Verdict:
    is_lost = any(finding.what is What.LOST for finding in findings)
    state = LOST if is_lost else verdict.state
    return replace(verdict, state=state, findings=tuple(findings))


def stranger(key: str) -> Verdict:
    """Say that an object is none of ours."""
    message = "an object of nobody we know lies under our prefix"
    hint = "give the archive a prefix of its own; verify changes nothing"
    return Verdict("", "", key, findings=(Finding(What.STRANGER, key, message, hint),))


def unreadable(prefix: str, key: str, error: TranscriptdError) -> Verdict:
    """Say that a stream could not be looked at."""
    finding = Finding(What.UNREADABLE, key, f"it could not be checked: {error}", error.hint)
    return Verdict(session_of(prefix, key), "", key, findings=(finding,))


def unreadable_root(root: Path, why: str) -> Verdict:
    """Say that a directory of sessions could not be looked at."""
    message = f"the sessions in this directory were not looked at: {why}"
    hint = "let this user read the directory, or verify as its owner"
    finding = Finding(What.UNREADABLE, str(root), message, hint)
    return Verdict("", "", "", path=str(root), findings=(finding,))
