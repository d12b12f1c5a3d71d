from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcriptd.errors import Unsupported
from transcriptd.stores import Fresh, Stored
from transcriptd.stores.s3_parts import GIB, MIB, Limits, has_copies, parts_of, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transcriptd.stores import Piece

SMALL = Limits(whole=40, least=5, most=20, usual=8, parts=50)
TIB = 1024 * GIB


@dataclass(frozen=True, slots=True)
class Vast:
    """A content that has a size and nothing in it."""

    size: int

    def read(self, start: int, end: int) -> bytes:
        raise NotImplementedError


def stored(size: int, start: int = 0, key: str = "k") -> Stored:
    return Stored(key, start, start + size, "etag")


def fresh(size: int) -> Fresh:
    return Fresh(Vast(size), 0, size)


def pieces(largest: int) -> st.SearchStrategy[list[Piece]]:
    sizes = st.integers(0, largest)
    one = st.one_of(
        st.builds(stored, sizes, st.integers(0, 9), st.sampled_from("ab")), st.builds(fresh, sizes)
    )
    return st.lists(one, max_size=12)


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Put neighbours together that touch, so that equal runs are equal lists."""
    runs: list[Piece] = []
    for piece in pieces:
        if piece.start == piece.end:
            continue
        match runs[-1] if runs else None, piece:
            case Stored(key, start, end, tag), Stored(k, s, e, t) if (key, end, tag) == (k, s, t):
                runs[-1] = Stored(key, start, e, tag)
            case Fresh(content, start, end), Fresh(c, s, e) if content is c and end == s:
                runs[-1] = Fresh(content, start, e)
            case _:
                runs.append(piece)
    return runs


def check(asked: list[Piece], limits: Limits, *, may_copy: bool, apart: bool) -> None:
    try:
        parts = parts_of(asked, limits, may_copy=may_copy, apart=apart)
    except Unsupported:
        assert limits.part_size(size_of(asked)) > limits.most
        return
    copyable = may_copy and has_copies(asked, limits)
    if parts is None:
        assert size_of(asked) <= limits.whole
        assert not copyable
        assert not apart or not size_of(asked)
        return
    assert joined(piece for part in parts for piece in part.pieces) == joined(asked)
    assert len(parts) <= limits.parts
    assert all(limits.least <= part.size for part in parts[:-1])
    assert all(0 < part.size <= limits.most for part in parts)
    for part in parts:
        if part.copied:
            assert may_copy
            assert part.pieces == (part.copied,)
        else:
            assert part.size <= limits.part_size(size_of(asked)), "what is in memory is bounded"


@given(asked=pieces(60), may_copy=st.booleans(), apart=st.booleans())
def test_parts_cover_the_pieces_in_order_within_the_limits(
    *, asked: list[Piece], may_copy: bool, apart: bool
) -> None:
    check(asked, SMALL, may_copy=may_copy, apart=apart)


@settings(deadline=None)
@given(asked=pieces(40 * TIB // 8), may_copy=st.booleans(), apart=st.booleans())
def test_the_limits_of_s3_hold_for_terabytes(
    *, asked: list[Piece], may_copy: bool, apart: bool
) -> None:
    check(asked, Limits(), may_copy=may_copy, apart=apart)


def test_forty_terabytes_are_possible_and_fifty_are_refused() -> None:
    parts = parts_of([fresh(40 * TIB)], Limits(), may_copy=True)
    assert parts
    assert len(parts) <= 10_000
    with pytest.raises(Unsupported):
        parts_of([fresh(50 * TIB)], Limits(), may_copy=True)


def test_what_is_small_is_one_put_unless_it_is_to_be_apart() -> None:
    small: list[Piece] = [stored(4 * MIB), fresh(60 * MIB)]
    assert parts_of(small, Limits(), may_copy=True) is None
    apart = parts_of([fresh(1)], Limits(), may_copy=True, apart=True)
    assert apart
    assert [part.size for part in apart] == [1]
    assert parts_of([], Limits(), may_copy=True, apart=True) is None


def test_a_base_is_copied_and_its_tail_is_sent() -> None:
    base, tail = stored(5 * MIB), fresh(10)
    parts = parts_of([base, tail], Limits(), may_copy=True)
    assert parts
    assert [part.copied for part in parts] == [base, None]
    assert parts_of([base, tail], Limits(), may_copy=False) is None


def test_a_short_start_borrows_from_what_would_be_copied() -> None:
    parts = parts_of([fresh(3), stored(30)], SMALL, may_copy=True)
    assert parts
    assert [(part.size, part.copied is not None) for part in parts] == [
        (5, False), (14, True), (14, True)
    ]  # fmt: skip


def test_so_many_copies_that_parts_run_out_are_not_made() -> None:
    odd: list[Piece] = [piece for _ in range(40) for piece in (stored(6), fresh(5))]
    parts = parts_of(odd, SMALL, may_copy=True)
    assert parts
    assert len(parts) <= SMALL.parts
    assert not any(part.copied for part in parts)


def test_copies_are_cut_evenly_where_they_are_too_large() -> None:
    parts = parts_of([stored(12 * GIB)], Limits(), may_copy=True)
    assert parts
    assert [part.size for part in parts] == [4 * GIB] * 3
    assert all(a.pieces[0].end == b.pieces[0].start for a, b in pairwise(parts))
