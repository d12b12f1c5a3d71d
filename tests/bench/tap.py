"""Counts what goes to a server, and sees which saves arrive there; in a process of its own.

A pass-through in front of one S3 server over http, the same for all that is measured. Bytes are
passed on as they come, and looked at afterwards.
"""

from __future__ import annotations

import multiprocessing
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.bench.tapping import Arrival, Counts, serve
from tests.servers.process import free_port

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tests.servers import Server

__all__ = ["Arrival", "Counts", "Tap"]

_WITHIN_S = 30.0


class Tap:
    """`with Tap(server) as tap`: `tap.server` is for the clients. May be used from any thread."""

    def __init__(self, server: Server) -> None:
        if server.over_tls:
            raise ValueError("what goes over TLS cannot be seen")
        address = urlsplit(server.endpoint)
        port = free_port()
        self.server = replace(server, endpoint=f"http://127.0.0.1:{port}")
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=serve,
            args=(theirs, port, address.hostname or "", address.port or 80),
            name="tap",
            daemon=True,
        )
        self._theirs = theirs
        self._asking = threading.Lock()

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()
        self.accept()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()  # which ends it
        self._process.join(_WITHIN_S)
        self._process.kill()  # does nothing to what has ended
        self._process.join()
        self._process.close()

    def refuse(self) -> None:
        """Close the port and every connection, as a server does that is gone."""
        self._ask("refuse")

    def accept(self) -> None:
        """Open the port, the same one as before."""
        self._ask("accept")

    def counts(self) -> Counts:
        """Return all that was counted so far."""
        counts: Counts = self._ask("counts")
        return counts

    def arrivals(self) -> list[Arrival]:
        """Return all that arrived so far, in that order."""
        arrivals: list[Arrival] = self._ask("arrivals")
        return arrivals

    def _ask(self, what: str) -> Any:  # noqa: ANN401 - each command has its own answer
        with self._asking:
            self._pipe.send(what)
            if not self._pipe.poll(_WITHIN_S):
                raise TimeoutError(f"the tap did not answer: {what}")
            return self._pipe.recv()
