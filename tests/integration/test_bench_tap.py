"""A tap in front of a real server counts what goes through, and sees what arrives."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.bench.marker import written
from tests.bench.tap import Counts, Tap
from tests.sdk import client
from tests.servers import Missing, create_bucket
from tests.servers.request import NO_ANSWER, send

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Pool, Server

PART = 5 << 20


@pytest.fixture(scope="module")
def server(servers: Pool) -> Server:
    try:
        return servers.get("ministack")
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def tap(server: Server) -> Iterator[Tap]:
    with Tap(create_bucket(server)) as tap:
        yield tap


def put(tap: Tap, key: str, body: bytes) -> int:
    status, _ = send(tap.server, "PUT", f"/{tap.server.bucket}/{key}", body)
    return status


def arrived(tap: Tap) -> list[tuple[str, int]]:
    return [(arrival.session_id, arrival.number) for arrival in tap.arrivals()]


def test_requests_and_the_bytes_of_their_bodies_are_counted(tap: Tap) -> None:
    put(tap, "k", b"x" * 1_000_000)
    _, body = send(tap.server, "GET", f"/{tap.server.bucket}/k")
    send(tap.server, "HEAD", f"/{tap.server.bucket}/none")
    assert len(body) == 1_000_000
    counts = tap.counts()
    assert (counts.requests, counts.body_bytes) == (3, 1_000_000)
    assert counts.answer_bytes == 1_000_000
    assert counts.by_method == {"PUT": 1, "GET": 1, "HEAD": 1}
    assert counts.by_status == {200: 2, 404: 1}


def test_an_answer_to_head_has_no_body_whatever_length_it_says(tap: Tap) -> None:
    at = {"Bucket": tap.server.bucket, "Key": "k"}
    with client(tap.server) as s3:  # over one connection
        s3.put_object(**at, Body=b"x" * 1000)
        s3.head_object(**at)
        s3.get_object(**at)["Body"].read()
    counts = tap.counts()
    assert (counts.by_status, counts.answer_bytes) == ({200: 3}, 1000)


def test_what_was_counted_since_is_the_difference(tap: Tap) -> None:
    put(tap, "k", b"xyz")
    before = tap.counts()
    put(tap, "k", b"xy")
    since = tap.counts() - before
    assert since == Counts(1, 2, since.answer_bytes, since.by_method, since.by_status)
    assert since.by_method == {"PUT": 1}


def test_an_object_arrives_by_its_last_marker(tap: Tap) -> None:
    put(tap, "k", written("s", 1) + b"." * 300_000 + written("s", 2) + b"." * 300_000)
    assert arrived(tap) == [("s", 2)]


def test_what_the_server_refuses_does_not_arrive(tap: Tap) -> None:
    put(tap, "k", written("s", 1))
    with client(tap.server) as s3, pytest.raises(ClientError):
        s3.put_object(Bucket=tap.server.bucket, Key="k", Body=written("s", 2), IfNoneMatch="*")
    assert arrived(tap) == [("s", 1)]


def upload(s3: Any, tap: Tap, *parts: bytes) -> dict[str, Any]:  # noqa: ANN401 - of botocore's making
    """Upload parts, the last one first; return what completes them."""
    at = {"Bucket": tap.server.bucket, "Key": "k"}
    at["UploadId"] = s3.create_multipart_upload(**at)["UploadId"]
    tags = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(**at, PartNumber=number, Body=parts[number - 1])["ETag"],
        }
        for number in range(len(parts), 0, -1)
    ]
    return {**at, "MultipartUpload": {"Parts": tags[::-1]}}


def test_what_is_uploaded_in_parts_arrives_once_they_are_put_together(tap: Tap) -> None:
    with client(tap.server) as s3:
        ready = upload(s3, tap, b"." * PART + written("s", 1), b"..." + written("s", 2), b"...")
        assert arrived(tap) == []
        s3.complete_multipart_upload(**ready)
    assert arrived(tap) == [("s", 2)]


def test_parts_that_are_given_up_never_arrive(tap: Tap) -> None:
    with client(tap.server) as s3:
        ready = upload(s3, tap, written("s", 1))
        del ready["MultipartUpload"]
        s3.abort_multipart_upload(**ready)
    assert arrived(tap) == []


def test_nobody_answers_while_it_refuses(tap: Tap) -> None:
    address = urlsplit(tap.server.endpoint)
    kept = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    kept.connect()
    tap.refuse()
    with pytest.raises(NO_ANSWER):
        put(tap, "k", b"")
    assert kept.sock is not None
    assert kept.sock.recv(1) == b""
    kept.close()
    tap.accept()
    assert put(tap, "k", b"") == 200


def test_what_was_counted_before_it_refused_is_kept(tap: Tap) -> None:
    put(tap, "k", written("s", 1))
    tap.refuse()
    tap.accept()
    assert tap.counts().requests == 1
    assert arrived(tap) == [("s", 1)]


def test_what_does_not_reach_the_server_does_not_arrive(server: Server) -> None:
    with Tap(server) as behind, Tap(behind.server) as tap:
        behind.refuse()
        with pytest.raises(NO_ANSWER):
            put(tap, "k", written("s", 1))
        assert arrived(tap) == []
