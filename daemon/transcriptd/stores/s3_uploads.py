"""The requests of multipart uploads: what is sent, and what an answer has to say.

Nothing is decided here: not of which parts an object is made, nor what a failure means.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transcriptd.errors import Damaged, NotFound, StoreError
from transcriptd.stores.capabilities import quote
from transcriptd.stores.s3_answers import etag_of
from transcriptd.stores.s3_client import body_known

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
    from io import BytesIO

    from transcriptd.stores import Stored, Traffic
    from transcriptd.stores.s3_client import Client
    from transcriptd.stores.s3_hashes import Hashes
    from transcriptd.stores.s3_requests import Requests

AT_ONCE = 4
"""How many parts may be under way, and share the line."""

CLEAN_UP_S = 10.0

WITHIN = 16
"""How many times as fast as the slowest line a server moves bytes within itself."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that was begun; nobody sees it under its key before it is completed."""

    key: str
    id: str


class Uploads:
    """Sends the requests; each raises what went wrong and leaves the rest to the caller."""

    def __init__(
        self,
        requests: Requests,
        client: Client,
        traffic: Traffic,
        bucket: str,
        extra: Mapping[str, Any],
    ) -> None:
        self._requests = requests
        self._client = client
        self._traffic = traffic
        self._bucket = bucket
        self._extra: Any = extra

    async def create(self, key: str, metadata: Mapping[str, str]) -> Upload:
        answer = await self._requests.call(
            "create_upload",
            lambda client: client.create_multipart_upload(
                Bucket=self._bucket, Key=key, Metadata=metadata, **self._extra
            ),
        )
        upload = answer.get("UploadId", "")
        if not upload:
            raise Damaged("create_upload: the answer does not say which upload")
        return Upload(key, upload)

    async def send(self, upload: Upload, number: int, body: BytesIO, hashes: Hashes) -> str:
        """Send the bytes of a part; return its ETag. Of a `bytes` the SDK would make a copy."""
        proof = self._client.body_proof(hashes)
        size = body.getbuffer().nbytes
        self._traffic.sent_bytes += size
        with body_known(hashes):
            answer = await self._requests.call(
                "upload_part",
                lambda client: client.upload_part(
                    Bucket=self._bucket,
                    Key=upload.key,
                    UploadId=upload.id,
                    PartNumber=number,
                    Body=_from_start(body),
                    **proof,
                ),
                size=AT_ONCE * size,
            )
        return _tag(answer, "upload_part")

    async def copy(self, upload: Upload, number: int, piece: Stored, *, whole: bool) -> str:
        """Let the server copy a part; return its ETag. `whole`: the piece is all of its object."""
        # AWS refuses a range of a small object, even if it is all of it.
        part: Any = {} if whole else {"CopySourceRange": f"bytes={piece.start}-{piece.end - 1}"}
        answer = await self._requests.call(
            "copy_part",
            lambda client: client.upload_part_copy(
                Bucket=self._bucket,
                Key=upload.key,
                UploadId=upload.id,
                PartNumber=number,
                CopySource={"Bucket": self._bucket, "Key": piece.key},
                CopySourceIfMatch=quote(piece.etag),
                **part,
            ),
            size=(piece.end - piece.start) // WITHIN,
            conditional=True,
        )
        return _tag(answer.get("CopyPartResult", {}), "copy_part")

    async def sizes(self, upload: Upload) -> dict[int, int]:
        """Return how many bytes the server holds of each part, by number."""
        found: dict[int, int] = {}
        marker = 0
        while True:
            after: Any = {"PartNumberMarker": marker} if marker else {}
            answer = await self._requests.call(
                "list_parts",
                lambda client, after=after: client.list_parts(  # type: ignore[misc]
                    Bucket=self._bucket, Key=upload.key, UploadId=upload.id, **after
                ),
            )
            found |= {row["PartNumber"]: row["Size"] for row in answer.get("Parts", ())}
            before, marker = marker, int(answer.get("NextPartNumberMarker") or 0)
            if not answer.get("IsTruncated") or marker <= before:
                return found

    async def complete(
        self, upload: Upload, tags: Sequence[str], size: int, condition: Mapping[str, str]
    ) -> None:
        parts: Any = [
            {"PartNumber": number, "ETag": quote(tag)} for number, tag in enumerate(tags, 1)
        ]
        conditions: Any = condition
        await self._requests.call(
            "complete_upload",
            lambda client: client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=upload.key,
                UploadId=upload.id,
                MultipartUpload={"Parts": parts},
                **conditions,
            ),
            size=size // WITHIN,
            conditional=bool(condition),
        )

    async def abort(self, upload: Upload) -> None:
        """Remove an upload and its parts; one that is gone or was completed is done."""
        with suppress(NotFound):
            await self._requests.call(
                "abort_upload",
                lambda client: client.abort_multipart_upload(
                    Bucket=self._bucket, Key=upload.key, UploadId=upload.id
                ),
            )

    async def list(self, key: str) -> AsyncIterator[Upload]:
        """List the uploads to exactly this key that were begun and never ended."""
        markers: Any = {}
        while True:
            page = await self._requests.call(
                "list_uploads",
                lambda client, markers=markers: client.list_multipart_uploads(  # type: ignore[misc]
                    Bucket=self._bucket, Prefix=key, **markers
                ),
            )
            for row in page.get("Uploads", ()):
                if row.get("Key") == key and row.get("UploadId"):
                    yield Upload(key, row["UploadId"])
            after = {
                "KeyMarker": page.get("NextKeyMarker", ""),
                "UploadIdMarker": page.get("NextUploadIdMarker", ""),
            }
            if not page.get("IsTruncated") or not after["KeyMarker"] or after == markers:
                return
            markers = after


async def seen_through(work: Coroutine[Any, Any, None]) -> None:
    """See a clean-up through, whoever cancels meanwhile; what it fails of is not worth raising."""
    task = asyncio.create_task(_bounded(work), name="store.clean_up")
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled


async def _bounded(work: Coroutine[Any, Any, None]) -> None:
    with suppress(StoreError, TimeoutError):
        async with asyncio.timeout(CLEAN_UP_S):
            await work


def _from_start(body: BytesIO) -> BytesIO:
    body.seek(0)
    return body


def _tag(answer: Mapping[str, Any], operation: str) -> str:
    if tag := etag_of(answer):
        return tag
    raise Damaged(f"{operation}: the answer does not say what the server holds")
