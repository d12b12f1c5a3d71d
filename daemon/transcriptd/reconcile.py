"""How a stream stands in the archive, and what that means for its source.

Asked before the first write to a stream after a start, and after every outcome that is not known;
the journal is never believed against the answer. Settles what was staged before a crash. Reads the
archive and writes to the journal, never to the archive.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transcriptd.digest import Digester, digests
from transcriptd.errors import Behind, ConditionFailed, NotFound, Superseded
from transcriptd.journal import because
from transcriptd.layout import Meta, closed_generation, conflict_key, generations_prefix
from transcriptd.model import Cursor
from transcriptd.plan import (
    Begin,
    Continue,
    Preserve,
    PutBase,
    Relation,
    Remote,
    StepAside,
    plan,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from transcriptd.journal import Journal, Target
    from transcriptd.layout import Names
    from transcriptd.model import Session
    from transcriptd.plan import Action
    from transcriptd.snapshot import Look
    from transcriptd.stores import Head, Store


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows: the key to write under, the cursor to go on from, and what to do."""

    key: str
    cursor: Cursor | None
    actions: tuple[Action, ...]


class Reconciler:
    """Asks one archive.

    `on_foreign` hears of a session whose base was overwritten by somebody without our metadata.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        names: Names,
        on_foreign: Callable[[Session], None],
    ) -> None:
        self._store = store
        self._journal = journal
        self._names = names
        self._on_foreign = on_foreign

    async def ask(self, look: Look, cursor: Cursor | None, key: str) -> Decision:
        """Ask the archive how the stream stands, and decide what follows for this source.

        Raises `Behind`, `Superseded` and `StoreError`.
        """
        session, prefix = look.snapshot.session, self._names.prefix
        head, closed = await self._look_at(key)
        meta = _trusted(head)
        remote = await self._compare(key, head, meta, look) if head else None
        extends = remote is not None and remote.relation is Relation.EXTENDS
        if head and meta and extends and await self._is_spoilt(session, key, head, meta):
            # The source still has what was meant to lie there.
            return Decision(key, cursor, (PutBase(meta.generation, replaces=head.etag),))
        taken = await self._settle_staged(session, key, head, cursor, closed)
        if taken and remote:
            cursor = replace(taken, document_digest=cursor.document_digest if cursor else "")
            return await self._go_on(look, cursor, extends=extends, closed=closed)
        if head and cursor and _is_cursor(head, meta, cursor):
            return await self._go_on(look, cursor, extends=look.extends, closed=closed)
        if head and meta is None and cursor:
            self._on_foreign(session)
        settlement = settle(
            key,
            remote,
            closed=closed,
            writer=self._names.writer,
            cursor=cursor,
            extends=look.extends,
        )
        match settlement:
            case Continue(adopted):
                if adopted != cursor:
                    await self._journal.save(session, adopted)
                return await self._go_on(look, adopted, extends=True, closed=closed)
            case Begin(actions):
                await self._reject_unplanned(session, actions)
                return Decision(key, cursor, actions)
            case StepAside():
                aside = conflict_key(prefix, key, self._names.writer)
                return await self.ask(look, None, aside)
        await self._reject_unplanned(session, ())
        raise Behind("the archive holds more than this file; nothing is written")

    async def _is_spoilt(self, session: Session, key: str, head: Head, meta: Meta) -> bool:
        """Whether a base that was staged and never proven holds other bytes than it was sent."""
        put = self._journal.open_transaction(session, "put_base")
        if put is None or put.target.key != key or not _is_target(meta, put.target):
            return False
        return await digest_of(self._store, key, None, head.etag) != put.target.digest

    async def _settle_staged(
        self, session: Session, key: str, head: Head | None, cursor: Cursor | None, closed: int
    ) -> Cursor | None:
        """Settle what was staged before a crash or an unknown outcome, by what the archive says.

        Returns the cursor of a base that took effect. What took none is staged again.
        """
        kept = self._journal.open_transaction(session, "preserve")
        if kept and kept.target.generation <= closed:
            await self._journal.commit(kept.txn, session, None)
        put = self._journal.open_transaction(session, "put_base")
        meta = _trusted(head)
        if put is None or head is None or put.target.key != key:
            return None
        if meta and _is_target(meta, put.target):
            taken = cursor_of(put.target, head)
            await self._journal.commit(put.txn, session, taken)
            return taken
        if cursor is None or not _is_cursor(head, meta, cursor):
            detail = "another writer was there first"
            await self._journal.reject(put.txn, session, because("provenance_fail", detail))
        return None

    async def _reject_unplanned(self, session: Session, actions: tuple[Action, ...]) -> None:
        """Reject what was staged, took no effect, and is not what is to be done now."""
        planned = {type(action) for action in actions}
        for name, kind in (("put_base", PutBase), ("preserve", Preserve)):
            staged = self._journal.open_transaction(session, name)
            if staged and kind not in planned:
                detail = "it took no effect, and the session moved on"
                await self._journal.reject(
                    staged.txn, session, because("invariant_violation", detail)
                )

    async def _go_on(self, look: Look, cursor: Cursor, *, extends: bool, closed: int) -> Decision:
        records, length = look.snapshot.records, len(look.snapshot.content)
        actions = plan(cursor, records, length, extends=extends, closed=closed)
        await self._reject_unplanned(look.snapshot.session, actions)
        return Decision(cursor.key, cursor, actions)

    async def _look_at(self, key: str) -> tuple[Head | None, int]:
        """Ask for the base and for what is closed, both at once."""
        try:
            async with asyncio.TaskGroup() as asking:
                heading = asking.create_task(self._store.head(key))
                listing = asking.create_task(self._highest_closed(key))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # its type decides what follows
        return heading.result(), listing.result()

    async def _highest_closed(self, key: str) -> int:
        highest = -1
        async for entry in self._store.list(generations_prefix(self._names.prefix, key)):
            highest = max(highest, closed_generation(entry.key) or 0)
        return highest

    async def _compare(self, key: str, head: Head, meta: Meta | None, look: Look) -> Remote:
        """Find out how the source's content stands to what lies under the key."""
        content = look.snapshot.content
        length = head.size
        if meta is not None and length <= len(content):
            digest = (await asyncio.to_thread(digests, content, [length]))[0]
            same = digest == meta.digest
            relation = Relation.EXTENDS if same else Relation.DIFFERS
        else:
            shared = min(length, len(content))
            digest = (await asyncio.to_thread(digests, content, [shared]))[0]
            same = not shared or digest == await digest_of(self._store, key, shared, head.etag)
            grown = Relation.EXTENDS if length <= len(content) else Relation.BEHIND
            relation = grown if same else Relation.DIFFERS
        records = meta.records if meta else content.count(b"\n", 0, min(length, len(content)))
        return Remote(head.etag, meta, relation, records, length, digest)

    async def settle_without_source(self, session: Session) -> None:
        """Settle what was staged for a session whose file is gone or empty."""
        for action in ("put_base", "preserve"):
            staged = self._journal.open_transaction(session, action)
            if staged is None:
                continue
            head = await self._store.head(staged.target.key)
            meta = Meta.decode(head.metadata) if head else None
            if head and meta and _is_target(meta, staged.target):
                cursor = cursor_of(staged.target, head) if action == "put_base" else None
                await self._journal.commit(staged.txn, session, cursor)
            else:
                await self._journal.reject(
                    staged.txn, session, because("invariant_violation", "the source is gone")
                )


