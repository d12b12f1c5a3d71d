"""The digest is a chain over blocks of 1 MiB that can be carried on and computed in pieces."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcriptd.content import BLOCK, Held
from transcriptd.digest import Digester, digest, digests, digests_from

PATTERN = bytes(range(251)) * (2 * BLOCK // 251 + 300)
AROUND_BLOCKS = sorted({0, 1, 2, *(b * BLOCK + d for b in (1, 2) for d in (-1, 0, 1)), 70_000})
lengths = st.sampled_from(AROUND_BLOCKS) | st.integers(0, max(AROUND_BLOCKS))


@dataclass
class Afar:
    """A content that is not held in memory: each piece is read, and noted."""

    data: bytes
    pieces: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, end: int) -> bytes:
        self.pieces.append((start, end))
        return self.data[start:end]


def by_the_definition(content: bytes) -> str:
    value = bytes(32)
    for start in range(0, len(content), BLOCK):
        value = sha256(value + sha256(content[start : start + BLOCK]).digest()).digest()
    return value.hex()


def test_the_digest_of_nothing_is_32_zero_bytes() -> None:
    assert digest(b"") == "00" * 32


def test_the_digest_is_the_one_that_archives_out_there_were_written_with() -> None:
    assert digest(b"abc") == "589f9ffed4c477966bfb8d41f37895b08c69047df8f911d6f3b57fbe08faee8d"


@pytest.mark.parametrize("length", AROUND_BLOCKS)
def test_a_digest_is_what_its_definition_says(length: int) -> None:
    assert digest(PATTERN[:length]) == by_the_definition(PATTERN[:length])


@settings(max_examples=40, deadline=None)
@given(st.lists(lengths, max_size=5).map(sorted))
def test_the_digests_of_several_lengths_are_those_of_each_prefix(wanted: list[int]) -> None:
    expected = [digest(PATTERN[:length]) for length in wanted]
    assert digests(Held(PATTERN), wanted) == expected
    assert digests(Afar(PATTERN), wanted) == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(lengths, min_size=1, max_size=5).map(sorted))
def test_of_a_stream_that_is_not_in_memory_no_more_than_one_block_at_once_is_asked_for(
    wanted: list[int],
) -> None:
    content = Afar(PATTERN)
    digests(content, wanted)
    assert all(start // BLOCK == (end - 1) // BLOCK for start, end in content.pieces)
    assert all(end <= wanted[-1] for _, end in content.pieces)


@settings(max_examples=40, deadline=None)
@given(st.lists(lengths, min_size=1, max_size=5).map(sorted))
def test_each_byte_is_read_once_however_many_lengths_lie_behind_it(wanted: list[int]) -> None:
    content = Afar(PATTERN)
    digests(content, wanted)
    assert content.pieces == list(pairwise([0, *dict.fromkeys(end for _, end in content.pieces)]))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([0, BLOCK, 2 * BLOCK]), st.lists(lengths, min_size=1, max_size=3))
def test_digests_are_carried_on_from_a_block_boundary_to_the_last_one(
    boundary: int, behind: list[int]
) -> None:
    wanted = sorted(min(boundary + length, len(PATTERN)) for length in behind)
    before = bytes.fromhex(digest(PATTERN[:boundary]))
    found, value = digests_from(Held(PATTERN), before, boundary, wanted)
    assert found == [digest(PATTERN[:length]) for length in wanted]
    assert value.hex() == digest(PATTERN[: wanted[-1] - wanted[-1] % BLOCK])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 1000, BLOCK - 1, BLOCK, BLOCK + 1]), max_size=5))
def test_pieces_of_any_size_give_the_digest_of_the_whole(sizes: list[int]) -> None:
    digester, taken = Digester(), 0
    for size in sizes:
        digester.update(PATTERN[taken : taken + size])
        taken = min(taken + size, len(PATTERN))
        assert (digester.length, digester.hexdigest()) == (taken, digest(PATTERN[:taken]))


@settings(max_examples=20, deadline=None)
@given(lengths.filter(bool), st.data())
def test_one_changed_byte_changes_the_digest(length: int, data: st.DataObject) -> None:
    changed = bytearray(PATTERN[:length])
    changed[data.draw(st.integers(0, length - 1))] ^= 1
    assert digest(bytes(changed)) != digest(PATTERN[:length])


def test_a_view_has_the_digest_of_its_bytes() -> None:
    digester, view = Digester(), memoryview(PATTERN)[3:9]
    digester.update(view)
    assert digester.hexdigest() == digest(PATTERN[3:9])
