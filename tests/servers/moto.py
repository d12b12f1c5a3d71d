"""Moto: a mock that checks neither signatures nor checksums."""

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
    if find_spec("moto") is None or find_spec("flask") is None:
        raise Missing("moto is not installed: pip install 'moto[server]'")
    port = free_port()
    server = Server("moto", f"http://127.0.0.1:{port}", "", "test", "test")
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(argv, home) as process:
        wait_until_ready(lambda: answers(server), process)
        yield server
