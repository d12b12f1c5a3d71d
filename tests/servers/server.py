"""The values every server module deals in. Knows nothing of any one server or of pytest."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

KMS_KEY = "transcripts"
"""The name of the key that servers encrypt by which can, when they are asked to."""

KMS_SECRET = base64.b64encode(bytes(32)).decode()


@dataclass(frozen=True, slots=True)
class Server:
    """A running S3 server as its clients see it, with one bucket of its own."""

    name: str
    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"
    ca_bundle: str | None = None

    def with_bucket(self, bucket: str) -> Server:
        return replace(self, bucket=bucket)

    @property
    def over_tls(self) -> bool:
        return self.endpoint.startswith("https://")


class Missing(Exception):
    """This server cannot run here; the message says what would have to be installed."""


class StartError(Exception):
    """The server is installed and did not come up; the message quotes its log."""