async def digest_of(store: Store, key: str, length: int | None, etag: str) -> str:
    """Read the first `length` bytes of an object, or all, and return their digest."""
    digester = Digester()
    try:
        async with store.read(key, 0, length, etag=etag) as reading:
            async for chunk in reading.chunks:
                digester.update(chunk)
    except (NotFound, ConditionFailed):
        raise Superseded("the archive changed while it was read") from None
    return digester.hexdigest()


def _trusted(head: Head | None) -> Meta | None:
    """Return the metadata of a base, unless the object is not as long as they say."""
    meta = Meta.decode(head.metadata) if head else None
    return meta if head and meta and meta.length == head.size else None


def _is_target(meta: Meta, target: Target) -> bool:
    return (meta.generation, meta.length, meta.digest, meta.writer) == (
        target.generation,
        target.length,
        target.digest,
        target.writer,
    )


def _is_cursor(head: Head, meta: Meta | None, cursor: Cursor) -> bool:
    """Whether the base still is the one that the cursor is about."""
    if meta is None:  # adopted from somebody who writes no metadata
        return (head.etag, head.size) == (cursor.etag, cursor.length)
    return (head.etag, meta.generation, meta.writer, meta.digest) == (
        cursor.etag,
        cursor.generation,
        cursor.writer,
        cursor.digest,
    )


def cursor_of(target: Target, head: Head) -> Cursor:
    return Cursor(
        key=target.key,
        generation=target.generation,
        records=target.records,
        length=target.length,
        digest=target.digest,
        etag=head.etag,
        writer=target.writer,
    )
