"""Starts real S3 servers for tests, each in its own directory on 127.0.0.1.

`start` runs one server as a context manager; `Pool` keeps each for a whole session;
`create_bucket` makes a fresh bucket on a running one. Knows nothing of the package under test.
"""

from __future__ import annotations

import tempfile
import uuid
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.request import send
from tests.servers.server import Missing, Server, StartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["NAMES", "Missing", "Pool", "Server", "StartError", "create_bucket", "start"]

NAMES = ("swift", "ministack", "moto", "rclone", "ceph", "minio", "versitygw", "external")


@contextmanager
def start(name: str, *, tls: bool = False) -> Iterator[Server]:
    """Run a server until the block ends. Raises `Missing` or `StartError`."""
    module = import_module(f"tests.servers.{name}")
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"transcriptd-{name}-"))
        server: Server = stack.enter_context(module.serve(Path(home)))
        if not server.bucket:
            server = create_bucket(server)
        if tls:
            server = stack.enter_context(_behind_tls(server))
        yield server


def create_bucket(server: Server, bucket: str | None = None) -> Server:
    """Make a bucket, by default one with a new name, and return the server with it."""
    made = server.with_bucket(bucket or f"transcriptd-{uuid.uuid4().hex[:12]}")
    status, body = send(made, "PUT", f"/{made.bucket}")
    if status not in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT}:
        raise StartError(f"{server.name} answered {status} to a new bucket: {body[:500]!r}")
    return made


class Pool:
    """Each server at most once, started when first asked for and stopped with the pool."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._known: dict[tuple[str, bool], Server | Missing] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def get(self, name: str, *, tls: bool = False) -> Server:
        """Return the running server. Raises `Missing` or `StartError`."""
        if (name, tls) not in self._known:
            self._known[name, tls] = self._started(name, tls=tls)
        known = self._known[name, tls]
        if isinstance(known, Missing):
            raise known
        return known

    def _started(self, name: str, *, tls: bool) -> Server | Missing:
        try:
            if not tls:
                return self._stack.enter_context(start(name))
            plain = self.get(name)
        except Missing as missing:
            return missing
        return self._stack.enter_context(_behind_tls(plain))


@contextmanager
def _behind_tls(server: Server) -> Iterator[Server]:
    if server.over_tls:
        yield server
        return
    # Imported late: the proxy imports this package.
    from tests.proxy import in_thread

    with in_thread(server, tls=True) as front:
        yield front.server
