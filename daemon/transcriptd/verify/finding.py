"""What a look at the archive can find, in words that people and scripts share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LOST = "lost"
"""The state of a session of which archived bytes stand neither in the archive nor at its source."""


class What(StrEnum):
    """What can be the matter. `MEANINGS` explains each."""

    LOST = LOST
    MISSING = "missing"
    LENGTH = "length"
    DIGEST = "digest"
    FOREIGN = "foreign"
    FORMAT = "format"
    NUMBER = "number"
    GAP = "gap"
    OVERLAP = "overlap"
    FOREIGN_SEGMENT = "foreign_segment"
    ORPHAN = "orphan"
    STRANGER = "stranger"
    DIFFERS = "differs"
    UNREADABLE = "unreadable"
    LEFTOVER = "leftover"


MEANINGS = {
    What.LOST: "archived bytes stand neither in the archive nor in the session's file: the journal "
    "says that they were archived, or a generation before the current one stands nowhere",
    What.MISSING: "as lost, but the session's file still has them",
    What.LENGTH: "an object is shorter or longer than its metadata say",
    What.DIGEST: "an object's bytes are not those that its metadata describe (--deep)",
    What.FOREIGN: "an object lies under a key of ours, without metadata of ours",
    What.FORMAT: "the metadata are of a later format, or damaged",
    What.NUMBER: "a generation says that it is another one, or is finished and yet to come",
    What.GAP: "bytes are missing between the base and a tail segment, or between two",
    What.OVERLAP: "a tail segment begins before what precedes it ends",
    What.FOREIGN_SEGMENT: "a tail segment continues other bytes than those before it",
    What.ORPHAN: "a segment, a finished generation or a session.json that belongs to nothing",
    What.STRANGER: "an object under our prefix that is none of ours",
    What.DIFFERS: "the session's file changed, and neither its times nor its size tell (--deep)",
    What.UNREADABLE: "the archive could not be read there, or changed each time it was looked at",
    What.LEFTOVER: "a tail segment that stands elsewhere by now takes room; nothing is wrong",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found at one object. `hint` says what a person can do."""

    what: What
    key: str
    message: str
    hint: str = ""

    @property
    def is_wrong(self) -> bool:
        return self.what is not What.LEFTOVER


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one session stands, or one object that belongs to none.

    `session` is its id and `path` its file on this machine, empty where there is none; `key` the
    base key of its stream. `state` is a word of `model.State` or `lost`, empty for an object that
    is no session's. `machine` wrote it last. `length` are the bytes that stand in `generation`,
    `None` where nothing does.
    """

    session: str
    source: str
    key: str
    path: str = ""
    machine: str = ""
    state: str = ""
    reason: str = ""
    generation: int | None = None
    length: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def is_well(self) -> bool:
        return not any(finding.is_wrong for finding in self.findings)
