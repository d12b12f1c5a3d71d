"""Writing what is new to one stream, as a base or as a segment, and proving it.

The order is always: stage in the journal, write, prove, commit. Decides nothing: what is to be
done is an action (`plan`), in which order with others the uploader's business.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transcriptd import failpoint
from transcriptd.digest import digests
from transcriptd.errors import Corrupted, Superseded
from transcriptd.layout import MASKED, Redaction, SegmentMeta, segment_key
from transcriptd.model import NO_DOCUMENT, Cursor
from transcriptd.plan import SMALL, PutBase, PutTail, Seal, is_apart
from transcriptd.rows import Target, because
from transcriptd.staged import OPS, cursor_of, meta_of
from transcriptd.stores import Absent, Fresh, Matches, Stored
from transcriptd.survey import list_tails, trusted
from transcriptd.tail import chain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transcriptd.content import Content
    from transcriptd.decision import Standing
    from transcriptd.journal import Journal
    from transcriptd.layout import Names
    from transcriptd.masks import Secret
    from transcriptd.snapshot import Look
    from transcriptd.stores import Condition, Head, Piece, Store
    from transcriptd.tail import Segment

COPYABLE = 5 << 20
"""From so many bytes on S3 copies a base into its own replacement."""

_NAMES = {action: name for name, action in OPS.items()}


@dataclass(frozen=True, slots=True)
class Sizes:
    """From how many bytes on something is done in another way.

    Base and change together up to `small`: the base is put anew. A base from `copyable` on: the
    store copies it into its replacement. Up to `whole`: one PUT.
    """

    small: int = SMALL
    copyable: int = COPYABLE
    whole: int = 64 << 20


class Writer:
    """Writes to one archive. `standings` is what is known of each stream's archive, by key.

    With the `secret` is said of what source something masked is. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        names: Names,
        standings: dict[str, Standing],
        *,
        secret: Secret | None,
        sizes: Sizes,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._journal = journal
        self._names = names
        self._known = standings
        self._secret = secret
        self._sizes = sizes
        self._clock = clock

    async def copies(self, cursor: Cursor) -> bool:
        """Say whether the store copies this base when it is sealed; it may have to be probed."""
        if self._store.appends:
            return True
        return cursor.base_length >= self._sizes.copyable and await self._store.copies()

    async def put_base(
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
        pieces = await self._pieces(content, target.length, before, look.origin)
        session = snapshot.session
        op = self._upload_op(key, target.length)
        txn = await self._journal.stage(session, _NAMES[type(action)], op, target)
        failpoint.reached("staged")
        redaction = await self._redaction(look, target.length)
        meta = meta_of(target, session, redaction).encode()
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

    async def put_tail(self, action: PutTail, look: Look, cursor: Cursor) -> Cursor:
        """Put what is new as one segment; it counts once nobody else can have taken its place."""
        session, content = look.snapshot.session, look.snapshot.content
        target = self._target(cursor.key, action.generation, look)
        key = segment_key(self._names.prefix, cursor.key, action.generation, action.start)
        piece = Fresh(content, action.start, target.length)
        size = target.length - action.start
        redaction = await self._redaction(look, target.length)
        meta = SegmentMeta(self._names.writer, pre=cursor.digest, redaction=redaction)
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
        folded = chain(tails.of(before.generation), before.base_length).content
        ours = tuple(s for s in folded if s.end <= before.length)
        if strictly and sum(s.end - s.start for s in ours) != before.tail_length:
            raise Superseded("the tail is not what we knew")
        return ours

    async def _pieces(
        self, content: Content, length: int, before: Cursor | None, origin: Cursor | None
    ) -> tuple[Piece, ...]:
        """Say what a base is made of: of what is stored where that saves sending it.

        That is itself, or what the session was archived as under a former name; else the source.
        """
        stored = before if before and await self.copies(before) else None
        if before is None and origin and await self._still_copies(origin, length):
            stored = origin
        if stored is None:
            return (Fresh(content, 0, length),)
        end = stored.base_length
        copied = Stored(stored.key, 0, end, stored.etag)
        return (copied, Fresh(content, end, length)) if end < length else (copied,)

    async def _still_copies(self, origin: Cursor, length: int) -> bool:
        """Whether the store copies another base, and it is the one we know; alone, also small."""
        if origin.base_length < self._sizes.small:
            return False
        if origin.base_length < length and origin.base_length < self._sizes.copyable:
            return False
        head = await self._store.head(origin.key)
        same = head is not None and head.etag == origin.etag
        return same and (self._store.appends or await self._store.copies())

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

    async def _redaction(self, look: Look, length: int) -> Redaction:
        """Say what was done about secrets in the first `length` bytes of a look."""
        screened = look.screened
        if screened is None:
            return Redaction()
        mode = MASKED if screened.screening.masks else screened.mode  # masks stay whatever it is
        if mode != MASKED or self._secret is None:
            return Redaction(mode, screened.rules)
        plain = screened.plain_digest
        if length != screened.plain.size:
            plain = (await asyncio.to_thread(digests, screened.plain, [length]))[0]
        return Redaction(mode, screened.rules, self._secret.says(plain))

    def _upload_op(self, key: str, length: int) -> dict[str, object]:
        return {
            "op": "history_sink_upload",
            "bucket": self._store.bucket,
            "key": key,
            "bytes": length,
        }
