"""Where HTTP/1.1 messages begin and end in a stream of bytes. Does no I/O; changes nothing.

Made for speed, unlike `tests.http1`: bodies are seen in the pieces in which they come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

_END = b"\r\n\r\n"
_LINE = b"\r\n"


@dataclass(frozen=True, slots=True)
class Head:
    """A start line, and of the headers what frames the body."""

    start: str
    length: int | None
    chunked: bool

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        start, *lines = raw.decode("latin-1").split("\r\n")
        length, chunked = None, False
        for line in lines:
            name, _, value = line.partition(":")
            match name.strip().lower():
                case "content-length":
                    length = int(value)
                case "transfer-encoding":
                    chunked = "chunked" in value.lower()
        return cls(start, length, chunked)


class Listener(Protocol):
    """Is told what comes."""

    def head(self, head: Head) -> bool:
        """Say whether a body may follow; if it may, the head says how long it is."""

    def body(self, piece: bytes) -> None: ...

    def end(self) -> None: ...


class Framing:
    """One direction of one connection. A message without a length goes on to the end of it."""

    def __init__(self, listener: Listener, *, unframed_is_empty: bool) -> None:
        self._listener = listener
        self._unframed_is_empty = unframed_is_empty  # of requests; answers end with the connection
        self._state = "head"
        self._left = 0  # of the body, or of a chunk of it
        self._buffer = b""  # of a head or a line that has not ended

    def feed(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            match self._state:
                case "head":
                    at = self._until(_END, data, at)
                case "body" | "chunk":
                    at = self._counted(data, at)
                case "unframed":
                    self._listener.body(data[at:])
                    at = len(data)
                case _:
                    at = self._until(_LINE, data, at)

    def closed(self) -> None:
        """Say that the connection ended."""
        if self._state == "unframed":
            self._end()

    def _until(self, mark: bytes, data: bytes, at: int) -> int:
        """Take all up to a mark, which may have begun in an earlier piece."""
        before = len(self._buffer)
        self._buffer += data[at:] if before else b""
        text = self._buffer if before else data
        start = max(0, before - len(mark)) if before else at
        found = text.find(mark, start)
        if found < 0:
            self._buffer = text if before else data[at:]
            return len(data)
        taken = text[:found] if before else data[at:found]
        self._buffer = b""
        if self._state == "head":
            self._begin(Head.parse(taken))
        else:
            self._line(taken)
        end = found + len(mark)
        return at + end - before if before else end

    def _begin(self, head: Head) -> None:
        if not self._listener.head(head):
            self._end()
        elif head.chunked:
            self._state = "size"
        elif head.length is not None:
            self._state, self._left = "body", head.length
            if not head.length:
                self._end()
        elif self._unframed_is_empty:
            self._end()
        else:
            self._state = "unframed"

    def _line(self, line: bytes) -> None:
        """Take a line around the chunks of a body."""
        match self._state:
            case "size":
                self._left = int(line.partition(b";")[0], 16)
                self._state = "chunk" if self._left else "trailer"
            case "after":
                self._state = "size"
            case _:
                if not line:
                    self._end()

    def _counted(self, data: bytes, at: int) -> int:
        piece = data[at : at + self._left]
        self._left -= len(piece)
        self._listener.body(piece)
        if not self._left:
            if self._state == "chunk":
                self._state = "after"
            else:
                self._end()
        return at + len(piece)

    def _end(self) -> None:
        self._state = "head"
        self._listener.end()
