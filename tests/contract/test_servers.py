"""What each server really does, so that a new version that does otherwise is noticed."""

from __future__ import annotations

import base64
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from tests.proxy import FaultProxy, FlipByte
from tests.servers.request import send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping
    from typing import Any, Literal

    from types_aiobotocore_s3 import S3Client

    from tests.servers import Server

SESSION = get_session()  # one: each reads the description of S3 anew
PART = 5 * 1024 * 1024
WRONG_ETAG = '"00000000000000000000000000000000"'
WRONG_MD5 = base64.b64encode(hashlib.md5(b"else", usedforsecurity=False).digest()).decode()
WRONG_CRC32 = base64.b64encode(b"abcd").decode()


@dataclass(frozen=True, slots=True)
class Facts:
    """Statuses, unless it says otherwise. The defaults are what AWS documents."""

    put_none_match_exists: int = 412
    put_match_wrong: int = 412
    put_match_quoted: int = 200
    put_match_unquoted: int = 200
    put_match_missing: int = 404
    wrong_md5: int = 400
    wrong_crc32: int = 400
    wrong_secret: int = 403
    skewed_clock: int = 403
    small_part: int = 400
    complete_none_match_exists: int = 412
    complete_match_wrong: int = 412
    copy_match_wrong: int = 412
    copies_itself: bool = True  # UploadPartCopy of the object being replaced keeps its bytes
    complete_etag: bool = True  # Complete gives the ETag that HEAD gives
    trailer_over_https: int = 200
    copies_ranges: bool = True
    abort_completed: int = 404


FACTS = {
    "swift": Facts(
        put_match_wrong=501,
        put_match_quoted=501,
        put_match_unquoted=501,
        put_match_missing=501,
        complete_match_wrong=501,
    ),
    "ministack": Facts(
        wrong_crc32=200,  # 1.5 refuses it
        wrong_secret=200,
        skewed_clock=200,
        small_part=200,
        copy_match_wrong=200,  # 1.5 refuses it
    ),
    "moto": Facts(
        wrong_md5=200,
        wrong_crc32=200,
        wrong_secret=200,
        skewed_clock=200,
        complete_match_wrong=200,
        copy_match_wrong=200,
    ),
    "rclone": Facts(
        put_none_match_exists=200,
        put_match_wrong=200,
        put_match_missing=200,
        wrong_crc32=200,
        skewed_clock=400,
        small_part=200,
        complete_none_match_exists=200,
        complete_match_wrong=200,
        copy_match_wrong=200,
        copies_itself=False,
        copies_ranges=False,
        complete_etag=False,
        trailer_over_https=411,
    ),
    "ceph": Facts(
        put_match_quoted=412,
        put_match_missing=412,
        wrong_crc32=200,
        complete_none_match_exists=200,
        complete_match_wrong=200,
        copy_match_wrong=200,
        complete_etag=False,
        trailer_over_https=411,
    ),
    "minio": Facts(abort_completed=204),
    "versitygw": Facts(),
}


@pytest.fixture
def facts(any_server: Server) -> Facts:
    if any_server.name not in FACTS:
        pytest.skip(f"no facts are recorded of {any_server.name}")
    return FACTS[any_server.name]


@asynccontextmanager
async def client(
    server: Server,
    *,
    secret_key: str | None = None,
    checksums: Literal["when_required", "when_supported"] = "when_required",
) -> AsyncIterator[S3Client]:
    config = AioConfig(
        s3={"addressing_style": "path"},
        retries={"total_max_attempts": 1},
        read_timeout=20,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
    )
    async with SESSION.create_client(
        "s3",
        region_name=server.region,
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=secret_key or server.secret_key,
        verify=server.ca_bundle,
        config=config,
    ) as s3:
        yield s3


async def status(call: Awaitable[Mapping[str, Any]]) -> int:
    try:
        answer = await call
    except ClientError as error:
        answer = error.response
    code: int = answer["ResponseMetadata"]["HTTPStatusCode"]
    return code


def at(bucket: str, key: str = "k") -> dict[str, Any]:
    return {"Bucket": bucket, "Key": key}


