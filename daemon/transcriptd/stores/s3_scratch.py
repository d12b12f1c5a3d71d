"""The requests a probe makes of a server, bare of the care that builds on what it finds."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from transcriptd.errors import Unsupported
from transcriptd.stores.s3_errors import NotEncrypted
from transcriptd.stores.s3_hashes import hashes_of
from transcriptd.stores.s3_uploads import seen_through

if TYPE_CHECKING:
    from transcriptd.stores import Head, Stored
    from transcriptd.stores.probe import Raw
    from transcriptd.stores.s3_deletes import Deletes
    from transcriptd.stores.s3_encryption import Encryption
    from transcriptd.stores.s3_objects import Objects
    from transcriptd.stores.s3_uploads import Uploads


class Scratch:
    """Writes, reads and removes scratch objects. `Raw` says what each method does."""

    def __init__(
        self,
        objects: Objects,
        uploads: Uploads,
        deletes: Deletes,
        encryption: Encryption,
        *,
        signs_bodies: bool,
    ) -> None:
        self._objects = objects
        self._uploads = uploads
        self._deletes = deletes
        self._encryption = encryption
        self._signs_bodies = signs_bodies

    async def head(self, key: str) -> Head | None:
        return await self._objects.head(key)

    async def send_put(
        self, key: str, body: bytes, *, if_none_match: str = "", if_match: str = ""
    ) -> str:
        hashes = await hashes_of(body, signed=self._signs_bodies)
        tags = _tags(if_none_match, if_match)
        try:
            return await self._objects.put(key, body, hashes, {}, tags)
        except NotEncrypted:
            await seen_through(self._deletes.one(key))
            raise
        except Unsupported as refused:
            if tags or not self._encryption.algorithm:
                raise
            # A few bytes without a condition: it is how they are to be stored that is refused.
            raise NotEncrypted(str(refused), hint=self._encryption.hint) from None

    async def send_upload(
        self, key: str, body: bytes, *, if_none_match: str = "", if_match: str = ""
    ) -> str:
        hashes = await hashes_of(body, signed=self._signs_bodies)
        upload = await self._uploads.create(key, {})
        try:
            tag = await self._uploads.send(upload, 1, BytesIO(body), hashes)
            await self._uploads.complete(upload, [tag], len(body), _tags(if_none_match, if_match))
        except BaseException:
            await seen_through(self._uploads.abort(upload))
            raise
        return tag

    async def send_copy(self, key: str, source: Stored) -> None:
        upload = await self._uploads.create(key, {})
        try:
            tag = await self._uploads.copy(upload, 1, source, whole=True)
            await self._uploads.complete(upload, [tag], source.end, {})
        except BaseException:
            await seen_through(self._uploads.abort(upload))
            raise

    async def send_get(self, key: str) -> bytes:
        async with self._objects.read(key) as reading:
            return b"".join([chunk async for chunk in reading.chunks])

    async def send_delete(self, key: str) -> None:
        await self._deletes.one(key)


def _tags(if_none_match: str, if_match: str) -> dict[str, str]:
    tags = {"IfNoneMatch": if_none_match, "IfMatch": if_match}
    return {name: tag for name, tag in tags.items() if tag}


def _conforms(scratch: Scratch) -> Raw:
    return scratch
