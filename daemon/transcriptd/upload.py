"""Carrying out a plan: writing to the archive, and proving it.

The order is always: stage in the journal, write, prove, commit. Every step may be repeated: a crash
between any two leaves a state from which the same function of (source, archive) goes on. Before the
first write to a stream after a start, and after every outcome that is not known, the archive is
looked at again (`reconcile`).

Knows the store, the journal and the plan; neither retries nor waits (`worker` does).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from transcriptd import failpoint
from transcriptd.errors import (
    ConditionFailed,
    Corrupted,
    Damaged,
    NotFound,
    StoreError,
    Superseded,
    Unsupported,
)
from transcriptd.journal import Target, because
from transcriptd.layout import (
    Meta,
    document_digest,
    foreign_key,
    generation_key,
)
from transcriptd.model import NO_DOCUMENT, Cursor
from transcriptd.plan import (
    KeepForeign,
    Preserve,
    PutBase,
    plan,
)
from transcriptd.reconcile import Reconciler, cursor_of, digest_of
from transcriptd.stores import Absent, Matches

if TYPE_CHECKING:
    from collections.abc import Callable

    from transcriptd.journal import Journal
    from transcriptd.layout import Names
    from transcriptd.model import Session
    from transcriptd.plan import Action
    from transcriptd.snapshot import Look
    from transcriptd.stores import Store

_DOCUMENT_DIGEST = "td-digest"


class Uploader:
    """Brings the archive of one session up to its snapshot.

    `on_foreign` hears of a session whose base was overwritten by somebody without our metadata.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        names: Names,
        *,
        on_foreign: Callable[[Session], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._journal = journal
        self._names = names
        self._reconciler = Reconciler(store, journal, names, on_foreign)
        self._reconciled: set[str] = set()

    async def archive(self, look: Look, cursor: Cursor | None, base_key: str) -> Cursor | None:
        """Archive a snapshot and return where its stream stands then.

        `None` where there was nothing to archive. Raises `Behind`, `Superseded` and `StoreError`.
        """
        snapshot = look.snapshot
        if cursor is not None and cursor.key in self._reconciled:
            actions = plan(cursor, snapshot.records, len(snapshot.content), extends=look.extends)
            key = cursor.key
        elif snapshot.records or cursor:
            key = cursor.key if cursor else base_key
            decision = await self._reconciler.ask(look, cursor, key)
            key, cursor, actions = decision.key, decision.cursor, decision.actions
            self._reconciled.add(key)
        else:
            await self._reconciler.settle_without_source(snapshot.session)
            return None
        for action in actions:
            cursor = await self._carry_out(action, look, cursor, key)
        return cursor

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

    async def _carry_out(
        self, action: Action, look: Look, cursor: Cursor | None, key: str
    ) -> Cursor | None:
        try:
            match action:
                case PutBase():
                    return await self._put_base(action, look, cursor, key)
                case Preserve():
                    await self._preserve(action, look, key)
                case KeepForeign(etag):
                    target = foreign_key(self._names.prefix, key, etag)
                    await self._keep(look, key, target, etag)
        except (ConditionFailed, NotFound):
            self._reconciled.discard(key)
            raise Superseded("the archive is not what we knew") from None
        except (StoreError, Superseded):
            # Whatever happened, the archive is looked at before anything else is written.
            self._reconciled.discard(key)
            raise
        return cursor

    async def _put_base(
        self, action: PutBase, look: Look, cursor: Cursor | None, key: str
    ) -> Cursor:
        snapshot = look.snapshot
        target = Target(
            key=key,
            generation=action.generation,
            records=snapshot.records,
            length=len(snapshot.content),
            digest=look.digest,
            writer=self._names.writer,
        )
        session = snapshot.session
        op = self._upload_op(key, target.length)
        txn = await self._journal.stage(session, "put_base", op, target)
        failpoint.reached("staged")
        meta = Meta(
            generation=target.generation,
            records=target.records,
            length=target.length,
            digest=target.digest,
            writer=target.writer,
            source=session.source,
        )
        condition = Matches(action.replaces) if action.replaces else Absent()
        try:
            head = await self._store.put(key, snapshot.content, meta.encode(), condition)
        except Corrupted as error:
            # `Damaged` stays staged: what was stored is read back before anything is built on it.
            await self._journal.reject(txn, session, because("invariant_violation", str(error)))
            raise
        failpoint.reached("uploaded")
        # Where the base is the first thing under its key, nothing stands beside it either.
        first = NO_DOCUMENT if not action.replaces else ""
        document = cursor.document_digest if cursor else first
        after = replace(cursor_of(target, head), document_digest=document)
        await self._journal.commit(txn, session, after)
        self._reconciled.add(key)
        failpoint.reached("committed")
        return after

    async def _preserve(self, action: Preserve, look: Look, key: str) -> None:
        """Keep the base as a finished generation; returns once that has been read back."""
        head = await self._store.head(key)
        if head is None or head.etag != action.etag:
            raise Superseded("the base is not the one that was to be preserved")
        session = look.snapshot.session
        meta = Meta.decode(head.metadata)
        records, digest = (meta.records, meta.digest) if meta else (0, "")
        target = generation_key(self._names.prefix, key, action.generation)
        op: dict[str, object] = {
            "op": "compaction",
            "before": records,
            "after": look.snapshot.records,
        }
        expected = Target(target, action.generation, records, head.size, digest, self._names.writer)
        txn = await self._journal.stage(session, "preserve", op, expected)
        try:
            await self._keep(look, key, target, head.etag)
        except StoreError as error:
            if isinstance(error, Damaged | Unsupported):
                await self._journal.reject(txn, session, because("destructive_op"))
            raise
        failpoint.reached("preserved")
        await self._journal.commit(txn, session, None)

    async def _keep(self, look: Look, key: str, target: str, etag: str) -> None:
        """Copy an object inside the archive, once, and read the copy back."""
        wanted = await digest_of(self._store, key, None, etag)
        try:
            await self._store.copy(key, target, etag=etag)
        except (ConditionFailed, Unsupported, Damaged):
            # It stands there already, or short, or this server cannot.
            await self._copy_through_here(key, target, etag)
        head = await self._store.head(target)
        if head is None or await digest_of(self._store, target, None, head.etag) != wanted:
            session = look.snapshot.session
            raise Damaged(
                f"the kept copy of session {session.id} is not what was to be kept",
                hint=f"look at {target}; nothing was replaced",
            )

    async def _copy_through_here(self, key: str, target: str, etag: str) -> None:
        """Copy what the store cannot copy, or copied short: a longer copy may replace a shorter."""
        async with self._store.read(key, etag=etag) as reading:
            body = b"".join([chunk async for chunk in reading.chunks])
            metadata = reading.head.metadata
        short = await self._store.head(target)
        if short is not None and short.size >= len(body):
            return  # it stands there already; the caller reads it back
        await self._store.put(target, body, metadata, Matches(short.etag) if short else Absent())

    def _upload_op(self, key: str, length: int) -> dict[str, object]:
        return {
            "op": "history_sink_upload",
            "bucket": self._store.bucket,
            "key": key,
            "bytes": length,
        }
