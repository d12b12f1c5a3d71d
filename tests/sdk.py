"""What only an owner of a bucket may do, and looks at objects that no reader of ours takes.

Uses the SDK as it is, and nothing of the package under test.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Server


@dataclass(frozen=True, slots=True)
class Keys:
    """Temporary credentials."""

    access_key: str
    secret_key: str
    session_token: str


@contextmanager
def client(server: Server, service: str = "s3", *, session_token: str = "") -> Iterator[Any]:
    """Open a client of the server; its connections are closed with the block."""
    made = botocore.session.get_session().create_client(
        service,
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        aws_session_token=session_token or None,
        verify=server.ca_bundle,
        config=Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
        ),
    )
    try:
        yield made
    finally:
        made.close()


def limited(server: Server, policy: str) -> Keys:
    """Have the server make credentials that may do what the policy says, for an hour."""
    with client(server, "sts") as sts:
        made = sts.assume_role(
            RoleArn="arn:aws:iam::000000000000:role/tests",
            RoleSessionName="tests",
            Policy=policy,
            DurationSeconds=3600,
        )["Credentials"]
    return Keys(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])


def encrypted(server: Server) -> dict[str, tuple[str, str]]:
    """Return how each object of the bucket is encrypted, and by which key."""
    with client(server) as s3:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=server.bucket)
        keys = [row["Key"] for page in pages for row in page.get("Contents", ())]
        heads = {key: s3.head_object(Bucket=server.bucket, Key=key) for key in keys}
    return {
        key: (head.get("ServerSideEncryption", ""), head.get("SSEKMSKeyId", ""))
        for key, head in heads.items()
    }
