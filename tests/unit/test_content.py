"""What is held in memory line by line reads as the lines one behind the other."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from transcriptd.content import Held, Joined


@given(st.lists(st.binary(max_size=3), max_size=4))
def test_any_part_of_joined_lines_is_that_part_of_the_lines_with_their_feeds(
    lines: list[bytes],
) -> None:
    whole, joined = Held(b"".join(line + b"\n" for line in lines)), Joined(lines)
    assert joined.size == whole.size
    for start, end in product(range(whole.size + 2), repeat=2):
        assert joined.read(start, end) == whole.read(start, end)
