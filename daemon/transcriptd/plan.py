"""What must happen so that the archive holds a session. Pure: values in, actions out.

Two questions are answered here. `plan`: given what is archived (the cursor) and what stands in the
source, which actions follow? `settle`: given what the store says stands under the key, what is the
cursor, and may we write there at all? (README, "Archive format", "Who may write".) When the base
takes in its tail is asked in `sealing`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from transcriptd.layout import machine_of
from transcriptd.model import Cursor

if TYPE_CHECKING:
    from transcriptd.layout import Meta

SMALL = 16 << 10
"""Up to so many bytes, base and change together, the base is put anew."""


@dataclass(frozen=True, slots=True)
class Preserve:
    """Close a generation: keep it whole under `.generations/` and read it back.

    Its tail is folded in. `etag` is that of the base that is meant.
    """

    generation: int
    etag: str


@dataclass(frozen=True, slots=True)
class KeepForeign:
    """Keep a base that somebody wrote without our metadata under `.conflicts/`."""

    etag: str


@dataclass(frozen=True, slots=True)
class PutBase:
    """Put the whole content as the base of `generation`.

    `replaces` is the ETag of the base that gives way, empty where there is none.
    """

    generation: int
    replaces: str


@dataclass(frozen=True, slots=True)
class PutTail:
    """Put what is new as one tail segment of `generation`, from byte `start` on."""

    generation: int
    start: int


@dataclass(frozen=True, slots=True)
class Seal:
    """Let the base of `generation`, whose ETag is `replaces`, take in its tail.

    No byte comes or goes. Of another writer's base it makes ours: whoever would still replace that
    one finds out.
    """

    generation: int
    replaces: str


@dataclass(frozen=True, slots=True)
class Manner:
    """How a store and a stream want what is new.

    `tails`: as segments, unless all is `small` (bytes). `contested`: another writer has a claim
    here: what is new must take its place before it counts, which only a segment does. `theirs`:
    the base is another writer's.
    """

    tails: bool = True
    small: int = SMALL
    contested: bool = False
    theirs: bool = False


Action = Preserve | KeepForeign | PutBase | PutTail | Seal


def is_apart(replaced: str, *, flip: bool) -> bool:
    """Say whether a base is written as an upload in parts also where it is small.

    Such an upload has an ETag of its own kind. An undo may lead to just the bytes that the base
    before had, and a base of another writer is made ours without a change: with the same ETag, a
    late request that was meant for the old base would find the new one. So the kind changes with
    the generation and the writer, and stays within.
    """
    is_in_parts = "-" in replaced
    return bool(replaced) and is_in_parts != flip


def plan(
    cursor: Cursor | None,
    records: int,
    length: int,
    *,
    extends: bool,
    closed: int = -1,
    used: int = -1,
    manner: Manner = Manner(),
) -> tuple[Action, ...]:
    """Say what follows from a source of `length` bytes and what is archived of it.

    `extends`: the source begins with everything the cursor holds. `closed` is the highest
    generation that is known to stand under `.generations/`, `used` the highest that stands
    anywhere.
    """
    used = max(used, closed)
    if cursor is None:
        return (PutBase(used + 1, replaces=""),) if records else ()
    if not extends or cursor.generation <= closed:  # what is closed stays closed
        return (
            Preserve(cursor.generation, cursor.etag),
            PutBase(max(cursor.generation, used) + 1, replaces=cursor.etag),
        )
    if length == cursor.length:
        return ()
    put_tail = PutTail(cursor.generation, cursor.length)
    if manner.tails and manner.theirs and cursor.base_length <= manner.small:
        return (Seal(cursor.generation, cursor.etag), put_tail)
    if manner.tails and (manner.contested or length > manner.small):
        return (put_tail,)
    return (PutBase(cursor.generation, replaces=cursor.etag),)


class Relation(Enum):
    """How the source's content stands to the archive's."""

    EXTENDS = "extends"  # the source begins with all that is archived, or equals it
    BEHIND = "behind"  # the archive begins with all of the source and holds more
    DIFFERS = "differs"


class TailSays(Enum):
    """What a tail proves of the source when the base it hung on was overwritten."""

    NOTHING = "nothing"  # there is none
    AGREES = "agrees"  # the source still holds all that the generation held
    CONTRADICTS = "contradicts"


@dataclass(frozen=True, slots=True)
class Remote:
    """What stands under a stream's key, as the store told it.

    `meta` is that of the base, `None` where somebody else wrote it. `writer` wrote what the source
    was compared with last: where the two differ, that is what differs. `records`, `length` and
    `digest` describe the part of the source that equals the archive's, where the source extends
    it; `base_length` and `segments` how that lies there. `blocked_to`: something that is no
    content lies in the way of the tail, up to this byte; `None`: nothing.
    `is_stopped`: the generation ends here. `tail_says` matters where
    the base is somebody else's now.
    """

    etag: str
    meta: Meta | None
    relation: Relation
    writer: str
    records: int
    length: int
    digest: str
    base_length: int
    segments: int = 0
    blocked_to: int | None = None
    is_stopped: bool = False
    tail_says: TailSays = TailSays.NOTHING


@dataclass(frozen=True, slots=True)
class Continue:
    """Go on from this cursor."""

    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Begin:
    """Do these actions: the archive has nothing of this generation yet, or not as it should be."""

    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class StepAside:
    """The key is another writer's: archive under `.conflicts/`."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The archive holds more than the source: write nothing."""