async def complete(
    s3: S3Client, bucket: str, key: str, sizes: tuple[int, ...], **conditions: str
) -> int:
    where = at(bucket, key)
    upload: dict[str, Any] = {
        **where,
        "UploadId": (await s3.create_multipart_upload(**where))["UploadId"],
    }
    parts = []
    for number, size in enumerate(sizes, 1):
        part = await s3.upload_part(**upload, PartNumber=number, Body=b"x" * size)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    upload |= {"MultipartUpload": {"Parts": parts}, **conditions}
    return await status(s3.complete_multipart_upload(**upload))


async def test_a_put_onto_an_existing_key_with_if_none_match_is_answered_as_recorded(
    any_bucket: Server, facts: Facts
) -> None:
    where = at(any_bucket.bucket)
    async with client(any_bucket) as s3:
        assert await status(s3.put_object(**where, Body=b"first", IfNoneMatch="*")) == 200
        again = await status(s3.put_object(**where, Body=b"second", IfNoneMatch="*"))
        kept = await (await s3.get_object(**where))["Body"].read()
    assert again == facts.put_none_match_exists
    assert kept == (b"second" if again == 200 else b"first")


async def test_a_put_with_if_match_is_answered_as_recorded(
    any_bucket: Server, facts: Facts
) -> None:
    where = at(any_bucket.bucket)
    async with client(any_bucket) as s3:
        etag = (await s3.put_object(**where, Body=b"same"))["ETag"]
        wrong = await status(s3.put_object(**where, Body=b"same", IfMatch=WRONG_ETAG))
        quoted = await status(s3.put_object(**where, Body=b"same", IfMatch=etag))
        bare = await status(s3.put_object(**where, Body=b"same", IfMatch=etag.strip('"')))
        where["Key"] = "missing"
        missing = await status(s3.put_object(**where, Body=b"same", IfMatch=etag))
    assert wrong == facts.put_match_wrong
    assert quoted == facts.put_match_quoted
    assert bare == facts.put_match_unquoted
    assert missing == facts.put_match_missing


async def test_a_body_that_does_not_fit_its_checksum_is_answered_as_recorded(
    any_bucket: Server, facts: Facts
) -> None:
    where = at(any_bucket.bucket)
    async with client(any_bucket) as s3:
        md5 = await status(s3.put_object(**where, Body=b"body", ContentMD5=WRONG_MD5))
        crc32 = await status(s3.put_object(**where, Body=b"body", ChecksumCRC32=WRONG_CRC32))
    assert md5 == facts.wrong_md5
    assert crc32 == facts.wrong_crc32


async def test_a_wrong_secret_is_answered_as_recorded(any_bucket: Server, facts: Facts) -> None:
    async with client(any_bucket, secret_key="wrong") as s3:
        answer = await status(s3.put_object(Bucket=any_bucket.bucket, Key="k", Body=b"body"))
    assert answer == facts.wrong_secret


def test_a_signature_an_hour_old_is_answered_as_recorded(
    any_server: Server, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = datetime.now(UTC) - timedelta(hours=1)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: early)
    answer, _ = send(any_server, "GET", f"/{any_server.bucket}")
    assert answer == facts.skewed_clock


async def test_multipart_uploads_and_their_conditions_are_answered_as_recorded(
    any_bucket: Server, facts: Facts
) -> None:
    bucket = any_bucket.bucket
    async with client(any_bucket) as s3:
        assert await complete(s3, bucket, "k", (PART, 7)) == 200
        small = await complete(s3, bucket, "small", (100, 7))
        none_match = await complete(s3, bucket, "k", (PART, 7), IfNoneMatch="*")
        match = await complete(s3, bucket, "k", (PART, 7), IfMatch=WRONG_ETAG)
    assert small == facts.small_part
    assert none_match == facts.complete_none_match_exists
    assert match == facts.complete_match_wrong


