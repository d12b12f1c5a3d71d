"""What is held in memory line by line reads as the lines one behind the other."""

from __future__ import annotations

from itertools import product

import pytest
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
        assert Joined(lines).read(start, end) == joined.read(start, end) == whole.read(start, end)


def test_joined_lines_are_let_go_once_all_was_asked_for() -> None:
    document = bytearray(b"one two")
    joined = Joined([memoryview(document)[:3], memoryview(document)[4:]])
    with pytest.raises(BufferError):
        document.clear()  # it is looked at
    assert joined.read(0, joined.size) == b"one\ntwo\n"
    document.clear()
    assert joined.read(2, 5) == b"e\nt"
