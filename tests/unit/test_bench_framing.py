"""Where messages begin and end is seen however their bytes are cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tests.bench.framing import Framing

if TYPE_CHECKING:
    from tests.bench.framing import Head

REQUESTS = (
    b"PUT /b/k HTTP/1.1\r\nHost: h\r\ncontent-length: 11\r\n\r\nhello\r\n\r\nyo"
    b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n"
    b"PUT /b/c HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"5;x=y\r\n12345\r\nA\r\n67890\r\nabc\r\n0\r\nTrailer: t\r\n\r\n"
    b"PUT /b/e HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
)
SEEN = [
    ("PUT /b/k HTTP/1.1", b"hello\r\n\r\nyo"),
    ("GET /b HTTP/1.1", b""),
    ("PUT /b/c HTTP/1.1", b"1234567890\r\nabc"),
    ("PUT /b/e HTTP/1.1", b""),
]


@dataclass(slots=True)
class Ear:
    """Remembers what it is told. `bodiless` are heads after which no body comes."""

    bodiless: str = "\0"
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    _start: str = ""
    _body: bytes = b""

    def head(self, head: Head) -> bool:
        self._start, self._body = head.start, b""
        return self.bodiless not in head.start

    def body(self, piece: bytes) -> None:
        self._body += piece

    def end(self) -> None:
        self.messages.append((self._start, self._body))


def fed(ear: Ear, *pieces: bytes, unframed_is_empty: bool = True) -> Framing:
    framing = Framing(ear, unframed_is_empty=unframed_is_empty)
    for piece in pieces:
        framing.feed(piece)
    return framing


@given(st.lists(st.integers(0, len(REQUESTS)), max_size=8).map(sorted))
def test_messages_are_seen_however_they_are_cut(cuts: list[int]) -> None:
    edges, ear = [0, *cuts, len(REQUESTS)], Ear()
    fed(ear, *(REQUESTS[a:b] for a, b in pairwise(edges)))
    assert ear.messages == SEEN


def test_messages_are_seen_where_bytes_come_one_by_one() -> None:
    ear = Ear()
    fed(ear, *(REQUESTS[at : at + 1] for at in range(len(REQUESTS))))
    assert ear.messages == SEEN


def test_an_answer_that_may_have_no_body_has_none_whatever_its_length_says() -> None:
    ear = Ear(bodiless=" 204 ")
    answer = b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"
    fed(ear, answer + b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    assert ear.messages == [("HTTP/1.1 204 No Content", b""), ("HTTP/1.1 200 OK", b"x")]


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    ear = Ear()
    framing = fed(ear, b"HTTP/1.0 200 OK\r\n\r\nab", b"c", unframed_is_empty=False)
    assert not ear.messages
    framing.closed()
    assert ear.messages == [("HTTP/1.0 200 OK", b"abc")]
