"""Asks a running daemon: HTTP over its Unix socket.

Standard library only, and of that little: `http.client` would double what a probe costs. HTTP/1.0,
so that an answer ends where the connection ends. Knows nothing of what is asked.
"""

from __future__ import annotations

import json
import socket
from time import monotonic
from typing import Any, NamedTuple

OK = 200
DEFAULT_TIMEOUT_S = 5.0
_CHUNK = 65536


class Answer(NamedTuple):
    """What the daemon said."""

    status: int
    body: bytes

    @property
    def is_ok(self) -> bool:
        return self.status == OK

    def json(self) -> Any:  # noqa: ANN401 - the report's docstring says what its document is
        """Return the body as JSON; raises `ValueError` if it is none."""
        return json.loads(self.body)


def get(path: str, target: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> Answer:
    """Ask the socket at `path`. Raises `OSError` where nobody answers within `timeout_s`."""
    return _ask(path, "GET", target, timeout_s)


def post(path: str, target: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> Answer:
    """Tell the daemon at `path` to do something. Raises `OSError` as `get` does."""
    return _ask(path, "POST", target, timeout_s)


def _ask(path: str, method: str, target: str, timeout_s: float) -> Answer:
    ends = monotonic() + timeout_s
    request = f"{method} {target} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    received = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(path)
        connection.sendall(request.encode("ascii"))
        while True:
            left = ends - monotonic()
            if left <= 0:
                raise TimeoutError(f"no answer within {timeout_s:g} s")
            connection.settimeout(left)
            chunk = connection.recv(_CHUNK)
            if not chunk:
                return _parse(bytes(received))
            received += chunk


def _parse(received: bytes) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not head.startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():  # noqa: PLR2004 - "HTTP/1.1 200"
        raise ConnectionError("what answers there does not speak HTTP")
    return Answer(int(words[1]), body)
