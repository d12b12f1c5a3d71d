"""Versity's gateway over a directory, with object metadata in extended attributes."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.servers.process import fast_parent, free_port, program, running, wait_until_ready
from tests.servers.request import answers
from tests.servers.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def serve(home: Path) -> Iterator[Server]:
    advice = "go install github.com/versity/versitygw/cmd/versitygw@v1.7.0"
    versitygw = program("versitygw", advice)
    port = free_port()
    server = Server("versitygw", f"http://127.0.0.1:{port}", "", "transcriptd", "not-a-secret")
    env = {"ROOT_ACCESS_KEY": server.access_key, "ROOT_SECRET_KEY": server.secret_key}
    with tempfile.TemporaryDirectory(prefix="transcriptd-versitygw-", dir=fast_parent()) as data:
        argv = [versitygw, "--port", f"127.0.0.1:{port}", "posix", data]
        with running(argv, home, env) as process:
            wait_until_ready(lambda: answers(server), process)
            yield server
