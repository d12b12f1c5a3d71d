"""MinIO: one node on a directory, with a key to encrypt by for who asks for it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.servers.process import free_port, program, running, wait_until_ready
from tests.servers.request import answers
from tests.servers.server import KMS_KEY, KMS_SECRET, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"  # the Go proxy does not know its release tags


@contextmanager
def serve(home: Path) -> Iterator[Server]:
    minio = program("minio", f"go install github.com/minio/minio@{VERSION}")
    port = free_port()
    server = Server("minio", f"http://127.0.0.1:{port}", "", "transcriptd", "not-a-secret")
    (home / "data").mkdir()
    argv: list[str | Path] = [minio, "server", home / "data", "--address", f"127.0.0.1:{port}"]
    argv += ["--certs-dir", home / "certs"]
    env = {
        "MINIO_ROOT_USER": server.access_key,
        "MINIO_ROOT_PASSWORD": server.secret_key,
        "MINIO_KMS_SECRET_KEY": f"{KMS_KEY}:{KMS_SECRET}",
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",  # it would ask its maker's server for a newer release
    }
    with running(argv, home, env) as process:
        wait_until_ready(lambda: answers(server), process)
        yield server
