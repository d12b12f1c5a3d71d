"""A server that someone else runs, named by TRANSCRIPTD_TEST_S3_ENDPOINT and its companions."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.servers.server import Missing, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PREFIX = "TRANSCRIPTD_TEST_S3_"


@contextmanager
def serve(home: Path) -> Iterator[Server]:
    """Yield it with its bucket if one is named. `home` is not used: nothing is started."""
    del home
    values = {name: os.environ.get(PREFIX + name, "") for name in ("ENDPOINT", "BUCKET")}
    keys = {name: os.environ.get(PREFIX + name, "") for name in ("ACCESS_KEY", "SECRET_KEY")}
    if not values["ENDPOINT"] or not all(keys.values()):
        names = ", ".join(PREFIX + name for name in ("ENDPOINT", "BUCKET", *keys))
        raise Missing(f"no external server is named: set {names}")
    yield Server(
        name="external",
        endpoint=values["ENDPOINT"].rstrip("/"),
        bucket=values["BUCKET"],
        access_key=keys["ACCESS_KEY"],
        secret_key=keys["SECRET_KEY"],
        region=os.environ.get(PREFIX + "REGION", "us-east-1"),
        ca_bundle=os.environ.get(PREFIX + "CA_BUNDLE") or None,
    )
