"""MiniStack: an emulator with AWS's conditional writes and without any signature check."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tests.servers.process import free_port, running, wait_until_ready
from tests.servers.request import answers
from tests.servers.server import Missing, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def serve(home: Path) -> Iterator[Server]:
    if find_spec("ministack") is None:
        raise Missing("ministack is not installed: pip install ministack")
    port = free_port()
    server = Server("ministack", f"http://127.0.0.1:{port}", "", "test", "test")
    env = {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",  # its default is every interface
        "IOT_MTLS_ENABLED": "0",  # its default opens one more port
        "SERVICES": "s3",
        "LOG_LEVEL": "WARNING",
    }
    with running([sys.executable, "-m", "ministack"], home, env) as process:
        wait_until_ready(lambda: answers(server), process)
        yield server
