"""What was learnt of a stream, and what follows from it. Pure.

The reconciler asks and decides; these are its answers, for those who write, seal and sweep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transcriptd.layout import generation_key
from transcriptd.plan import Manner

if TYPE_CHECKING:
    from transcriptd.layout import Names
    from transcriptd.model import Cursor, Session
    from transcriptd.plan import Action
    from transcriptd.snapshot import Look
    from transcriptd.survey import Survey
    from transcriptd.tail import Segment


@dataclass(frozen=True, slots=True)
class Standing:
    """What was learnt of a stream, and holds until something unexpected happens.

    `tails`: segments may be written. `is_bare`: the base has no metadata of ours, so that nothing
    may hang on it. `contested`: another writer has a claim here. `used` is the highest generation
    that stands anywhere. `session`: whose file was compared with it; another file of the same
    stream has a cursor of its own, which may be older.
    """

    tails: bool
    is_bare: bool
    contested: bool
    used: int
    session: Session | None = None

    @classmethod
    def of(cls, found: Survey, names: Names, *, appends: bool) -> Standing:
        """Say how a stream stands; `appends`: the store continues a base in place."""
        others = set(found.tails.claims) - {names.writer}
        tails = found.may_list and not appends
        return cls(tails, found.meta is None, contested=bool(others), used=found.used)

    def manner(self, small: int, *, theirs: bool) -> Manner:
        """Say how what is new is to be written."""
        return Manner(self.tails and not self.is_bare, small, self.contested, theirs)


@dataclass(frozen=True, slots=True)
class Garbage:
    """A segment that was folded; it may go once `holder` has provably the same bytes."""

    segment: Segment
    holder: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows for a `look`: the key to write under, the cursor to go on from, what to do.

    `overwritten`: somebody without our metadata wrote over our base. `unfinished`: keys at
    which a crash may have left an upload in parts that could still be completed, late.
    """

    look: Look
    key: str
    cursor: Cursor | None
    actions: tuple[Action, ...]
    standing: Standing
    garbage: tuple[Garbage, ...] = ()
    overwritten: bool = False
    unfinished: tuple[str, ...] = ()


def garbage_of(found: Survey, prefix: str, key: str) -> tuple[Garbage, ...]:
    """Name the segments that a crash left behind after they were folded.

    As long as the base is of their generation, they are what readers find behind it.
    """
    current = found.meta.generation if found.meta else 0
    closed = (s for s in found.tails.segments if s.generation <= min(found.closed, current - 1))
    return (
        *(Garbage(segment, key) for segment in found.chain.folded),
        *(Garbage(s, generation_key(prefix, key, s.generation)) for s in closed),
    )


def unfinished_of(found: Survey, prefix: str, key: str) -> tuple[str, ...]:
    """Name what may have been under way: the base, or what it was to be kept as."""
    if found.head is None:
        return ()
    generation = found.meta.generation if found.meta else found.closed + 1
    return key, generation_key(prefix, key, generation)
