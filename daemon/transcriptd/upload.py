"""Carrying out a plan: writing to the archive, and proving it.

The order is always: stage in the journal, write, prove, commit, tidy up. Every step may be
repeated: a crash between any two leaves a state from which the same function of (source, archive)
goes on. Before the first write to a stream after a start, and after every outcome that is not
known, the archive is looked at again (`reconcile`).

Knows the store, the journal and the plan; neither retries nor waits (`worker` does).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import time
from typing import TYPE_CHECKING

from transcriptd import failpoint
from transcriptd.claim import put_claim
from transcriptd.errors import (
    ConditionFailed,
    Corrupted,
    NotFound,
    Resting,
    Superseded,
)
from transcriptd.journal import Target, because
from transcriptd.layout import (
    Meta,
    SegmentMeta,
    document_digest,
    machine_of,
    segment_key,
)
from transcriptd.model import NO_DOCUMENT, Cursor
from transcriptd.plan import (
    SMALL,
    KeepForeign,
    Preserve,
    PutBase,
    PutTail,
    Seal,
    is_apart,
    plan,
)
from transcriptd.preserve import Keeper
from transcriptd.reconcile import Decision, Reconciler, Standing
from transcriptd.sealing import COPYABLE
from transcriptd.staged import OPS, cursor_of
from transcriptd.stores import Absent, Fresh, Matches, Stored
from transcriptd.survey import list_tails, survey, trusted
from transcriptd.sweep import Sweeper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transcriptd.content import Content
    from transcriptd.journal import Journal
    from transcriptd.layout import Names
    from transcriptd.model import Session
    from transcriptd.plan import Action
    from transcriptd.snapshot import Look
    from transcriptd.stores import Condition, Head, Piece, Store
    from transcriptd.tail import Segment


@dataclass(frozen=True, slots=True)
class Sizes:
    """From how many bytes on something is done in another way.

    Base and change together up to `small`: the base is put anew. A base from `copyable` on: the
    store copies it into its replacement. Up to `whole`: one PUT.
    """

    small: int = SMALL
    copyable: int = COPYABLE
    whole: int = 64 << 20


REST_S = 60.0

_DOCUMENT_DIGEST = "td-digest"
_NAMES = {action: name for name, action in OPS.items()}


class Uploader:
    """Brings the archive of one session up to its snapshot.

    `on_foreign` hears of a session whose base was overwritten by somebody without our metadata.
    Without `tails` each change is put as a whole base. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        names: Names,
        *,
        tails: bool = True,
        sizes: Sizes | None = None,
        on_foreign: Callable[[Session], None] = lambda _: None,
        clock: Callable[[], float] = time,
    ) -> None:
        self._store = store
        self._journal = journal
        self._names = names
        self._on_foreign = on_foreign
        self._clock = clock
        self._sizes = sizes or Sizes()
        self._reconciler = Reconciler(
            store, journal, names, tails=tails, small=self._sizes.small, clock=clock
        )
        self._keeper = Keeper(store, journal, names)
        self._sweeper = Sweeper(store)
        self._known: dict[str, Standing] = {}
        self._repaired: dict[str, float] = {}

    async def archive(self, look: Look, cursor: Cursor | None, base_key: str) -> Cursor | None:
        """Archive a snapshot and return where its stream stands then.

        `None` where there was nothing to archive. Raises `Behind`, `Superseded` and `StoreError`.
        """
        snapshot = look.snapshot
        standing = self._known.get(cursor.key) if cursor else None
        if cursor and standing:
            actions = plan(
                cursor,
                snapshot.records,
                snapshot.content.size,
                extends=look.extends,
                used=standing.used,
                manner=standing.manner(
                    self._sizes.small, theirs=cursor.writer != self._names.writer
                ),
            )
            key = cursor.key
        elif snapshot.records or cursor:
            decision = await self._ask(look, cursor, cursor.key if cursor else base_key)
            key, cursor, actions = decision.key, decision.cursor, decision.actions
        else:
            await self._reconciler.settle_without_source(snapshot.session)
            return None
        return await self._carry_out(actions, look, cursor, key)

    async def seal(self, look: Look, cursor: Cursor) -> Cursor:
        """Let the base take in its tail, from a source that begins with all that is archived."""
        if cursor.key not in self._known:
            raise Superseded("the archive has to be looked at first")
        seal = Seal(cursor.generation, cursor.etag)
        return await self._carry_out((seal,), look, cursor, cursor.key) or cursor

    async def seal_without_source(self, session: Session, cursor: Cursor) -> Cursor:
        """Let the base take in its tail, from the archive alone: the source is gone."""
        self.forget(cursor.key)
        sealed, folded = await self._keeper.seal(session, cursor)
        await self._sweeper.sweep(folded)
        return sealed

    async def copies(self, cursor: Cursor) -> bool:
        """Say whether the store copies this base when it is sealed; found out when it matters."""
        if self._store.appends:
            return True
        return cursor.base_length >= self._sizes.copyable and await self._store.copies()

    async def archive_document(
        self, session: Session, document: bytes, cursor: Cursor, key: str
    ) -> Cursor:
        """Put `session.json` under `key`, unless it stands there already.

        Returns the cursor that knows it.
        """
        digest = document_digest(document)
        if digest == cursor.document_digest:
            return cursor
        head = None if cursor.document_digest else await self._store.head(key)
        if head is None or head.metadata.get(_DOCUMENT_DIGEST) != digest:
            metadata = {"td-format": "1", _DOCUMENT_DIGEST: digest, "td-writer": self._names.writer}
            await self._store.put(key, document, metadata)
        cursor = replace(cursor, document_digest=digest)
        await self._journal.save(session, cursor)
        return cursor

    async def settle_without_source(self, session: Session) -> None:
        """Settle what was staged for a session whose file is gone."""
        await self._reconciler.settle_without_source(session)

    async def take_over(self, session: Session, key: str, machine: str | None) -> tuple[str, ...]:
        """Claim a stream against other writers, so that the next save begins a generation there.

        Theirs is preserved before it gives way. Returns those writers.
        """
        found = await survey(self._store, self._names.prefix, key)
        others = {*found.tails.claims, found.meta.writer if found.meta else ""}
        others -= {self._names.writer, ""}
        taken = frozenset(o for o in others if machine is None or machine_of(o) == machine)
        if taken:
            await put_claim(self._store, self._names, key, takes_over=taken)
            self.forget(key)
            await self._journal.forget(session)
        return tuple(sorted(taken))

    def forget(self, key: str) -> None:
        """Look at a stream's archive again before anything is written to it."""
        self._known.pop(key, None)

    async def _ask(self, look: Look, cursor: Cursor | None, key: str) -> Decision:
        decision = await self._reconciler.ask(look, cursor, key)
        if decision.overwritten:
            self._on_foreign(look.snapshot.session)
            self._require_rest(decision.key)
        if max(look.snapshot.content.size, cursor.length if cursor else 0) >= self._sizes.copyable:
            await self._store.discard_uploads(decision.key)
        await self._sweeper.sweep_garbage(decision.garbage)
        standing = decision.standing
        # Nothing tells whose generation a bare base is: beside others it is looked at each time.
        if not (standing.is_bare and standing.contested):
            self._known[decision.key] = standing
        return decision

    def _require_rest(self, key: str) -> None:
        """Repair what somebody else overwrites no more than once a minute."""
        now = self._clock()
        left = self._repaired.get(key, -REST_S) + REST_S - now
        if left > 0:
            raise Resting("somebody else writes to the same key", seconds=min(left, REST_S))
        self._repaired[key] = now

    async def _carry_out(
        self, actions: tuple[Action, ...], look: Look, cursor: Cursor | None, key: str
    ) -> Cursor | None:
        """Do what was planned, and remove what it folded."""
        folded: list[Segment] = []
        try:
            for action in actions:
                match action:
                    case PutBase() | Seal():
                        cursor = await self._put_base(action, look, cursor, key, folded)
                    case PutTail() if cursor:
                        cursor = await self._put_tail(action, look, cursor)
                    case Preserve(generation, etag):
                        folded += await self._keeper.preserve(look, cursor, key, generation, etag)
                    case KeepForeign(etag):
                        await self._keeper.keep_foreign(look.snapshot.session, key, etag)
            await self._sweeper.sweep(folded)
        except (ConditionFailed, NotFound):
            self.forget(key)
            raise Superseded("the archive is not what we knew") from None
        except BaseException:
            # Whatever happened, the archive is looked at before anything else is written.
            self.forget(key)
            raise
        return cursor

    async def _put_base(
        self,
        action: PutBase | Seal,
        look: Look,
        cursor: Cursor | None,
        key: str,
        folded: list[Segment],
    ) -> Cursor:
        snapshot, content = look.snapshot, look.snapshot.content
        replaced = (action.generation, action.replaces)
        before = cursor if cursor and (cursor.generation, cursor.etag) == replaced else None
        sealing = isinstance(action, Seal)
        target = self._target(key, action.generation, look, sealed=before if sealing else None)
        folded += await self._about_to_fold(before, strictly=sealing)
        if before:
            await self._require_base(before)
        pieces = await self._pieces(content, target.length, before)
        session = snapshot.session
        op = self._upload_op(key, target.length)
        txn = await self._journal.stage(session, _NAMES[type(action)], op, target)
        failpoint.reached("staged")
        meta = self._meta(target, session).encode()
        condition: Condition = Matches(action.replaces) if action.replaces else Absent()
        is_ours = before is not None and before.writer == self._names.writer
        apart = is_apart(action.replaces, flip=not is_ours)
        try:
            head = await self._write(key, pieces, meta, condition, apart=apart)
        except Corrupted as error:
            # `Damaged` stays staged: what was stored is read back before anything is built on it.
            await self._journal.reject(txn, session, because("invariant_violation", str(error)))
            raise
        failpoint.reached("uploaded")
        # Where the base is the first thing under its key, nothing stands beside it either.
        first = NO_DOCUMENT if not action.replaces else ""
        sent = sum(p.end - p.start for p in pieces if isinstance(p, Fresh))
        after = replace(
            cursor_of(target, head),
            document_digest=cursor.document_digest if cursor else first,
            sent=(before.sent if before else 0) + sent,
        )
        await self._journal.commit(txn, session, after)
        if standing := self._known.get(key):
            self._known[key] = replace(standing, is_bare=False)
        failpoint.reached("committed")
        return after

    async def _put_tail(self, action: PutTail, look: Look, cursor: Cursor) -> Cursor:
        """Put what is new as one segment; it counts once nobody else can have taken its place."""
        session, content = look.snapshot.session, look.snapshot.content
        target = self._target(cursor.key, action.generation, look)
        key = segment_key(self._names.prefix, cursor.key, action.generation, action.start)
        piece = Fresh(content, action.start, target.length)
        size = target.length - action.start
        meta = SegmentMeta(self._names.writer, pre=cursor.digest)
        op = self._upload_op(key, size)
        txn = await self._journal.stage(session, "put_tail", op, target)
        failpoint.reached("staged")
        try:
            await self._write(key, (piece,), meta.encode(), Absent())
        except Corrupted as error:
            await self._journal.reject(txn, session, because("invariant_violation", str(error)))
            raise
        failpoint.reached("uploaded")
        await self._require_base(cursor)
        after = replace(
            cursor,
            records=target.records,
            length=target.length,
            digest=target.digest,
            tail_length=target.length - cursor.base_length,
            segments=cursor.segments + 1,
            behind_since=cursor.behind_since or self._clock(),
            sent=cursor.sent + size,
        )
        await self._journal.commit(txn, session, after)
        failpoint.reached("committed")
        return after

    async def _require_base(self, cursor: Cursor) -> None:
        """Where another writer may be at work: look whether the base still is the one we know.

        Its ETag does not tell: another generation may have the same.
        """
        standing = self._known.get(cursor.key)
        if standing is None or not standing.contested:
            return
        head = await self._store.head(cursor.key)
        meta = trusted(head)
        if standing.is_bare:
            same = head is not None and meta is None and head.etag == cursor.etag
        else:
            stands = (head.etag, meta.generation, meta.writer) if head and meta else None
            same = stands == (cursor.etag, cursor.generation, cursor.writer)
        if not same:
            raise Superseded("the base is no longer the one we know")

    async def _about_to_fold(self, before: Cursor | None, *, strictly: bool) -> tuple[Segment, ...]:
        """List the segments that a new base takes in; a seal takes in just those we know of."""
        if before is None or not before.tail_length:
            return ()
        tails = await list_tails(self._store, self._names.prefix, before.key)
        if standing := self._known.get(before.key):
            contested = standing.contested or bool(set(tails.claims) - {self._names.writer})
            self._known[before.key] = replace(standing, contested=contested)
        folded = [s for s in tails.of(before.generation) if s.start >= before.base_length]
        ours = tuple(s for s in folded if s.end <= before.length)
        if strictly and sum(s.end - s.start for s in ours) != before.tail_length:
            raise Superseded("the tail is not what we knew")
        return ours

    async def _pieces(
        self, content: Content, length: int, before: Cursor | None
    ) -> tuple[Piece, ...]:
        """Say what a base is made of: of itself where that saves sending it, else of the source."""
        if before and await self.copies(before):
            stored = Stored(before.key, 0, before.base_length, before.etag)
            return stored, Fresh(content, before.base_length, length)
        return (Fresh(content, 0, length),)

    async def _write(
        self,
        key: str,
        pieces: tuple[Piece, ...],
        metadata: Mapping[str, str],
        condition: Condition,
        *,
        apart: bool = False,
    ) -> Head:
        match pieces:
            case (Fresh(content, start, end),) if end - start <= self._sizes.whole and not apart:
                body = content.read(start, end)
                return await self._store.put(key, body, metadata, condition)
        return await self._store.compose(key, pieces, metadata, condition, apart=apart)

    def _target(
        self, key: str, generation: int, look: Look, *, sealed: Cursor | None = None
    ) -> Target:
        """Say what an action leaves behind: all of the source, or what is archived already."""
        snapshot = look.snapshot
        return Target(
            key=key,
            generation=generation,
            records=sealed.records if sealed else snapshot.records,
            length=sealed.length if sealed else snapshot.content.size,
            digest=sealed.digest if sealed else look.digest,
            writer=self._names.writer,
        )

    def _meta(self, target: Target, session: Session) -> Meta:
        return Meta(
            generation=target.generation,
            records=target.records,
            length=target.length,
            digest=target.digest,
            writer=target.writer,
            source=session.source,
        )

    def _upload_op(self, key: str, length: int) -> dict[str, object]:
        return {
            "op": "history_sink_upload",
            "bucket": self._store.bucket,
            "key": key,
            "bytes": length,
        }