Settlement = Continue | Begin | StepAside | Wait


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who asks: a writer, and the other writers whose history gives way to its own."""

    writer: str
    takes_over: frozenset[str] = frozenset()

    def owns(self, other: str) -> bool:
        """Say whether what `other` wrote is ours to replace: this machine's, or taken over."""
        return machine_of(other) == machine_of(self.writer) or other in self.takes_over


def settle(
    key: str,
    remote: Remote | None,
    *,
    used: int,
    closed: int,
    claimant: Claimant,
    cursor: Cursor | None,
    extends: bool,
    is_undone: bool = False,
    length: int,
    now: float,
) -> Settlement:
    """Decide by what stands in the archive; the cursor is what we remember, and only a hint.

    `closed` is the highest generation under `.generations/`, `used` the highest that stands
    anywhere, -1 for none. `extends`: the source, `length` bytes long, begins with everything the
    cursor holds. `is_undone`: what the archive holds more is ours to leave behind: it was undone
    here, or taken over. `now` in Unix seconds.
    """
    used = max(used, closed, cursor.generation if cursor else -1)
    going_on = _GoingOn(key, cursor, claimant.writer, now)
    if remote is None:
        return Begin((PutBase(used + 1, replaces=""),))
    if remote.meta is None:
        # What a foreign writer, most likely CodeTether's own sink, cut off or changed may still
        # stand in the source: then the generation goes on. Where it does not, those bytes belong
        # to a generation of their own.
        remembered = cursor is not None and extends and cursor.generation > closed
        contradicted = remote.tail_says is TailSays.CONTRADICTS
        proven = remote.tail_says is TailSays.AGREES
        goes_on = (proven or (remembered and not contradicted)) and used > closed
        return _settle_foreign(remote, used if goes_on else used + 1, going_on)
    generation = remote.meta.generation
    used = max(used, generation)
    close = Begin((Preserve(generation, remote.etag), PutBase(used + 1, replaces=remote.etag)))
    if generation <= closed and remote.relation is Relation.EXTENDS:
        return close  # closed for ever; what stands there may be longer than what was kept
    match remote.relation:
        case Relation.BEHIND:
            return close if is_undone else Wait()
        case Relation.EXTENDS if remote.is_stopped and remote.length < length:
            return close
        case Relation.EXTENDS if remote.blocked_to is not None and remote.blocked_to > length:
            return close
        case Relation.EXTENDS if remote.blocked_to is not None and remote.length < length:
            return Begin((PutBase(generation, replaces=remote.etag),))
        case Relation.EXTENDS:
            going_on = replace(going_on, writer=remote.meta.writer)
            return Continue(going_on.from_here(remote, generation))
    return close if claimant.owns(remote.writer) else StepAside()


def _settle_foreign(remote: Remote, generation: int, going_on: _GoingOn) -> Settlement:
    match remote.relation:
        case Relation.BEHIND:
            return Wait()
        case Relation.EXTENDS if remote.tail_says is not TailSays.CONTRADICTS:
            return Continue(going_on.from_here(remote, generation))
    return Begin((KeepForeign(remote.etag), PutBase(generation, replaces=remote.etag)))


@dataclass(frozen=True, slots=True)
class _GoingOn:
    """What a new cursor is made of besides what stands in the archive."""

    key: str
    before: Cursor | None
    writer: str
    now: float

    def from_here(self, remote: Remote, generation: int) -> Cursor:
        before = self.before
        same = before if before and before.generation == generation else None
        since = (same.behind_since if same else 0.0) or self.now
        return Cursor(
            key=self.key,
            generation=generation,
            records=remote.records,
            length=remote.length,
            digest=remote.digest,
            etag=remote.etag,
            writer=self.writer,
            document_digest=before.document_digest if before else "",
            tail_length=remote.length - remote.base_length,
            segments=remote.segments,
            behind_since=since if remote.segments else 0.0,
            sent=max(same.sent if same else 0, remote.length),
        )
