"""What was staged and never settled: by the archive it took effect, or it did not.

A crash or a lost answer leaves a transaction open. Nothing is believed of it but what the archive
shows; then it is committed, or rejected with a reason in CodeTether's words, or staged once more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from transcriptd.layout import Meta
from transcriptd.model import Cursor
from transcriptd.plan import Preserve, PutBase, PutTail, Seal
from transcriptd.rows import because

if TYPE_CHECKING:
    from transcriptd.journal import Journal
    from transcriptd.layout import Redaction
    from transcriptd.model import Session
    from transcriptd.plan import Action
    from transcriptd.rows import Target, Transaction
    from transcriptd.stores import Head
    from transcriptd.survey import Survey

OPS = {"put_base": PutBase, "put_tail": PutTail, "seal": Seal, "preserve": Preserve}
"""Under which names actions stand in the journal."""

_BASES = frozenset({"put_base", "seal"})


class StagedWork:
    """Settles the open transactions of one journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def is_base(self, session: Session, key: str, meta: Meta) -> bool:
        """Whether the base under a key is one that was staged and never proven."""
        staged = self._journal.open_transactions(session)
        targets = [each.target for each in staged if each.action in _BASES]
        return any(target.key == key and _is_target(meta, target) for target in targets)

    def has_segment(self, session: Session) -> bool:
        """Whether a segment was staged whose fate is not known."""
        staged = self._journal.open_transactions(session)
        return any(each.action == "put_tail" for each in staged)

    def reaches(self, session: Session, key: str, end: int) -> bool:
        """Whether a segment was staged that ends there."""
        return any(
            each.action == "put_tail" and (each.target.key, each.target.length) == (key, end)
            for each in self._journal.open_transactions(session)
        )

    async def settle_base(
        self, session: Session, key: str, found: Survey, cursor: Cursor | None
    ) -> Cursor | None:
        """Settle what took effect on whole objects; return the cursor since then."""
        for staged in self._journal.open_transactions(session):
            if staged.target.key != key:
                continue
            taken = _reached(staged, found)
            if taken is not None:
                cursor = replace(taken, document_digest=cursor.document_digest if cursor else "")
                await self._journal.commit(staged.txn, session, cursor)
            elif staged.action == "preserve" and _stands(staged, found):
                await self._journal.commit(staged.txn, session, None)
        return cursor

    async def settle_tail(self, session: Session, cursor: Cursor, found: Survey) -> None:
        """Settle a segment whose bytes the source no longer has, by its place alone."""
        for staged in self._journal.open_transactions(session):
            ours = staged.action == "put_tail" and staged.target.key == cursor.key
            if ours and _stands(staged, found):
                await self._journal.commit(staged.txn, session, None)

    async def adopt(self, session: Session, before: Cursor | None, adopted: Cursor) -> None:
        """Go on from what was found, and commit what led there."""
        for staged in self._journal.open_transactions(session):
            target = staged.target
            reached = (target.key, target.generation, target.length, target.digest) == (
                adopted.key, adopted.generation, adopted.length, adopted.digest,
            )  # fmt: skip
            if reached and staged.action != "preserve":
                await self._journal.commit(staged.txn, session, adopted)
        if adopted != before:
            await self._journal.save(session, adopted)

    async def reject_unplanned(self, session: Session, actions: tuple[Action, ...]) -> None:
        """Reject what took no effect, and is not what is to be done now."""
        planned = {type(action) for action in actions}
        for staged in self._journal.open_transactions(session):
            if OPS.get(staged.action) not in planned:
                reason = because("invariant_violation", "no effect, and the session moved on")
                await self._journal.reject(staged.txn, session, reason)

    async def reject_all(self, session: Session, detail: str) -> None:
        """Reject everything: what stands there is not ours."""
        for staged in self._journal.open_transactions(session):
            await self._journal.reject(staged.txn, session, because("provenance_fail", detail))

    async def settle_without_source(
        self, session: Session, staged: Transaction, found: Survey
    ) -> None:
        """Settle a transaction of a session whose file is gone or empty."""
        cursor = _reached(staged, found)
        if cursor or _stands(staged, found):
            await self._journal.commit(staged.txn, session, cursor)
        else:
            reason = because("invariant_violation", "the source is gone")
            await self._journal.reject(staged.txn, session, reason)


def _reached(staged: Transaction, found: Survey) -> Cursor | None:
    """Return the cursor of a staged base that provably stands there."""
    if found.head is None or found.meta is None or staged.action not in _BASES:
        return None
    return cursor_of(staged.target, found.head) if _is_target(found.meta, staged.target) else None


def _stands(staged: Transaction, found: Survey) -> bool:
    """Whether a staged segment or a finished generation stands there, by its place."""
    target, generation = staged.target, found.meta.generation if found.meta else -1
    if staged.action == "preserve":
        return target.generation <= found.closed
    at_end = (generation, found.chain.end) == (target.generation, target.length)
    return staged.action == "put_tail" and at_end


def _is_target(meta: Meta, target: Target) -> bool:
    return (meta.generation, meta.length, meta.digest, meta.writer) == (
        target.generation,
        target.length,
        target.digest,
        target.writer,
    )


def cursor_of(target: Target, head: Head) -> Cursor:
    """Return the cursor of a base that was just put, or found to be."""
    return Cursor(
        key=target.key,
        generation=target.generation,
        records=target.records,
        length=target.length,
        digest=target.digest,
        etag=head.etag,
        writer=target.writer,
        sent=target.length,
    )


def meta_of(target: Target, session: Session, redaction: Redaction) -> Meta:
    """Return what a base, or what is kept of one, says about itself."""
    return Meta(
        generation=target.generation,
        records=target.records,
        length=target.length,
        digest=target.digest,
        writer=target.writer,
        source=session.source,
        redaction=redaction,
    )