async def test_an_object_is_extended_by_copying_itself_as_recorded(
    any_bucket: Server, facts: Facts
) -> None:
    where = at(any_bucket.bucket)
    async with client(any_bucket) as s3:
        await s3.put_object(**where, Body=b"x" * PART)
        upload: dict[str, Any] = {
            **where,
            "UploadId": (await s3.create_multipart_upload(**where))["UploadId"],
        }
        first: dict[str, Any] = {**upload, "PartNumber": 1, "CopySource": where}
        match = await status(s3.upload_part_copy(**first, CopySourceIfMatch=WRONG_ETAG))
        copied = (await s3.upload_part_copy(**first))["CopyPartResult"].get("ETag")
        assert match == facts.copy_match_wrong
        assert (copied is not None) == facts.copies_itself
        if copied is None:
            return
        added = (await s3.upload_part(**upload, PartNumber=2, Body=b"tail"))["ETag"]
        parts = [{"PartNumber": 1, "ETag": copied}, {"PartNumber": 2, "ETag": added}]
        upload["MultipartUpload"] = {"Parts": parts}
        done = await s3.complete_multipart_upload(**upload)
        head = await s3.head_object(**where)
    assert head["ContentLength"] == PART + len(b"tail")
    assert (done.get("ETag") == head["ETag"]) == facts.complete_etag


async def test_parts_and_uploads_are_listed_and_ranges_copied_as_recorded(
    any_bucket: Server, facts: Facts
) -> None:
    where = at(any_bucket.bucket)
    async with client(any_bucket) as s3:
        await s3.put_object(**where, Body=b"x" * (PART + 100))
        upload: dict[str, Any] = {
            **where,
            "UploadId": (await s3.create_multipart_upload(**where))["UploadId"],
        }
        source: dict[str, Any] = {"CopySource": where, "CopySourceRange": f"bytes=7-{PART}"}
        copied = await status(s3.upload_part_copy(**upload, PartNumber=1, **source))
        parts = (await s3.list_parts(**upload)).get("Parts", [])
        uploads = await s3.list_multipart_uploads(Bucket=any_bucket.bucket, Prefix="k")
        await s3.abort_multipart_upload(**upload)
    sizes = [(part["PartNumber"], part["Size"]) for part in parts]
    assert copied == 200
    assert (sizes == [(1, PART - 6)]) == facts.copies_ranges
    assert bool(sizes)
    assert [row["UploadId"] for row in uploads.get("Uploads", [])] == [upload["UploadId"]]


async def test_an_abort_that_comes_too_late_takes_nothing_away(
    any_bucket: Server, facts: Facts
) -> None:
    where = at(any_bucket.bucket)
    async with client(any_bucket) as s3:
        upload: dict[str, Any] = {
            **where,
            "UploadId": (await s3.create_multipart_upload(**where))["UploadId"],
        }
        part = (await s3.upload_part(**upload, PartNumber=1, Body=b"body"))["ETag"]
        parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part}]}
        await s3.complete_multipart_upload(**upload, MultipartUpload=parts)
        late = await status(s3.abort_multipart_upload(**upload))
        kept = await (await s3.get_object(**where))["Body"].read()
    assert late == facts.abort_completed
    assert kept == b"body"


async def test_a_checksum_of_botocores_own_is_taken_as_recorded(
    any_bucket: Server, facts: Facts
) -> None:
    """Over http it is a header, over https a trailer and no length."""
    async with client(any_bucket, checksums="when_supported") as s3:
        answer = await status(s3.put_object(Bucket=any_bucket.bucket, Key="k", Body=b"body"))
    assert answer == (facts.trailer_over_https if any_bucket.over_tls else 200)


async def test_a_byte_flipped_on_the_way_is_answered_as_recorded(
    any_bucket: Server, facts: Facts
) -> None:
    body = b"body"
    md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    async with FaultProxy(any_bucket, tls=any_bucket.over_tls) as proxy:
        proxy.add(FlipByte())
        async with client(proxy.server) as s3:
            answer = await status(s3.put_object(**at(any_bucket.bucket), Body=body, ContentMD5=md5))
        assert [seen.status for seen in proxy.seen("PUT")] == [answer]
    assert answer == facts.wrong_md5
