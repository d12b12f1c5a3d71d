"""Carrying out a plan: writing to the archive, and proving it.

The order is always: stage in the journal, write, prove, commit, tidy up. Every step may be
repeated: a crash between any two leaves a state from which the same function of (source, archive)
goes on. Before the first write to a stream after a start, and after every outcome that is not
known, the archive is looked at again (`reconcile`).

Knows the store, the journal and the plan; neither retries nor waits (`worker` does).
"""

from __future__ import annotations

from dataclasses import replace
from time import time
from typing import TYPE_CHECKING

from transcriptd.claim import put_claim
from transcriptd.errors import (
    ConditionFailed,
    NotFound,
    Resting,
    Superseded,
)
from transcriptd.layout import (
    document_digest,
    machine_of,
)
from transcriptd.model import NO_DOCUMENT
from transcriptd.plan import (
    KeepForeign,
    Preserve,
    PutBase,
    PutTail,
    Seal,
    plan,
)
from transcriptd.preserve import Keeper
from transcriptd.reconcile import Reconciler
from transcriptd.stores import Absent, Matches
from transcriptd.survey import survey
from transcriptd.sweep import Sweeper
from transcriptd.write import Sizes, Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from transcriptd.decision import Decision, Standing
    from transcriptd.journal import Journal
    from transcriptd.layout import Names
    from transcriptd.masks import Secret
    from transcriptd.model import Cursor, Session
    from transcriptd.plan import Action
    from transcriptd.snapshot import Look
    from transcriptd.stores import Store
    from transcriptd.tail import Segment


REST_S = 60.0

_DOCUMENT_DIGEST = "td-digest"


class Uploader:
    """Brings the archive of one session up to its snapshot.

    With its `secret` masked sources are known again (`masks`). `on_foreign` hears of a session
    whose base was overwritten by somebody without our metadata. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        names: Names,
        *,
        secret: Secret | None = None,
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
            store, journal, names, secret=secret, small=self._sizes.small, clock=clock
        )
        self._keeper = Keeper(store, journal, names)
        self._sweeper = Sweeper(store)
        self._known: dict[str, Standing] = {}
        self._writer = Writer(
            store, journal, names, self._known, secret=secret, sizes=self._sizes, clock=clock
        )
        self._repaired: dict[str, float] = {}
        self._documents: dict[str, str] = {}  # the ETag of each `session.json` that we replaced

    async def archive(
        self, look: Look, cursor: Cursor | None, base_key: str
    ) -> tuple[Look, Cursor | None]:
        """Archive a snapshot and return where its stream stands then.

        `None` where there was nothing to archive. The look has the masks that stand in the archive,
        where those were not known. Raises `Behind`, `Superseded`, `StoreError`, and `Unreadable`
        where rules cannot look.
        """
        snapshot = look.snapshot
        standing = self._standing(snapshot.session, cursor)
        # What does not go on is first compared with the archive: no generation begins on the
        # journal's word alone.
        if cursor and standing and look.extends:
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
            look, key = decision.look, decision.key
            cursor, actions = decision.cursor, decision.actions
        else:
            await self._reconciler.settle_without_source(snapshot.session)
            return look, None
        return look, await self._carry_out(actions, look, cursor, key)

    async def seal(self, look: Look, cursor: Cursor) -> Cursor:
        """Let the base take in its tail, from a source that begins with all that is archived."""
        if self._standing(look.snapshot.session, cursor) is None:
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
        return await self._writer.copies(cursor)

    async def archive_document(
        self, session: Session, document: bytes, cursor: Cursor, key: str
    ) -> Cursor:
        """Put `session.json` under `key`, unless it stands there already.

        Returns the cursor that knows it.
        """
        digest = document_digest(document)
        if digest == cursor.document_digest:
            return cursor
        tag, stands = self._documents.pop(key, ""), False
        if not tag and cursor.document_digest != NO_DOCUMENT:
            head = await self._store.head(key)
            tag = head.etag if head else ""
            stands = head is not None and head.metadata.get(_DOCUMENT_DIGEST) == digest
        if not stands:
            metadata = {"td-format": "1", _DOCUMENT_DIGEST: digest, "td-writer": self._names.writer}
            condition = Matches(tag) if tag else Absent()
            try:
                written = await self._store.put(key, document, metadata, condition)
            except ConditionFailed:  # a late one of ours, or another writer's
                await self._journal.save(session, replace(cursor, document_digest=""))
                raise Superseded("session.json is not what we knew") from None
            if tag:  # most are written once, and need not be remembered
                self._documents[key] = written.etag
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
            limits = dict.fromkeys(taken, found.used)
            await put_claim(self._store, self._names, key, takes_over=limits)
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
        # One that was adopted before a rest is still not repaired, though nothing is new of it.
        unrepaired = decision.standing.is_bare and decision.key in self._repaired
        if decision.overwritten or (unrepaired and decision.actions):
            self._require_rest(decision.key)
        for each in decision.unfinished:
            await self._store.discard_uploads(each)
        await self._sweeper.sweep_garbage(decision.garbage)
        standing = decision.standing
        # Nothing tells whose generation a bare base is: beside others it is looked at each time.
        if not (standing.is_bare and standing.contested):
            self._known[decision.key] = replace(standing, session=look.snapshot.session)
        return decision

    def _standing(self, session: Session, cursor: Cursor | None) -> Standing | None:
        """Return what is known of a stream, if this session's cursor is from then or later.

        A file that was compressed, or comes back, goes on with the stream of another one.
        """
        standing = self._known.get(cursor.key) if cursor else None
        return standing if standing and standing.session == session else None

    def _require_rest(self, key: str) -> None:
        """Repair what somebody else overwrites no more than once a minute."""
        now = self._clock()
        left = self._repaired.get(key, -REST_S) + REST_S - now
        if 0 < left <= REST_S:  # above: the clock was set back
            raise Resting("somebody else writes to the same key", seconds=left)
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
                        cursor = await self._writer.put_base(action, look, cursor, key, folded)
                    case PutTail() if cursor:
                        cursor = await self._writer.put_tail(action, look, cursor)
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
