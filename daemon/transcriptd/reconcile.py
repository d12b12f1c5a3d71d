"""How a stream stands in the archive, and what that means for its source.

Asked before the first write to a stream after a start, and after every outcome that is not known;
the journal is never believed against the answer. Settles what was staged before a crash. Reads the
archive and writes to the journal; of the archive it writes nothing but this writer's claim.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import time
from typing import TYPE_CHECKING

from transcriptd.claim import claim_found, claim_untouched, taken_over
from transcriptd.compare import Comparison, digest_of
from transcriptd.decision import Decision, Standing, garbage_of, unfinished_of
from transcriptd.digest import digests
from transcriptd.errors import AccessDenied, Behind
from transcriptd.layout import SegmentMeta, conflict_key
from transcriptd.logs import get_logger
from transcriptd.masks import within
from transcriptd.plan import (
    SMALL,
    Claimant,
    Continue,
    PutBase,
    Relation,
    StepAside,
    Wait,
    plan,
    settle,
)
from transcriptd.remask import Remask
from transcriptd.screen import keeping
from transcriptd.staged import StagedWork
from transcriptd.survey import Survey, survey

if TYPE_CHECKING:
    from collections.abc import Callable

    from transcriptd.journal import Journal
    from transcriptd.layout import Names
    from transcriptd.masks import Secret
    from transcriptd.model import Cursor, Session
    from transcriptd.plan import Action, Remote, Settlement
    from transcriptd.snapshot import Look
    from transcriptd.stores import Store

log = get_logger("transcriptd.reconcile")


class Reconciler:
    """Asks one archive. With its `secret` masked sources are known again (`masks`).

    `clock` gives Unix seconds.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        names: Names,
        *,
        secret: Secret | None = None,
        small: int = SMALL,
        clock: Callable[[], float] = time,
    ) -> None:
        self._store = store
        self._journal = journal
        self._staged = StagedWork(journal)
        self._remask = Remask(store, secret)
        self._names = names
        self._small = small
        self._clock = clock

    async def ask(self, look: Look, cursor: Cursor | None, key: str) -> Decision:
        """Ask the archive how the stream stands, and decide what follows for this source.

        Raises `Behind`, `Superseded`, `StoreError`, and `Unreadable` where rules cannot look.
        """
        decision = await self._asked(look, cursor, key)
        kept, screened = _kept(decision), decision.look.screened
        if screened is None or kept >= screened.archived:
            return decision
        # It was looked at as if more of it were archived: about that today's rules decide.
        masks = within(screened.screening.masks, kept)
        return replace(decision, look=await asyncio.to_thread(keeping, decision.look, kept, masks))

    async def _asked(self, look: Look, cursor: Cursor | None, key: str) -> Decision:
        found = await self._survey(key, look.snapshot.content.size, is_new=cursor is None)
        spoilt = await self._spoilt(look, found, key)
        if spoilt is not None:  # the source still has what was meant to lie there
            return self._decision(look, key, cursor, (spoilt,), found)
        session = look.snapshot.session
        settled = await self._staged.settle_base(session, key, found, cursor)
        seen = look
        if not (cursor and look.extends and _is_all(found, cursor)):
            look = await self._remask.as_archived(look, key, found)
        same = settled is cursor and look is seen
        extends = look.extends if same else await _extends(look, settled)
        cursor = settled
        known = cursor if cursor and _is_known(found, cursor) else None
        if known and await self._is_all_ours(look, known, found, extends=extends):
            claimed = await claim_found(self._store, self._names, key, found)
            await self._staged.settle_tail(session, known, found)
            return await self._go_on(look, known, claimed, extends=extends)
        comparison = Comparison(self._store, look)
        remote = await comparison.with_archive(key, found, known if extends else None)
        settlement = await self._settle(look, cursor, found, remote, key, extends=extends)
        if isinstance(settlement, StepAside):
            await self._staged.reject_all(session, "another writer was there first")
            aside = conflict_key(self._names.prefix, key, self._names.writer)
            return await self._asked(look, None, aside)
        if isinstance(settlement, Wait):
            await self._staged.reject_unplanned(session, ())
            raise Behind("the archive holds more than this file; nothing is written")
        if cursor and not known and not extends and _is_lost(found, cursor):
            log.error(
                "stream.lost",
                session=session.id,
                generation=cursor.generation,
                length_bytes=cursor.length,
                hint="somebody else removed or overwrote it; `transcriptd verify` has the rest",
            )
        other = remote.writer if remote else ""
        claimed = await claim_found(self._store, self._names, key, found, other)
        if isinstance(settlement, Continue):
            adopted = settlement.cursor
            await self._staged.adopt(session, cursor, adopted)
            decision = await self._go_on(look, adopted, claimed, extends=True)
        else:
            await self._staged.reject_unplanned(session, settlement.actions)
            decision = self._decision(look, key, cursor, settlement.actions, claimed)
        overwritten = found.head is not None and found.meta is None and cursor is not None
        return replace(decision, overwritten=overwritten)

    async def settle_without_source(self, session: Session) -> None:
        """Settle what was staged for a session whose file is gone or empty."""
        for staged in self._journal.open_transactions(session):
            found = await survey(self._store, self._names.prefix, staged.target.key)
            await self._staged.settle_without_source(session, staged, found)

    async def _survey(self, key: str, size: int, *, is_new: bool) -> Survey:
        """Look at the archive of a stream of which `size` bytes would be sent."""
        if is_new and not self._store.appends:
            try:
                untouched = await claim_untouched(self._store, self._names, key, size)
            except AccessDenied:  # who may not list is told so of what is absent, too
                untouched = None
            if untouched is not None:
                return untouched
        return await survey(self._store, self._names.prefix, key)

    async def _spoilt(self, look: Look, found: Survey, key: str) -> PutBase | None:
        """Whether a base that was staged and never proven holds other bytes than it was sent."""
        head, meta = found.head, found.meta
        if head is None or meta is None:
            return None
        if not self._staged.is_base(look.snapshot.session, key, meta):
            return None
        if look.snapshot.content.size < meta.length:
            return None
        source = await asyncio.to_thread(digests, look.snapshot.content, [meta.length])
        if source != [meta.digest]:
            return None
        if await digest_of(self._store, key, None, head.etag) == meta.digest:
            return None
        return PutBase(meta.generation, replaces=head.etag)

    async def _is_all_ours(
        self, look: Look, cursor: Cursor, found: Survey, *, extends: bool
    ) -> bool:
        """Whether nothing has to be compared: all that stands there is known, or left behind."""
        if extends:
            end, size = cursor.length, look.snapshot.content.size
            stopped = (cursor.generation, end) in found.tails.stops and size > end
            return found.chain.end == end and not stopped and not found.chain.ahead_of(end)
        beyond = next((s for s in found.chain.content if s.start == cursor.length), None)
        if beyond is None:
            return True
        head = await self._store.head(beyond.key)
        meta = SegmentMeta.decode(head.metadata) if head else None
        if meta is None:
            return True
        claimant = await self._claimant(cursor.key, meta.writer, cursor.generation)
        return claimant.owns(meta.writer)

    async def _claimant(self, key: str, other: str, generation: int) -> Claimant:
        """Say who asks; whether we took a stream over is only looked up where it matters."""
        claimant = Claimant(self._names.writer)
        if claimant.owns(other):
            return claimant
        taken = await taken_over(self._store, self._names, key, generation)
        return Claimant(self._names.writer, taken)

    async def _settle(
        self,
        look: Look,
        cursor: Cursor | None,
        found: Survey,
        remote: Remote | None,
        key: str,
        *,
        extends: bool,
    ) -> Settlement:
        asked = remote is not None and remote.relation is not Relation.EXTENDS
        other = remote.writer if remote and asked else self._names.writer
        generation = found.meta.generation if found.meta else -1
        claimant = await self._claimant(key, other, generation)
        # More than the source has, and ours: what was undone, or taken over, not a stale copy.
        session = look.snapshot.session
        remembered = cursor is not None and not extends
        mine = other == self._names.writer and (
            remembered or self._staged.reaches(session, key, found.chain.end)
        )
        is_undone = asked and (mine or other in claimant.takes_over)
        return settle(
            key,
            remote,
            used=found.used,
            closed=found.closed,
            claimant=claimant,
            cursor=cursor,
            extends=extends,
            length=look.snapshot.content.size,
            now=self._clock(),
            is_undone=is_undone,
        )

    async def _go_on(self, look: Look, cursor: Cursor, found: Survey, *, extends: bool) -> Decision:
        # A segment that was given up may still land: its place is taken before anything else.
        under_way = self._staged.has_segment(look.snapshot.session)
        actions = plan(
            cursor,
            look.snapshot.records,
            look.snapshot.content.size,
            extends=extends,
            closed=found.closed,
            used=found.used,
            manner=self._standing(found).manner(
                0 if under_way else self._small, theirs=cursor.writer != self._names.writer
            ),
        )
        await self._staged.reject_unplanned(look.snapshot.session, actions)
        return self._decision(look, cursor.key, cursor, actions, found)

    def _decision(
        self,
        look: Look,
        key: str,
        cursor: Cursor | None,
        actions: tuple[Action, ...],
        found: Survey,
    ) -> Decision:
        return Decision(
            look,
            key,
            cursor,
            actions,
            self._standing(found),
            garbage=garbage_of(found, self._names.prefix, key),
            unfinished=unfinished_of(found, self._names.prefix, key),
        )

    def _standing(self, found: Survey) -> Standing:
        return Standing.of(found, self._names, appends=self._store.appends)


