"""Markers are found in bytes that come in any pieces."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.bench.marker import LastMarker, Marker, markers_in, written

LONGEST = "x" * 64
BODY = b'{"a":"' + written("s-1", 7) + b' ~~~ ~~x:1~~"}\n{"b":"' + written(LONGEST, 8) + b'"} ~~'


def last_of(*pieces: bytes) -> Marker | None:
    last = LastMarker()
    for piece in pieces:
        last.feed(piece)
    return last.found


@given(st.lists(st.integers(0, len(BODY)), max_size=6).map(sorted))
def test_the_last_marker_is_found_however_the_body_is_cut(cuts: list[int]) -> None:
    edges = [0, *cuts, len(BODY)]
    pieces = [BODY[a:b] for a, b in pairwise(edges)]
    assert last_of(*pieces) == Marker(LONGEST, 8)


def test_the_last_marker_is_found_where_bytes_come_one_by_one() -> None:
    assert last_of(*(BODY[at : at + 1] for at in range(len(BODY)))) == Marker(LONGEST, 8)


def test_a_later_piece_without_a_marker_hides_none() -> None:
    assert last_of(written("s", 3), b"." * 100_000) == Marker("s", 3)


def test_what_only_looks_like_a_marker_is_none() -> None:
    assert last_of(b"~~s:1~~ ~~s 00000001~~ ~~:00000001~~ ~~s:00000001~ ~") is None


def test_all_markers_of_some_bytes_are_found() -> None:
    assert markers_in(BODY) == {Marker("s-1", 7), Marker(LONGEST, 8)}
