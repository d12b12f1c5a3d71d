"""Making whole objects from what the archive holds: finished generations, foreign bases, seals.

The source no longer has these bytes, so they come from the archive: the base and the segments that
continue it, joined by the store, and read back before anything is built on them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from transcriptd import failpoint
from transcriptd.compare import Whole, digest_of, read_whole
from transcriptd.errors import ConditionFailed, Damaged, StoreError, Superseded, Unsupported
from transcriptd.layout import (
    Meta,
    Redaction,
    SegmentMeta,
    foreign_key,
    generation_key,
    segment_key,
)
from transcriptd.rows import Target, because
from transcriptd.staged import meta_of
from transcriptd.stores import Absent, Matches, Stored
from transcriptd.survey import survey, trusted
from transcriptd.tail import chain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transcriptd.journal import Journal
    from transcriptd.layout import Names
    from transcriptd.model import Cursor, Session
    from transcriptd.snapshot import Look
    from transcriptd.stores import Head, Store
    from transcriptd.survey import Survey
    from transcriptd.tail import Segment


class Keeper:
    """Keeps what would otherwise be overwritten, in one archive."""

    def __init__(self, store: Store, journal: Journal, names: Names) -> None:
        self._store = store
        self._journal = journal
        self._names = names

    async def preserve(
        self, look: Look, cursor: Cursor | None, key: str, generation: int, etag: str
    ) -> tuple[Segment, ...]:
        """Keep a generation whole under `.generations/`.

        Returns the segments that it took in, once it has been read back.
        """
        found, session = await self._survey(key), look.snapshot.session
        other = found.meta is not None and found.meta.generation != generation
        if found.head is None or found.head.etag != etag or other:
            raise Superseded("the base is not the one that was to be preserved")
        whole = await self._whole(key, found.head, found, generation, cursor)
        target = generation_key(self._names.prefix, key, generation)
        writer = found.meta.writer if found.meta else self._names.writer
        op: dict[str, object] = {
            "op": "compaction",
            "before": whole.records,
            "after": look.snapshot.records,
        }
        staged = Target(key, generation, whole.records, whole.length, whole.digest, writer)
        await self._stop(found, whole, key, generation)
        txn = await self._journal.stage(session, "preserve", op, staged)
        try:
            meta = meta_of(staged, session, await self._redaction(found, whole)).encode()
            await self._keep(session, target, _pieces(key, found.head, whole), meta, whole)
        except StoreError as error:
            if isinstance(error, Damaged | Unsupported):
                await self._journal.reject(txn, session, because("destructive_op"))
            raise
        failpoint.reached("preserved")
        await self._journal.commit(txn, session, None)
        return whole.segments

    async def keep_foreign(self, session: Session, key: str, etag: str) -> None:
        """Keep a base that somebody else wrote, with the metadata that it has."""
        head = await self._store.head(key)
        if head is None or head.etag != etag or trusted(head) is not None:
            raise Superseded("the base is not the one that was to be kept")
        whole = Whole(0, head.size, await digest_of(self._store, key, None, etag))
        target = foreign_key(self._names.prefix, key, etag)
        pieces = _pieces(key, head, whole)
        await self._keep(session, target, pieces, head.metadata, whole)

    async def seal(self, session: Session, cursor: Cursor) -> tuple[Cursor, tuple[Segment, ...]]:
        """Let a base take in its tail, from the archive alone.

        Returns the cursor since then and the segments that may go. Raises `Superseded` where the
        archive is not what the cursor says.
        """
        found, key = await self._survey(cursor.key), cursor.key
        head, meta = found.head, found.meta
        identity = (cursor.etag, cursor.generation, cursor.writer)
        is_ours = head and meta and (head.etag, meta.generation, meta.writer) == identity
        if head is None or not is_ours or found.chain.end < cursor.length:
            raise Superseded("the archive is not what we knew")
        whole = await self._whole(key, head, found, cursor.generation, cursor)
        if whole.length < cursor.length:
            raise Superseded("the archive is not what we knew")
        staged = Target(
            key, cursor.generation, whole.records, whole.length, whole.digest,
            self._names.writer,
        )  # fmt: skip
        op: dict[str, object] = {
            "op": "history_sink_upload",
            "bucket": self._store.bucket,
            "key": key,
            "bytes": whole.length,
        }
        txn = await self._journal.stage(session, "seal", op, staged)
        sealed = await self._store.compose(
            key,
            _pieces(key, head, whole),
            meta_of(staged, session, await self._redaction(found, whole)).encode(),
            Matches(head.etag),
            apart="-" in head.etag,  # of the same kind: `upload`
        )
        if await digest_of(self._store, key, None, sealed.etag) != whole.digest:
            raise Damaged("the sealed base is not what it was made of")
        after = replace(
            cursor, etag=sealed.etag, writer=staged.writer,
            records=whole.records, length=whole.length, digest=whole.digest,
            tail_length=0, segments=0, behind_since=0.0, sent=cursor.sent + cursor.tail_length,
        )  # fmt: skip
        await self._journal.commit(txn, session, after)
        return after, whole.segments

    async def _stop(self, found: Survey, whole: Whole, key: str, generation: int) -> None:
        """Take the place where a generation would go on: from here on it does not.

        Whoever adds to it at the same time is found out by the condition, or finds out. The mark
        stays for whoever comes later.
        """
        if self._store.appends or (generation, whole.length) in found.tails.stops:
            return
        where = segment_key(self._names.prefix, key, generation, whole.length)
        meta = SegmentMeta(self._names.writer, pre=whole.digest)
        if found.may_list and not any(s.key == where for s in found.tails.segments):
            await self._store.put(where, b"", meta.encode(), Absent())

    async def _redaction(self, found: Survey, whole: Whole) -> Redaction:
        """Return what was done about secrets in a base and its tail, by what was written last."""
        said = found.meta.redaction if found.meta else Redaction()
        if whole.segments:
            head = await self._store.head(whole.segments[-1].key)
            last = SegmentMeta.decode(head.metadata) if head else None
            has_said = last is not None and last.redaction != Redaction()
            said = last.redaction if last and has_said else replace(said, plain="")
        return said

    async def _survey(self, key: str) -> Survey:
        return await survey(self._store, self._names.prefix, key)

    async def _whole(
        self, key: str, head: Head, found: Survey, generation: int, cursor: Cursor | None
    ) -> Whole:
        """Say what a generation is: by a cursor that is about just this, else by reading it."""
        segments = chain(found.tails.of(generation), head.size).content
        end = segments[-1].end if segments else head.size
        if cursor and (cursor.key, cursor.generation, cursor.etag, cursor.length) == (
            key, generation, head.etag, end,
        ):  # fmt: skip
            return Whole(cursor.records, end, cursor.digest, segments)
        return await read_whole(self._store, key, head, segments)

    async def _keep(
        self,
        session: Session,
        target: str,
        pieces: tuple[Stored, ...],
        metadata: Mapping[str, str],
        whole: Whole,
    ) -> None:
        """Join pieces under a key that is written once, and read the result back."""
        try:
            await self._store.compose(target, pieces, metadata, Absent())
        except ConditionFailed:
            # It stands there already, or a copy that the store cut short: that may be made whole.
            short = await self._store.head(target)
            if short is None:
                raise
            if short.size < whole.length and await self._is_cut(target, short, pieces, whole):
                await self._store.compose(target, pieces, metadata, Matches(short.etag))
        head = await self._store.head(target)
        kept = await digest_of(self._store, target, whole.length, head.etag) if head else ""
        if kept != whole.digest:
            raise Damaged(
                f"the kept copy of session {session.id} is not what was to be kept",
                hint=f"look at {target}; nothing was replaced",
            )

    async def _is_cut(
        self, target: str, short: Head, pieces: tuple[Stored, ...], whole: Whole
    ) -> bool:
        """Whether a copy is a damaged one of just these bytes, or a beginning of them."""
        said = Meta.decode(short.metadata)
        if said and said.length != short.size and said.digest == whole.digest:
            return True
        base = pieces[0]
        if short.size > base.end:
            return False
        kept = await digest_of(self._store, target, None, short.etag)
        return kept == await digest_of(self._store, base.key, short.size, base.etag)


def _pieces(key: str, head: Head, whole: Whole) -> tuple[Stored, ...]:
    tail = (Stored(s.key, 0, s.end - s.start, s.etag) for s in whole.segments)
    return (Stored(key, 0, head.size, head.etag), *tail)
