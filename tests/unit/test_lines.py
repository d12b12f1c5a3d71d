"""Lines of a stream in pieces: whichever pieces they are, the same lines come out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from transcriptd.lines import between, split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

PIECES = st.lists(st.text("ab\n\r\u2028\x85", max_size=6).map(str.encode), max_size=8)


async def given_as(pieces: Sequence[bytes], asked: list[int] | None = None) -> AsyncIterator[bytes]:
    for number, piece in enumerate(pieces):
        if asked is not None:
            asked.append(number)
        yield piece


def lines_of(content: bytes) -> list[bytes]:
    """Split as the format does: at line feeds alone."""
    *whole, rest = content.split(b"\n")
    return [*(line + b"\n" for line in whole), *([rest] if rest else [])]


@given(PIECES)
async def test_lines_end_at_line_feeds_alone_wherever_the_pieces_end(pieces: list[bytes]) -> None:
    assert [line async for line in split(given_as(pieces))] == lines_of(b"".join(pieces))


@given(PIECES, st.integers(0, 12), st.none() | st.integers(1, 6))
async def test_a_range_of_lines_gives_just_their_bytes(
    pieces: list[bytes], first: int, more: int | None
) -> None:
    last = None if more is None else first + more
    found = b"".join([piece async for piece in between(given_as(pieces), first, last)])
    assert found == b"".join(lines_of(b"".join(pieces))[first:last])


async def test_no_piece_is_asked_for_behind_the_last_line_that_is_wanted() -> None:
    asked: list[int] = []
    pieces = given_as([b"a\nb", b"b\nc\n", b"d\n"], asked)
    assert b"".join([piece async for piece in between(pieces, 1, 2)]) == b"bb\n"
    assert asked == [0, 1]