async def _extends(look: Look, cursor: Cursor | None) -> bool:
    """Whether the source begins with everything that this cursor holds."""
    content = look.snapshot.content
    if cursor is None:
        return True
    if cursor.length > content.size:
        return False
    return await asyncio.to_thread(digests, content, [cursor.length]) == [cursor.digest]


def _is_lost(found: Survey, cursor: Cursor) -> bool:
    """Whether what was archived stands nowhere any more."""
    stands = found.meta is not None and found.meta.generation == cursor.generation
    is_there = stands and found.chain.end >= cursor.length
    return cursor.generation > found.closed and not is_there


def _kept(decision: Decision) -> int:
    """Return how many bytes of the source stay in the archive as they stand there."""
    cursor = decision.cursor
    used = max(decision.standing.used, cursor.generation if cursor else -1)
    bases = (action for action in decision.actions if isinstance(action, PutBase))
    if any(base.generation > used for base in bases):
        return 0  # a new generation, or the first one
    archived = decision.look.screened.archived if decision.look.screened else 0
    return cursor.length if cursor else archived


def _is_all(found: Survey, cursor: Cursor) -> bool:
    """Whether nothing stands there but what the cursor is about."""
    return _is_known(found, cursor) and found.chain.end == cursor.length


def _is_known(found: Survey, cursor: Cursor) -> bool:
    """Whether what stands there begins with exactly what the cursor is about."""
    head, meta = found.head, found.meta
    if head is None:
        return False
    if meta is None:  # adopted from somebody who writes no metadata
        return (head.etag, head.size) == (cursor.etag, cursor.length)
    identity = (head.etag, meta.generation, meta.writer, meta.length)
    ends = {meta.length, *(segment.end for segment in found.chain.content)}
    wanted = (cursor.etag, cursor.generation, cursor.writer, cursor.base_length)
    return identity == wanted and cursor.length in ends
