"""The S3 store: what it asks a server for, and how it proves what it wrote.

Only the modules `s3*` know the SDK. What a server honours is known by `probe`; how a request
travels, by `s3_requests`.
"""

from __future__ import annotations

import base64
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from transcriptd import layout
from transcriptd.errors import (
    AccessDenied,
    AuthFailed,
    BucketMissing,
    ConditionFailed,
    Damaged,
    NotFound,
    RangeInvalid,
)
from transcriptd.stores import Absent, Condition, Entry, Head, Matches, Reading, Traffic
from transcriptd.stores.keys import check_key, check_range, check_removable
from transcriptd.stores.patience import Patience
from transcriptd.stores.probe import Capabilities, Probed, quote
from transcriptd.stores.s3_answers import (
    entry_of,
    etag_of,
    head_of,
    lowered,
    must_hold,
    must_match,
    total_size,
)
from transcriptd.stores.s3_client import (
    Client,
    extra_parameters,
    payload_sha256,
    shown_endpoint,
)
from transcriptd.stores.s3_hashes import hashes_of
from transcriptd.stores.s3_requests import Requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from transcriptd.config import Config
    from transcriptd.config.settings import S3Credentials, S3Settings
    from transcriptd.stores import Store
    from transcriptd.stores.s3_hashes import Hashes

BUCKET_PROVED_S = 60.0


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
        self._extra = extra_parameters(settings)
        self._bucket_proved_at = float("-inf")
        self._probed = Probed(
            self,
            place=f"{self._endpoint}/{self._bucket}",
            scratch=layout.probe_prefix(prefix),
            state_dir=state_dir,
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

    async def head(self, key: str) -> Head | None:
        check_key(key)
        try:
            return await self._head(key)
        except (AccessDenied, AuthFailed) as bare:
            # An answer to HEAD has no body, hence no reason. GET gives it, and may be what sets
            # the clock right.
            try:
                await self._find_reason(key)
            except AccessDenied:
                raise bare from None
            return await self._head(key)

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, end: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator[Reading]:
        check_key(key)
        check_range(start, end)
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
        self, key: str, body: bytes, metadata: Mapping[str, str], condition: Condition = None
    ) -> Head:
        check_key(key)
        known = await self._probed.get()
        tags = await self._tags(key, condition, known)
        hashes = await hashes_of(body, signed=self._client.signs_bodies)
        etag = await self._put(key, body, hashes, metadata, tags)
        if not known.etag_is_md5:
            return must_hold(await self.head(key), len(body), metadata)
        if etag != hashes.md5.hex():
            self._probed.forget()
            raise Damaged("put: the store holds other bytes than it was sent")
        return Head(etag=etag, size=len(body), modified=time.time(), metadata=lowered(metadata))

    async def copy(self, source: str, target: str, *, etag: str) -> Head:
        check_key(target)
        original = await self.head(source)
        if original is None or original.etag != etag:
            raise ConditionFailed("copy: the source is not what it was")
        if await self.head(target) is not None:
            raise ConditionFailed("copy: something stands at the target")
        await self._requests.call(
            "copy",
            lambda client: client.copy_object(
                Bucket=self._bucket,
                Key=target,
                CopySource={"Bucket": self._bucket, "Key": source},
                CopySourceIfMatch=quote(etag),
                **self._extra,
            ),
            size=original.size,
            conditional=True,
        )
        return must_hold(await self.head(target), original.size, original.metadata)

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

    async def delete(self, key: str) -> None:
        check_removable(key, self._prefix)
        await self.send_delete(key)

    async def close(self) -> None:
        await self._probed.close()
        await self._requests.close()

    async def send_put(
        self,
        key: str,
        body: bytes,
        metadata: Mapping[str, str],
        *,
        if_none_match: str = "",
        if_match: str = "",
    ) -> str:
        """Write without proof, for the probe; return the ETag of the answer."""
        tags = {"IfNoneMatch": if_none_match, "IfMatch": if_match}
        tags = {name: tag for name, tag in tags.items() if tag}
        return await self._put(
            key, body, await hashes_of(body, signed=self._client.signs_bodies), metadata, tags
        )

    async def send_delete(self, key: str) -> None:
        """Remove an object, whichever it is, for the probe; absent is done."""
        with suppress(NotFound):
            await self._requests.call(
                "delete", lambda client: client.delete_object(Bucket=self._bucket, Key=key)
            )

    async def _head(self, key: str) -> Head | None:
        try:
            answer = await self._requests.call(
                "head", lambda client: client.head_object(Bucket=self._bucket, Key=key)
            )
        except NotFound:
            await self._prove_bucket()
            return None
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

    async def _put(
        self,
        key: str,
        body: bytes,
        hashes: Hashes,
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        proof = {} if self._client.is_aws else {"ContentMD5": base64.b64encode(hashes.md5).decode()}
        extra: Any = {**self._extra, **proof, **tags}
        self.traffic.sent_bytes += len(body)
        token = payload_sha256.set(hashes.sha256)
        try:
            answer = await self._requests.call(
                "put",
                lambda client: client.put_object(
                    Bucket=self._bucket, Key=key, Body=body, Metadata=metadata, **extra
                ),
                size=len(body),
                conditional=bool(tags),
            )
        finally:
            payload_sha256.reset(token)
        return etag_of(answer)

    async def _tags(self, key: str, condition: Condition, known: Capabilities) -> dict[str, str]:
        """Leave the condition to the server where it compares, else compare here and now."""
        match condition:
            case Absent() if known.if_none_match:
                return {"IfNoneMatch": "*"}
            case Absent():
                if await self.head(key) is not None:
                    raise ConditionFailed("put: something stands there")
            case Matches(etag) if known.if_match != "ignored":
                return {"IfMatch": quote(etag) if known.if_match == "quoted" else etag}
            case Matches(etag):
                head = await self.head(key)
                if head is None or head.etag != etag:
                    raise ConditionFailed("put: the object is not what it was")
        return {}


def open_store(config: Config) -> Store:
    """Open the S3 store that the configuration names."""
    return S3Store(
        config.s3,
        prefix=config.prefix,
        state_dir=config.state_dir,
        credentials=config.reload_credentials,
    )


async def _nothing() -> AsyncIterator[bytes]:
    empty: tuple[bytes, ...] = ()
    for chunk in empty:
        yield chunk
