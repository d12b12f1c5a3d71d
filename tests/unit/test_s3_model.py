"""What the SDK is told about S3, held against what it would know by itself."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.loaders import JSONFileLoader

import transcriptd.stores
from transcriptd.stores.s3_model import OPERATIONS, NeededFiles

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.model import ServiceModel

STORES = Path(transcriptd.stores.__file__).parent
METADATA = {"td-format": "1"}
CALLS: dict[str, dict[str, Any]] = {
    "put_object": {"Key": "a/b c", "Body": b"x", "IfNoneMatch": "*", "Metadata": METADATA},
    "get_object": {"Key": "a/b", "Range": "bytes=0-1", "IfMatch": '"e"'},
    "list_objects_v2": {"Prefix": "a/", "MaxKeys": 7},
    "delete_objects": {"Delete": {"Objects": [{"Key": "a"}], "Quiet": True}},
    "upload_part_copy": {
        "Key": "a",
        "UploadId": "u",
        "PartNumber": 1,
        "CopySource": {"Bucket": "archive", "Key": "b"},
    },
}
PLACES: dict[str, dict[str, Any]] = {
    "aws": {"region_name": "eu-central-1"},
    "aws in its first region": {"region_name": "us-east-1"},
    "aws in China": {"region_name": "cn-north-1"},
    "aws for a government": {"region_name": "us-gov-west-1"},
    "aws, a region of tomorrow": {"region_name": "eu-tomorrow-9"},
    "aws over IPv6": {"region_name": "eu-west-1", "config": Config(use_dualstack_endpoint=True)},
    "aws, validated": {"region_name": "us-east-2", "config": Config(use_fips_endpoint=True)},
    "another server": {"region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:9/x"},
    "another server, by paths": {
        "region_name": "us-east-1",
        "endpoint_url": "https://storage.example",
        "config": Config(s3={"addressing_style": "path"}),
    },
}


def session(*, needed: bool) -> botocore.session.Session:
    made = botocore.session.Session(profile=None)
    made.set_credentials("key", "secret")
    if needed:
        made.get_component("data_loader").file_loader = NeededFiles()
    return made


def service(*, needed: bool) -> ServiceModel:
    return session(needed=needed).get_service_model("s3")


def requests(place: dict[str, Any], bucket: str, *, needed: bool) -> list[tuple[object, ...]]:
    """Return what would be sent for each of the calls, but for times and signatures."""
    client = session(needed=needed).create_client("s3", **place)
    seen: list[tuple[object, ...]] = []

    def note(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        body = request.body.read() if hasattr(request.body, "read") else request.body
        seen.append((request.method, request.url, sorted(request.headers), body))
        scope = re.search(r"Credential=\S+?/\d+/(\S+?),", str(request.headers["Authorization"]))
        seen.append((scope and scope[1],))
        return AWSResponse(request.url, 200, {}, _Raw())

    client.meta.events.register("before-send.s3", note)
    for name, arguments in CALLS.items():
        getattr(client, name)(Bucket=bucket, **arguments)
    return seen


class _Raw:
    def stream(self, **_: object) -> list[bytes]:
        return []

    def read(self, *_: object) -> bytes:
        return b""


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("bucket", ["archive", "archive.with.dots"])
def test_requests_are_what_they_would_be_with_all_that_the_sdk_knows(
    place: dict[str, Any], bucket: str
) -> None:
    whole = requests(place, bucket, needed=False)
    assert len(whole) == 2 * len(CALLS)
    assert requests(place, bucket, needed=True) == whole


def test_every_operation_that_the_store_asks_for_is_there() -> None:
    text = "".join(path.read_text() for path in STORES.glob("s3*.py"))
    asked = set(re.findall(r"client\.([a-z0-9]+(?:_[a-z0-9]+)+)\(", text))
    by_method = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): name for name in OPERATIONS}
    client = session(needed=True).create_client("s3", region_name="us-east-1")
    ours = {"body_proof", "renew_credentials", "correct_clock"}  # of our own client
    assert len(asked - ours) > 15
    assert {name for name in asked - ours if name not in by_method} == set()
    assert {name for name in by_method if not hasattr(client, name)} == set()


def test_an_operation_is_described_as_the_sdk_describes_it() -> None:
    whole, needed = service(needed=False), service(needed=True)

    def shape(model: Any) -> object:  # noqa: ANN401 - the SDK is untyped
        return model and {
            name: (member.type_name, member.serialization, member.metadata)
            for name, member in model.members.items()
        }

    for name in OPERATIONS:
        a, b = whole.operation_model(name), needed.operation_model(name)
        assert (a.http, a.http_checksum, a.auth_type) == (b.http, b.http_checksum, b.auth_type)
        assert a.static_context_parameters == b.static_context_parameters
        assert shape(a.input_shape) == shape(b.input_shape)
        assert shape(a.output_shape) == shape(b.output_shape)
    assert whole.metadata == needed.metadata
    assert [p.name for p in whole.client_context_parameters] == [
        p.name for p in needed.client_context_parameters
    ]


def test_a_tenth_of_the_description_is_kept() -> None:
    loaded = {
        needed: session(needed=needed).get_component("data_loader") for needed in (False, True)
    }
    for name, part in (("endpoints", 0.05), ("s3/2006-03-01/service-2", 0.1)):
        sizes = {
            needed: len(json.dumps(loader.load_data(name))) for needed, loader in loaded.items()
        }
        assert sizes[True] < part * sizes[False]


@pytest.mark.parametrize("content", [{}, [], {"operations": {}}, {"operations": [], "shapes": 1}])
@pytest.mark.parametrize("name", ["service-2", "endpoints"])
def test_a_file_that_is_not_as_expected_is_loaded_whole(
    tmp_path: Path, content: object, name: str
) -> None:
    with gzip.open(tmp_path / f"{name}.json.gz", "wt") as file:
        json.dump(content, file)
    path = str(tmp_path / name)
    assert NeededFiles().load_file(path) == JSONFileLoader().load_file(path) == content


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert NeededFiles().load_file(str(tmp_path / "service-2")) is None
