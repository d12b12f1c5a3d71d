"""What must happen so that the archive holds a session. Pure: values in, actions out.

Two questions are answered here. `plan`: given what is archived (the cursor) and what stands in the
source, which actions follow? `settle`: given what the store says stands under the key, what is the
cursor, and may we write there at all? (README, "Archive format", "Who may write".)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from transcriptd.layout import machine_of
from transcriptd.model import Cursor

if TYPE_CHECKING:
    from transcriptd.layout import Meta


@dataclass(frozen=True, slots=True)
class Preserve:
    """Close a generation: keep the base whole under `.generations/` and read it back.

    `etag` is that of the base that is meant.
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


Action = Preserve | KeepForeign | PutBase


def plan(
    cursor: Cursor | None, records: int, length: int, *, extends: bool, closed: int = -1
) -> tuple[Action, ...]:
    """Say what follows from a source of `length` bytes and what is archived of it.

    `extends`: the source begins with everything the cursor holds. `closed` is the highest
    generation that is known to stand under `.generations/`.
    """
    if cursor is None:
        return (PutBase(closed + 1, replaces=""),) if records else ()
    if not extends or cursor.generation <= closed:  # what is closed stays closed
        return (
            Preserve(cursor.generation, cursor.etag),
            PutBase(max(cursor.generation, closed) + 1, replaces=cursor.etag),
        )
    if length > cursor.length:
        return (PutBase(cursor.generation, replaces=cursor.etag),)
    return ()


class Relation(Enum):
    """How the source's content stands to the archive's."""

    EXTENDS = "extends"  # the source begins with all that is archived, or equals it
    BEHIND = "behind"  # the archive begins with all of the source and holds more
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Remote:
    """What stands under a stream's key: the base as the store told it, and what was closed.

    `meta` is `None` where somebody else wrote it. `records`, `length` and `digest` describe the
    part of the source that equals the base, where the source extends it.
    """

    etag: str
    meta: Meta | None
    relation: Relation
    records: int
    length: int
    digest: str


@dataclass(frozen=True, slots=True)
class Continue:
    """Go on from this cursor."""

    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Begin:
    """Do these actions: the archive has nothing of this generation yet."""

    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class StepAside:
    """The key is another writer's: archive under `.conflicts/`."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The archive holds more than the source: write nothing."""


Settlement = Continue | Begin | StepAside | Wait


def settle(
    key: str,
    remote: Remote | None,
    *,
    closed: int,
    writer: str,
    cursor: Cursor | None,
    extends: bool,
) -> Settlement:
    """Decide by what stands in the archive; the cursor is what we remember, and only a hint.

    `closed` is the highest generation under `.generations/`, -1 for none. `extends`: the source
    begins with everything the cursor holds.
    """
    used = max(closed, cursor.generation if cursor else -1)
    if remote is None:
        return Begin((PutBase(used + 1, replaces=""),))
    if remote.relation is Relation.BEHIND:
        return Wait()
    if remote.meta is None:
        if remote.relation is Relation.DIFFERS:
            return Begin((KeepForeign(remote.etag), PutBase(used + 1, replaces=remote.etag)))
        # Written by CodeTether's own sink. What it cut off still stands in the source, so the
        # generation goes on; where it does not, those bytes belong to a generation of their own.
        goes_on = cursor is not None and extends and cursor.generation > closed
        generation = used if goes_on else used + 1
        return Continue(_cursor(key, remote, generation, writer, cursor))
    generation = remote.meta.generation
    used = max(used, generation)
    if remote.relation is Relation.EXTENDS:
        if generation > closed:
            return Continue(_cursor(key, remote, generation, remote.meta.writer, cursor))
        return Begin((PutBase(used + 1, replaces=remote.etag),))  # closed for ever
    if machine_of(remote.meta.writer) != machine_of(writer):
        return StepAside()
    return Begin((Preserve(generation, remote.etag), PutBase(used + 1, replaces=remote.etag)))


def _cursor(
    key: str, remote: Remote, generation: int, writer: str, before: Cursor | None
) -> Cursor:
    return Cursor(
        key=key,
        generation=generation,
        records=remote.records,
        length=remote.length,
        digest=remote.digest,
        etag=remote.etag,
        writer=writer,
        document_digest=before.document_digest if before else "",
    )
