"""What the S3 store does when the network or the server fails it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.contract.s3 import KEY, NOT_PROBE, PREFIX, SHORT, answering, opened, read
from tests.proxy import (
    ACCESS_DENIED,
    CLOCK_SKEWED,
    EXPIRED_TOKEN,
    SERVER_ERROR,
    SLOW_DOWN,
    Answer,
    BlackHole,
    Drip,
    FaultProxy,
    FlipByte,
    LoseAnswer,
    Reset,
    too_many_requests,
)
from transcriptd.content import Held
from transcriptd.errors import (
    AccessDenied,
    AuthFailed,
    BucketMissing,
    ConditionFailed,
    Corrupted,
    Damaged,
    ServerError,
    SlowDown,
    StoreError,
    Unreachable,
)
from transcriptd.stores import Absent, Fresh
from transcriptd.stores.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import Server


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (SLOW_DOWN, SlowDown),
        (too_many_requests("7"), SlowDown),
        (SERVER_ERROR, ServerError),
        (Answer(502, "BadGateway"), ServerError),
        (ACCESS_DENIED, AccessDenied),
        (EXPIRED_TOKEN, AuthFailed),
        (CLOCK_SKEWED, AuthFailed),
        (Answer(404, "NoSuchBucket"), BucketMissing),
        (Answer(400, "BadDigest"), Corrupted),
        (Answer(409, "ConditionalRequestConflict"), ConditionFailed),
    ],
)
async def test_a_refusal_costs_one_request_and_has_its_type(
    proxy: FaultProxy, tmp_path: Path, fault: Answer, kind: type[StoreError]
) -> None:
    async with opened(proxy.server, tmp_path) as store:
        await store.put(KEY, b"0", {})
        sent = proxy.count("PUT", NOT_PROBE)
        proxy.add(fault, method="PUT")
        with pytest.raises(kind):
            await store.put(KEY, b"1", {})
        assert proxy.count("PUT", NOT_PROBE) == sent + 1


async def test_what_the_server_asks_to_wait_is_passed_on(proxy: FaultProxy, tmp_path: Path) -> None:
    proxy.add(too_many_requests("7"), method="PUT")
    async with opened(proxy.server, tmp_path) as store:
        with pytest.raises(SlowDown) as caught:
            await store.put(KEY, b"1", {})
    assert caught.value.retry_after == 7.0


async def test_a_black_hole_ends_at_the_deadline(proxy: FaultProxy, tmp_path: Path) -> None:
    async with opened(proxy.server, tmp_path, patience=SHORT) as store:
        await store.put(KEY, b"0", {})
        proxy.add(BlackHole())
        started = time.monotonic()
        for attempt in (store.put(KEY, b"x" * 100_000, {}), store.head(KEY), read(store)):
            with pytest.raises(Unreachable):
                await attempt
        least = 3 * SHORT.base_s
        assert least <= time.monotonic() - started < 3 * least


async def test_an_answer_that_drips_ends_at_the_deadline(proxy: FaultProxy, tmp_path: Path) -> None:
    async with opened(proxy.server, tmp_path, patience=SHORT) as store:
        await store.put(KEY, b"x" * 1000, {})
        proxy.add(Drip(pause=0.02), method="GET")
        with pytest.raises(Unreachable):
            await read(store)


async def test_a_body_that_drips_ends_when_it_is_slower_than_the_slowest_rate(
    tmp_path: Path,
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\nETag: x\r\n\r\n"
    async with (
        answering(head, dripping=b"x" * 400) as server,
        opened(server, tmp_path, patience=SHORT) as store,
        store.read(KEY) as reading,
    ):
        assert reading.head.size == 400
        started = time.monotonic()
        with pytest.raises(Unreachable):
            async for _ in reading.chunks:
                pass
        assert time.monotonic() - started < 2


async def test_a_slow_reader_is_not_taken_for_a_slow_server(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    async with opened(proxy.server, tmp_path, patience=SHORT) as store:
        await store.put(KEY, b"x" * 3_000_000, {})
        size = 0
        async with store.read(KEY) as reading:
            async for chunk in reading.chunks:
                size += len(chunk)
                if size == len(chunk):
                    # Longer than the deadline: time itself is what this test is about.
                    await asyncio.sleep(2 * SHORT.base_s)
        assert size == 3_000_000


def test_a_deadline_grows_with_the_size() -> None:
    assert Patience(base_s=10, rate=1000).deadline(0) == 10
    assert Patience(base_s=10, rate=1000).deadline(5000) == 15


async def test_a_lost_answer_is_unreachable_and_repeating_is_harmless(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    async with opened(proxy.server, tmp_path) as store:
        await store.put(f"{PREFIX}warm", b"", {})
        rule = proxy.add(LoseAnswer(), method="PUT")
        with pytest.raises((Unreachable, ConditionFailed)):
            await store.put(KEY, b"content", {}, Absent())
        proxy.rules.remove(rule)
        assert await read(store) == b"content"
        with pytest.raises(ConditionFailed):
            await store.put(KEY, b"content", {}, Absent())
        proxy.rules.append(rule)
        with pytest.raises(Unreachable):
            await store.put(KEY, b"content", {})
        proxy.rules.remove(rule)
        await store.put(KEY, b"content", {})
        assert await read(store) == b"content"


async def test_a_large_body_is_not_sent_in_vain(proxy: FaultProxy, tmp_path: Path) -> None:
    async with opened(proxy.server, tmp_path) as store:
        await store.put(KEY, b"0", {})
        sent = store.traffic.sent_bytes
        with pytest.raises(ConditionFailed):
            await store.put(KEY, b"x" * 2_000_000, {}, Absent())
        assert store.traffic.sent_bytes == sent


async def test_a_reset_connection_costs_at_most_two_requests(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    async with opened(proxy.server, tmp_path) as store:
        await store.put(KEY, b"0", {})
        sent = proxy.count("PUT", NOT_PROBE)
        proxy.add(Reset(), method="PUT")
        with pytest.raises(Unreachable):
            await store.put(KEY, b"1", {})
        assert proxy.count("PUT", NOT_PROBE) - sent <= 2


async def test_a_refused_connection_says_why(proxy: FaultProxy, tmp_path: Path) -> None:
    await proxy.refuse()
    async with opened(proxy.server, tmp_path) as store:
        with pytest.raises(Unreachable, match="refused"):
            await store.put(KEY, b"1", {})


@pytest.mark.parametrize("name", ["swift", "rclone"])
async def test_bytes_changed_on_the_way_are_refused_by_the_server(
    served: Callable[[str], Server], tmp_path: Path, name: str
) -> None:
    async with FaultProxy(served(name)) as proxy, opened(proxy.server, tmp_path) as store:
        await store.put(f"{PREFIX}warm", b"", {})
        proxy.add(FlipByte(), method="PUT", times=1)
        with pytest.raises(Corrupted):
            await store.put(KEY, b"content", {})
        assert await store.head(KEY) is None
        await store.put(KEY, b"content", {})
        assert await read(store) == b"content"


async def test_a_missing_bucket_is_told_from_a_missing_object(
    served: Callable[[str], Server], tmp_path: Path
) -> None:
    for name in ("ministack", "swift", "rclone"):
        async with opened(served(name), tmp_path, bucket="there-is-none") as store:
            for attempt in (store.head(KEY), store.put(KEY, b"", {}), read(store)):
                with pytest.raises(BucketMissing) as caught:
                    await attempt
                assert caught.value.hint


async def test_a_head_that_is_denied_says_what_right_may_be_missing(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    proxy.add(ACCESS_DENIED)
    async with opened(proxy.server, tmp_path) as store:
        with pytest.raises(AccessDenied) as caught:
            await store.head(KEY)
    assert "ListBucket" in caught.value.hint


async def test_an_unknown_authority_says_which_setting_names_it(
    served: Callable[[str], Server], tmp_path: Path
) -> None:
    async with (
        FaultProxy(served("ministack"), tls=True) as proxy,
        opened(proxy.server, tmp_path, ca_bundle="") as store,
    ):
        with pytest.raises(Unreachable) as caught:
            await store.head(KEY)
    assert "certificate" in str(caught.value)
    assert "ca_bundle" in caught.value.hint


async def test_a_body_is_sent_at_once_and_with_its_md5(proxy: FaultProxy, tmp_path: Path) -> None:
    async with opened(proxy.server, tmp_path) as store:
        await store.put(KEY, b"x" * 2_000_000, {})
        assert await read(store) == b"x" * 2_000_000
    (seen,) = proxy.seen("PUT", KEY)
    assert "expect" not in seen.headers
    assert "content-md5" in seen.headers
    assert len(seen.headers["x-amz-content-sha256"]) == 64


async def test_encryption_and_storage_class_go_with_each_object_that_is_written(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    async with opened(
        proxy.server,
        tmp_path,
        sse="aws:kms",
        sse_kms_key_id="alias/transcripts",
        storage_class="STANDARD_IA",
    ) as store:
        await store.put(KEY, b"x", {})
        await store.compose(KEY, [Fresh(Held(b"x"), 0, 1)], {}, apart=True)
    begun = [seen for seen in proxy.seen("POST") if "uploads" in seen.query]
    put = [seen for seen in proxy.seen("PUT") if "uploadId" not in seen.query]
    assert begun
    assert put
    for seen in (*begun, *put):
        assert seen.headers["x-amz-server-side-encryption"] == "aws:kms"
        assert seen.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/transcripts"
        assert seen.headers["x-amz-storage-class"] == "STANDARD_IA"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: x\r\n\r\n12345", Unreachable),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n", Damaged),
        (b"HTTP/1.1 206 P\r\nContent-Length: 2\r\nContent-Range: bytes 0-1/9\r\n\r\n12", Damaged),
        (b"HTTP/1.1 206 P\r\nContent-Length: 2\r\nContent-Range: nonsense\r\n\r\n12", Damaged),
        (b"HTTP/1.1 500 E\r\nContent-Length: 15\r\n\r\n<html>no</html>", ServerError),
        (b"HTTP/1.1 200 OK\r\n", Unreachable),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Unreachable),
    ],
)
async def test_an_answer_that_is_not_whole_is_never_taken_for_content(
    tmp_path: Path, answer: bytes, kind: type[StoreError]
) -> None:
    async with answering(answer) as server, opened(server, tmp_path) as store:
        with pytest.raises(kind):
            await read(store)
