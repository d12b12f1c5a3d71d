"""The S3 store: what it asks a server for, and how it proves what it wrote.

Only the modules `s3*` know the SDK. What a server honours is known by `probed`; how a request
travels, by `s3_requests`; how something large is written, by `s3_compose`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from transcriptd import layout
from transcriptd.errors import AccessDenied, Damaged, NotFound, Unsupported
from transcriptd.stores import Head, Stored, Traffic
from transcriptd.stores.keys import check_key, check_range, check_removable
from transcriptd.stores.patience import Patience
from transcriptd.stores.probed import Probed
from transcriptd.stores.s3_answers import lowered, must_allow, must_hold, tags_of
from transcriptd.stores.s3_bucket import Questions
from transcriptd.stores.s3_client import Client, shown_endpoint
from transcriptd.stores.s3_compose import Composer, Order
from transcriptd.stores.s3_deletes import Deletes
from transcriptd.stores.s3_encryption import encryption_of
from transcriptd.stores.s3_hashes import hashes_of
from transcriptd.stores.s3_objects import Objects
from transcriptd.stores.s3_parts import Limits
from transcriptd.stores.s3_requests import Requests
from transcriptd.stores.s3_scratch import Scratch
from transcriptd.stores.s3_uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from transcriptd.config import Config
    from transcriptd.config.settings import S3Credentials, S3Settings
    from transcriptd.stores import Condition, Entry, Piece, Reading, Store
    from transcriptd.stores.enforced import Enforced

LARGE = 1 << 20


class S3Store:
    """An archive in a bucket. `Store` says what each method promises."""

    def __init__(
        self,
        settings: S3Settings,
        *,
        prefix: str,
        state_dir: Path,
        credentials: Callable[[], S3Credentials | None] | None = None,
        patience: Patience | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Send nothing yet.

        `credentials` is asked at first and again when they were refused; where it gives none, AWS's
        chain does. What was learnt of the server is kept in `state_dir`.
        """
        self._bucket = settings.bucket
        self._prefix = prefix
        self._endpoint = shown_endpoint(settings.endpoint)
        self._client = Client(settings, credentials)
        self.traffic = Traffic()
        self._requests = Requests(self._client, patience or Patience(), self.traffic)
        encryption = encryption_of(settings)
        extra = dict(encryption.parameters)
        if settings.storage_class:
            extra["StorageClass"] = settings.storage_class
        about = (self._requests, self._client, self.traffic, self._bucket, extra)
        self._objects = Objects(*about, encryption=encryption)
        self._uploads = Uploads(*about)
        self._deletes = Deletes(self._requests, self._bucket)
        self._probed = Probed(
            Scratch(
                self._objects,
                self._uploads,
                self._deletes,
                encryption,
                signs_bodies=self._client.signs_bodies,
            ),
            # What ETags are depends on how objects are encrypted.
            place=" ".join((f"{self._endpoint}/{self._bucket}", *encryption.parameters.values())),
            scratch=layout.probe_prefix(prefix),
            state_dir=state_dir,
        )
        self._composer = Composer(
            self._objects,
            self._uploads,
            self._probed,
            self.put,
            limits or Limits(),
            signs_bodies=self._client.signs_bodies,
        )

    @property
    def place(self) -> str:
        return f"s3://{self._bucket}/{self._prefix} at {self._endpoint}"

    @property
    def bucket(self) -> str:
        return self._bucket

    @property
    def guarantees(self) -> Mapping[str, str]:
        return self._probed.guarantees

    @property
    def appends(self) -> bool:
        return False

    async def copies(self) -> bool:
        return (await self._probed.parts()).copy_parts

    async def head(self, key: str) -> Head | None:
        check_key(key)
        return await self._objects.head(key)

    def read(
        self, key: str, start: int = 0, end: int | None = None, *, etag: str | None = None
    ) -> AbstractAsyncContextManager[Reading]:
        check_key(key)
        check_range(start, end)
        return self._objects.read(key, start, end, etag=etag)

    async def put(
        self, key: str, body: bytes, metadata: Mapping[str, str], condition: Condition = None
    ) -> Head:
        check_key(key)
        known = await self._probed.get()
        tags = tags_of(condition, known.if_none_match, known.if_match)
        # Where the server does not compare, it is done here and now. A large body is not sent in
        # vain either: some servers hang up on it, and why is lost.
        if condition and (not tags or len(body) > LARGE):
            must_allow(condition, await self._objects.head(key))
        hashes = await hashes_of(body, signed=self._client.signs_bodies)
        etag = await self._objects.put(key, body, hashes, metadata, tags)
        if not known.etag_is_md5:
            return must_hold(await self._objects.head(key), len(body), metadata)
        if etag != hashes.md5.hex():
            self._probed.forget()
            raise Damaged("put: the store holds other bytes than it was sent")
        return Head(etag=etag, size=len(body), modified=time.time(), metadata=lowered(metadata))

    async def compose(
        self,
        key: str,
        pieces: Sequence[Piece],
        metadata: Mapping[str, str],
        condition: Condition = None,
        *,
        apart: bool = False,
    ) -> Head:
        check_key(key)
        for piece in pieces:
            check_range(piece.start, piece.end)
            if isinstance(piece, Stored):
                check_key(piece.key)
        return await self._composer.compose(Order(key, pieces, metadata, condition, apart))

    async def discard_uploads(self, key: str) -> None:
        check_key(key)
        with suppress(AccessDenied, NotFound, Unsupported):
            async for upload in self._uploads.list(key):
                await self._uploads.abort(upload)

    def list(self, prefix: str) -> AsyncIterator[Entry]:
        return self._objects.list(prefix)

    async def delete(self, *keys: str) -> None:
        for key in keys:
            check_removable(key, self._prefix)
        await self._deletes.all(list(dict.fromkeys(keys)))

    async def enforced(self) -> Enforced:
        """Ask what the bucket enforces by itself. Raises nothing: what is not said is unknown."""
        return await Questions(self._requests, self._bucket).enforced()

    async def close(self) -> None:
        await self._probed.close()
        await self._requests.close()
        self._composer.close()


def open_store(config: Config) -> Store:
    """Open the S3 store that the configuration names."""
    return S3Store(
        config.s3,
        prefix=config.prefix,
        state_dir=config.state_dir,
        credentials=config.reload_credentials,
    )
