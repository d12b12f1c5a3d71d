"""How an object of any size is made of pieces: by one PUT, or by an upload in parts.

What is stored and large is copied by the server where that is proven; the rest goes through here,
a few parts at once, so that memory is bounded. Nothing replaces what stands under a key before
every part was checked, and nothing is reported before it was looked at.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from transcriptd.errors import AccessDenied, ConditionFailed, Damaged, StoreError, Unsupported
from transcriptd.stores.s3_answers import must_allow, must_be_made_of, must_hold, tags_of
from transcriptd.stores.s3_gather import gathered, together
from transcriptd.stores.s3_hashes import etag_of_parts, hashes_of
from transcriptd.stores.s3_parts import has_copies, is_md5, parts_of, size_of
from transcriptd.stores.s3_uploads import AT_ONCE, seen_through

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transcriptd.stores import Condition, Head, Piece
    from transcriptd.stores.capabilities import Parts
    from transcriptd.stores.probed import Probed
    from transcriptd.stores.s3_objects import Objects
    from transcriptd.stores.s3_parts import Limits, Part
    from transcriptd.stores.s3_uploads import Upload, Uploads


class Put(Protocol):
    """Writes a body and proves it, as `Store.put` does."""

    async def __call__(
        self, key: str, body: bytes, metadata: Mapping[str, str], condition: Condition
    ) -> Head: ...


@dataclass(frozen=True, slots=True)
class Order:
    """What `Store.compose` was asked for."""

    key: str
    pieces: Sequence[Piece]
    metadata: Mapping[str, str]
    condition: Condition
    apart: bool


class Composer:
    """Makes objects of pieces. `Store.compose` says what is promised."""

    def __init__(
        self,
        objects: Objects,
        uploads: Uploads,
        probed: Probed,
        put: Put,
        limits: Limits,
        *,
        signs_bodies: bool,
    ) -> None:
        self._objects = objects
        self._uploads = uploads
        self._probed = probed
        self._put = put
        self._limits = limits
        self._signs_bodies = signs_bodies
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def compose(self, order: Order) -> Head:
        may_copy = (
            has_copies(order.pieces, self._limits) and (await self._probed.parts()).copy_parts
        )
        return await self._compose(order, may_copy=may_copy)

    def close(self) -> None:
        # A semaphore that was waited for stays with its event loop.
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def _compose(self, order: Order, *, may_copy: bool) -> Head:
        parts = parts_of(order.pieces, self._limits, may_copy=may_copy, apart=order.apart)
        if parts is None:
            async with self._slots:
                body = await gathered(order.pieces, self._objects.read)
                return await self._put(order.key, body.getvalue(), order.metadata, order.condition)
        known = await self._probed.parts()
        try:
            tags = await self._upload(order, parts, known)
        except (Damaged, Unsupported):
            if not any(part.copied for part in parts):
                raise
            # It copies, and not this: R2, for example, wants parts of one size.
            return await self._compose(order, may_copy=False)
        return await self._proven(order, tags, known)

    async def _upload(self, order: Order, parts: Sequence[Part], known: Parts) -> list[str]:
        """Upload the parts and complete; return the ETags of the parts."""
        sources = await self._look(order.key, order.condition, parts)
        upload = await self._create(order)
        expected = ""
        try:
            tags = await self._send_all(upload, parts, sources, known)
            await self._check_ranges(upload, parts, sources)
            conditions = tags_of(order.condition, known.if_none_match, known.if_match)
            await self._look(order.key, None if conditions else order.condition, parts)
            expected = etag_of_parts(tags) if known.etags_are_sums else ""
            await self._uploads.complete(upload, tags, size_of(order.pieces), conditions)
        except BaseException:
            await seen_through(self._give_up(upload, expected))
            raise
        return tags

    async def _look(
        self, key: str, condition: Condition, parts: Sequence[Part]
    ) -> Mapping[str, Head]:
        """Look whether the condition holds and what is to be copied is what it was.

        Returns what stands under the keys that are copied from.
        """
        copied = [part.copied for part in parts if part.copied]
        keys = {piece.key for piece in copied} | ({key} if condition else set())
        async with together() as group:
            looks = {key: group.create_task(self._objects.head(key)) for key in keys}
        found = {key: look.result() for key, look in looks.items()}
        if condition:
            must_allow(condition, found[key])
        for piece in copied:
            head = found[piece.key]
            if head is None or head.etag != piece.etag or head.size < piece.end:
                raise ConditionFailed("compose: a piece is not what it was")
        return {key: head for key, head in found.items() if head}

    async def _create(self, order: Order) -> Upload:
        """Begin an upload. Who gives up meanwhile leaves none behind."""
        creating = asyncio.create_task(
            self._uploads.create(order.key, order.metadata), name="store.create_upload"
        )
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            await seen_through(self._abort_when_created(creating))
            raise

    async def _abort_when_created(self, creating: asyncio.Task[Upload]) -> None:
        await self._uploads.abort(await creating)

    async def _send_all(
        self, upload: Upload, parts: Sequence[Part], sources: Mapping[str, Head], known: Parts
    ) -> list[str]:
        sending: list[asyncio.Task[str]] = []
        slots = self._slots
        async with together() as group:
            for number, part in enumerate(parts, 1):
                await slots.acquire()
                task = group.create_task(
                    self._send(upload, number, part, sources, known), name="store.part"
                )
                # Not within the task: one that is cancelled before it began runs nothing at all.
                task.add_done_callback(lambda _: slots.release())
                sending.append(task)
        return [task.result() for task in sending]

    async def _send(
        self,
        upload: Upload,
        number: int,
        part: Part,
        sources: Mapping[str, Head],
        known: Parts,
    ) -> str:
        """Send one part, or let it be copied; return its ETag, as far as it can be checked."""
        if part.copied:
            source = sources[part.copied.key]
            whole = part.size == source.size
            tag = await self._uploads.copy(upload, number, part.copied, whole=whole)
            wanted = source.etag if whole and is_md5(source.etag) else tag
        else:
            body = await gathered(part.pieces, self._objects.read)
            hashes = await hashes_of(body.getbuffer(), signed=self._signs_bodies)
            tag = await self._uploads.send(upload, number, body, hashes)
            wanted = hashes.md5.hex()
        if known.etags_are_sums and tag != wanted:
            raise Damaged("compose: the store holds another part than it was given")
        return tag

    async def _check_ranges(
        self, upload: Upload, parts: Sequence[Part], sources: Mapping[str, Head]
    ) -> None:
        """Let the server say how long the parts are, where it copied a part of an object.

        The probe cannot prove that it does: AWS copies no range of a small object.
        """
        ranges = {
            number: part.size
            for number, part in enumerate(parts, 1)
            if part.copied and part.size != sources[part.copied.key].size
        }
        if not ranges:
            return
        try:
            sizes = await self._uploads.sizes(upload)
        except AccessDenied:
            raise Unsupported("list_parts: the credentials may not see what was copied") from None
        if not ranges.items() <= sizes.items():
            raise Damaged("compose: the store copied another range than was asked for")

    async def _give_up(self, upload: Upload, expected: str) -> None:
        """Abort, unless the object with the ETag that is expected stands there already.

        Swift would remove the bytes of one that is being completed.
        """
        if expected:
            with suppress(StoreError):
                head = await self._objects.head(upload.key)
                if head and head.etag == expected:
                    return
        await self._uploads.abort(upload)

    async def _proven(self, order: Order, tags: Sequence[str], known: Parts) -> Head:
        stands = await self._objects.head(order.key, written=True)
        try:
            head = must_hold(stands, size_of(order.pieces), order.metadata)
            if known.etags_are_sums:
                must_be_made_of(head, tags)
        except Damaged:
            self._probed.forget()
            raise
        return head
