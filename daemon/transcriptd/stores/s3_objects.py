"""Single objects on a server: looking at them, reading, writing, listing, as bare requests do.

What a write proves, and which conditions a server honours, is not known here.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from transcriptd.errors import (
    AccessDenied,
    AuthFailed,
    BucketMissing,
    Damaged,
    NotFound,
    RangeInvalid,
)
from transcriptd.stores import Reading
from transcriptd.stores.s3_answers import entry_of, etag_of, head_of, must_match, total_size
from transcriptd.stores.s3_client import body_known

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from transcriptd.stores import Entry, Head, Traffic
    from transcriptd.stores.s3_client import Client
    from transcriptd.stores.s3_encryption import Encryption
    from transcriptd.stores.s3_hashes import Hashes
    from transcriptd.stores.s3_requests import Requests

BUCKET_PROVED_S = 60.0


class Objects:
    """Sends the requests about single objects of one bucket."""

    def __init__(
        self,
        requests: Requests,
        client: Client,
        traffic: Traffic,
        bucket: str,
        extra: Mapping[str, Any],
        *,
        encryption: Encryption,
    ) -> None:
        self._requests = requests
        self._client = client
        self._traffic = traffic
        self._bucket = bucket
        self._extra: Any = extra
        self._encryption = encryption
        self._bucket_proved_at = float("-inf")

    async def head(self, key: str, *, written: bool = False) -> Head | None:
        """Look at an object. `written`: it must be encrypted as a write asks for."""
        try:
            return await self._head(key, written=written)
        except (AccessDenied, AuthFailed) as bare:
            # An answer to HEAD has no body, hence no reason. GET gives it, and may be what sets
            # the clock right.
            try:
                await self._find_reason(key)
            except AccessDenied:
                raise bare from None
            return await self._head(key, written=written)

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, end: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator[Reading]:
        if start == end:
            yield Reading(await self._head_at(key, start, etag), _nothing())
            return
        async with self._requests.streams:
            try:
                answer = await self._get(key, start, end)
            except RangeInvalid:
                head = await self._head_at(key, start, etag)
                if start or head.size:
                    raise
                yield Reading(head, _nothing())
                return
            try:
                head = head_of(answer, total_size(answer, start, end))
                # Compared here, not by the server: some misread If-Match.
                must_match(head, etag)
                size = (head.size if end is None else min(end, head.size)) - start
                yield Reading(head, self._requests.chunks(answer["Body"], size))
            finally:
                answer["Body"].close()

    async def put(
        self,
        key: str,
        body: bytes,
        hashes: Hashes,
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        """Write; `tags` are the conditions. Return the ETag of the answer.

        Raises `NotEncrypted` where the server does not say that it encrypted as it was asked to.
        """
        extra: Any = {**self._extra, **self._client.body_proof(hashes), **tags}
        self._traffic.sent_bytes += len(body)
        with body_known(hashes):
            answer = await self._requests.call(
                "put",
                lambda client: client.put_object(
                    Bucket=self._bucket, Key=key, Body=body, Metadata=metadata, **extra
                ),
                size=len(body),
                conditional=bool(tags),
            )
        self._encryption.must_be_said(answer, "put")
        return etag_of(answer)

    async def list(self, prefix: str) -> AsyncIterator[Entry]:
        token = ""
        while True:
            page = await self._page(prefix, token)
            for row in page.get("Contents", ()):
                yield entry_of(row)
            if not page.get("IsTruncated"):
                return
            before, token = token, page.get("NextContinuationToken", "")
            if not token or token == before:
                raise Damaged("list: the store says that there is more, and not where")

    async def _head(self, key: str, *, written: bool) -> Head | None:
        try:
            answer = await self._requests.call(
                "head", lambda client: client.head_object(Bucket=self._bucket, Key=key)
            )
        except NotFound:
            await self._prove_bucket()
            return None
        if written:
            self._encryption.must_be_said(answer, "head")
        return head_of(answer, answer.get("ContentLength"))

    async def _find_reason(self, key: str) -> None:
        """Raise what a request with a body in its answer is refused for."""
        with suppress(NotFound, RangeInvalid):
            answer = await self._get(key, 0, 1)
            answer["Body"].close()

    async def _prove_bucket(self) -> None:
        """Raise `BucketMissing` if that is why an object is absent; HEAD says the same of both."""
        proved_at = max(self._bucket_proved_at, self._requests.succeeded_at)
        if time.monotonic() - proved_at < BUCKET_PROVED_S:
            return
        try:
            await self._requests.call(
                "head_bucket", lambda client: client.head_bucket(Bucket=self._bucket)
            )
        except NotFound:
            raise BucketMissing(
                "head: the bucket is not there", hint="make the bucket, or correct its name"
            ) from None
        except AccessDenied:
            self._bucket_proved_at = time.monotonic()  # to ask for it is a right of its own

    async def _get(self, key: str, start: int, end: int | None) -> Any:  # noqa: ANN401 - the SDK's dictionary
        asked: Any = {}
        if start or end is not None:
            asked["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        return await self._requests.call(
            "get", lambda client: client.get_object(Bucket=self._bucket, Key=key, **asked)
        )

    async def _head_at(self, key: str, start: int, etag: str | None) -> Head:
        """Check what reading no bytes at `start` would have to check."""
        head = await self.head(key)
        if head is None:
            raise NotFound("get: there is no such object")
        must_match(head, etag)
        if start > head.size:
            raise RangeInvalid("get: the range starts behind the end")
        return head

    async def _page(self, prefix: str, token: str) -> Any:  # noqa: ANN401 - the SDK's dictionary
        after: Any = {"ContinuationToken": token} if token else {}
        return await self._requests.call(
            "list",
            lambda client: client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **after),
        )


async def _nothing() -> AsyncIterator[bytes]:
    empty: tuple[bytes, ...] = ()
    for chunk in empty:
        yield chunk
