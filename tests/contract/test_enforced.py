"""What servers say that their buckets enforce."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.contract.s3 import KEY, PREFIX, opened, read
from tests.proxy import ACCESS_DENIED, SERVER_ERROR, FaultProxy
from tests.sdk import client
from tests.servers.server import KMS_KEY
from transcriptd.stores import Absent, Matches
from transcriptd.stores.enforced import DefaultEncryption, Enforced, Lock, Rule, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.exchange import Answer
    from tests.servers import Server

SERVERS = ("swift", "ministack", "moto", "rclone", "ceph", "minio", "versitygw")
KEPT_FOR_A_DAY = {
    "ObjectLockEnabled": "Enabled",
    "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
}
EVERYBODY = ("*", {"AWS": "*"}, {"AWS": ["*"]})


def locked(server: Server) -> Server:
    """Make a bucket with versions, each of which is held for a day."""
    made = server.with_bucket(f"{server.bucket}-locked")
    with client(server) as s3:
        s3.create_bucket(Bucket=made.bucket, ObjectLockEnabledForBucket=True)
        s3.put_object_lock_configuration(Bucket=made.bucket, ObjectLockConfiguration=KEPT_FOR_A_DAY)
    return made


def say(server: Server, who: object, action: str, below: str, condition: object = None) -> None:
    """Give the bucket a policy of one statement."""
    statement = {
        "Effect": "Allow",
        "Principal": who,
        "Action": [action],
        "Resource": [f"arn:aws:s3:::{server.bucket}{below}"],
    }
    if condition:
        statement["Condition"] = condition
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    with client(server) as s3:
        s3.put_bucket_policy(Bucket=server.bucket, Policy=json.dumps(policy))


@pytest.mark.parametrize("name", SERVERS)
async def test_of_a_new_bucket_every_server_says_nothing_alarming(
    served: Callable[[str], Server], tmp_path: Path, name: str
) -> None:
    async with opened(served(name), tmp_path) as store:
        found = await store.enforced()
    assert isinstance(found.versioning, Unknown) or not found.versioning
    assert found.lock is None or isinstance(found.lock, Unknown)
    assert found.lifecycle is None or isinstance(found.lifecycle, Unknown)
    assert found.public_policy is not True
    assert found.public_blocked is not True


@pytest.mark.parametrize("name", ["minio", "moto"])
async def test_what_is_not_configured_is_known_not_to_be(
    served: Callable[[str], Server], tmp_path: Path, name: str
) -> None:
    async with opened(served(name), tmp_path) as store:
        found = await store.enforced()
    assert (found.encryption, found.lock, found.lifecycle) == (None, None, None)
    assert (found.versioning, found.public_policy) == ("", None)


@pytest.mark.parametrize("name", ["minio", "moto"])
async def test_what_is_configured_is_said(
    served: Callable[[str], Server], tmp_path: Path, name: str
) -> None:
    server = locked(served(name))
    with client(server) as s3:
        by_default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KMS_KEY}
        s3.put_bucket_encryption(
            Bucket=server.bucket,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": by_default}]
            },
        )
        s3.put_bucket_lifecycle_configuration(
            Bucket=server.bucket,
            LifecycleConfiguration={"Rules": [
                {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": PREFIX},
                 "Expiration": {"Days": 30}},
                {"ID": "off", "Status": "Disabled", "Filter": {"Prefix": ""},
                 "Expiration": {"Days": 1}},
                {"ID": "versions", "Status": "Enabled", "Filter": {"Prefix": ""},
                 "NoncurrentVersionExpiration": {"NoncurrentDays": 5}},
                {"ID": "some", "Status": "Enabled", "Expiration": {"Days": 1},
                 "Filter": {"And": {"Prefix": "x/", "Tags": [{"Key": "a", "Value": "b"}]}}},
            ]},
        )  # fmt: skip
    async with opened(server, tmp_path) as store:
        found = await store.enforced()
    assert found.encryption == DefaultEncryption("aws:kms", KMS_KEY)
    assert found.versioning == "Enabled"
    assert found.lock == Lock("GOVERNANCE", 1)
    assert found.lifecycle == (
        Rule("old", PREFIX, expires=True),
        Rule("versions", versions_days=5),
        Rule("some", "x/", of_some=True, expires=True),
    )


async def test_rules_about_uploads_and_classes_and_a_block_of_the_public_are_read(
    served: Callable[[str], Server], tmp_path: Path
) -> None:
    server = served("moto")
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    with client(server) as s3:
        s3.put_bucket_lifecycle_configuration(
            Bucket=server.bucket,
            LifecycleConfiguration={"Rules": [
                {"ID": "uploads", "Status": "Enabled", "Filter": {"Prefix": ""},
                 "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}},
                {"ID": "cold", "Status": "Enabled", "Filter": {"Prefix": ""},
                 "Transitions": [{"Days": 9, "StorageClass": "GLACIER"}]},
            ]},
        )  # fmt: skip
        s3.put_public_access_block(
            Bucket=server.bucket, PublicAccessBlockConfiguration=dict.fromkeys(names, True)
        )
    async with opened(server, tmp_path) as store:
        found = await store.enforced()
    assert found.lifecycle == (
        Rule("uploads", uploads_days=1),
        Rule("cold", moves_to=frozenset({"GLACIER"})),
    )
    assert found.public_blocked is True


@pytest.mark.parametrize("name", ["minio", "moto", "ministack", "versitygw"])
async def test_a_policy_that_lets_everybody_read_is_noticed(
    served: Callable[[str], Server], tmp_path: Path, name: str
) -> None:
    server = served(name)
    for who in EVERYBODY if name != "versitygw" else ("*",):
        say(server, who, "s3:GetObject", "/*")
        async with opened(server, tmp_path) as store:
            assert (await store.enforced()).public_policy is True, who


async def test_a_policy_for_some_or_under_a_condition_is_not_public(
    served: Callable[[str], Server], tmp_path: Path
) -> None:
    server = served("moto")
    here = {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}
    some = {"AWS": "arn:aws:iam::111122223333:user/*"}
    for who, condition in ((some, {}), ("*", here)):
        say(server, who, "s3:GetObject", "/*", condition)
        async with opened(server, tmp_path) as store:
            assert (await store.enforced()).public_policy is False, who


@pytest.mark.parametrize("answer", [ACCESS_DENIED, SERVER_ERROR])
async def test_what_may_not_be_asked_is_unknown_and_says_why(
    proxy: FaultProxy, tmp_path: Path, answer: Answer
) -> None:
    async with opened(proxy.server, tmp_path) as store:
        proxy.add(answer, method="GET", key="^$")
        found = await store.enforced()
    for name in Enforced.__slots__:
        said = getattr(found, name)
        assert isinstance(said, Unknown), name
        assert answer.code in said.why


@pytest.mark.parametrize("name", ["minio", "moto"])
async def test_in_a_bucket_that_holds_its_versions_everything_works_and_nothing_is_gone(
    served: Callable[[str], Server], tmp_path: Path, name: str
) -> None:
    server = locked(served(name))
    segment = f"{PREFIX}.tail/s/history.jsonl/000000-00000000000000000000.jsonl"
    async with opened(server, tmp_path) as store:
        first = await store.put(KEY, b"first\n", {}, Absent())
        await store.put(segment, b"more\n", {}, Absent())
        await store.put(KEY, b"first\nmore\n", {}, Matches(first.etag))
        await store.delete(segment, f"{segment}.absent")
        assert await store.head(segment) is None
        assert await read(store) == b"first\nmore\n"
        assert [entry.key async for entry in store.list(PREFIX)] == [KEY]
        assert store.guarantees["if_none_match"] == "honoured"
        await store.put(segment, b"again\n", {}, Absent())
    with client(server) as s3:
        rows = s3.list_object_versions(Bucket=server.bucket, Prefix=PREFIX)["Versions"]
    kept = [row["Key"] for row in rows if ".probe/" not in row["Key"]]
    assert sorted(kept) == sorted([KEY, KEY, segment, segment])
