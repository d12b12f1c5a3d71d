"""What is handed out is what was digested: the same bytes, or an error, and never others."""

from __future__ import annotations

import os
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agents import record
from transcriptd.blocks import Blocks, measure
from transcriptd.content import BLOCK, Held
from transcriptd.damage import Damage
from transcriptd.digest import digests
from transcriptd.errors import Changing, Rewritten, Vanished
from transcriptd.files import open_content
from transcriptd.model import Session

if TYPE_CHECKING:
    from pathlib import Path

    from transcriptd.content import Content

MIB = 1 << 20
LINES = b"".join(
    (record(n=n, text="x" * (n * 7919 % 3000)) + b"\n", b"\n", b"torn {\n")[n % 3]
    for n in range(6500)
)
DATA = LINES[: 3 * BLOCK + 333]
SIZE = len(DATA)
BOUNDARIES = [n * BLOCK for n in range(4)]
AROUND = sorted({b + d for b in BOUNDARIES for d in (-1, 0, 1, 500)} & {*range(SIZE + 1)} | {SIZE})
positions = st.sampled_from(AROUND) | st.integers(0, SIZE)
boundaries = st.sampled_from(BOUNDARIES)


def chain_at(data: bytes, boundary: int) -> bytes:
    return bytes.fromhex(digests(Held(data), [boundary])[0])


def blocks_of(raw: Content, length: int, start: int = 0) -> Blocks:
    """Take the first `length` bytes, of which those up to `start` were vouched for."""
    chain = chain_at(DATA, start)
    found = measure(raw, [length], Damage(), start=start, chain=chain)
    return Blocks(raw, found.marks[length], found.hashes, start=start, chain=chain)


def damaged(data: bytes) -> int:
    return data.count(b"torn {\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.jsonl"
    path.write_bytes(DATA)
    return path


@pytest.fixture(scope="module")
def shared_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blocks") / "a.jsonl"


def content_at(path: Path) -> Content:
    return open_content(Session("claude", "a", str(path.parent), path.name))


@settings(max_examples=60, deadline=None)
@given(boundaries, st.sets(positions, max_size=4), positions)
def test_what_is_measured_from_any_boundary_is_what_the_whole_has(
    start: int, lengths: set[int], known: int
) -> None:
    known = max(start, known)
    lengths = {max(start, length) for length in lengths} | {known}
    damage = Damage(damaged(DATA[:known]))
    found = measure(
        Held(DATA), lengths, damage, start=start, chain=chain_at(DATA, start), known=known
    )
    assert found.marks.keys() == lengths
    assert found.hashes == measure(Held(DATA), [max(lengths)], Damage()).hashes[start // BLOCK :]
    for length, mark in found.marks.items():
        read, boundary = DATA[:length], length - length % BLOCK
        assert mark.length == length
        assert mark.digest == digests(Held(DATA), [length])[0]
        assert mark.chain == chain_at(DATA, boundary)
        assert mark.feeds == read[start:].count(b"\n")
        assert mark.ends_a_line == (not read or read.endswith(b"\n"))


@settings(max_examples=60, deadline=None)
@given(boundaries, positions, positions)
def test_damage_is_counted_on_from_any_place(start: int, known: int, length: int) -> None:
    known, length = sorted((max(start, known), max(start, length)))
    damage = Damage(damaged(DATA[:known]))
    chain = chain_at(DATA, start)
    found = measure(Held(DATA), [known, length], damage, start=start, chain=chain, known=known)
    assert found.marks[known].damaged == damaged(DATA[:known])
    # Of a line that is cut by the boundary before the known end, nothing may be known.
    boundary = known - known % BLOCK
    unfinished = DATA[:known].rpartition(b"\n")[2]
    missed = known - len(unfinished) < boundary and DATA[known:].startswith(
        b"torn {\n"[len(unfinished) :]
    )
    expected = damaged(DATA[:length])
    assert found.marks[length].damaged in {expected, expected - missed}


def test_a_line_that_was_archived_torn_and_is_spliced_later_is_counted() -> None:
    before = b"{}\n" + b'{"a":"to'
    after = before + b"{}\n{}\n"
    lengths = [len(before), len(after)]
    found = measure(Held(after), lengths, Damage(0), known=len(before))
    assert [found.marks[length].damaged for length in lengths] == [0, 1]


@settings(max_examples=60, deadline=None)
@given(boundaries, positions, st.lists(st.tuples(positions, positions).map(sorted), max_size=6))
def test_any_ranges_in_any_order_are_those_of_the_file(
    start: int, length: int, ranges: list[list[int]]
) -> None:
    content = blocks_of(Held(DATA), max(start, length), start)
    assert content.size == max(start, length)
    for first, last in ranges:
        end = min(last, content.size)
        assert content.read(first, end) == DATA[first:end]


def test_what_is_behind_the_mark_is_not_given() -> None:
    content = blocks_of(Held(DATA), 5)
    assert content.read(0, content.size) == DATA[:5]


@settings(max_examples=80, deadline=None)
@given(boundaries, positions, st.data())
def test_a_byte_that_is_rewritten_in_its_place_is_never_given(
    shared_path: Path, start: int, length: int, data: st.DataObject
) -> None:
    shared_path.write_bytes(DATA)
    length = max(start, length, 1)
    at = data.draw(st.integers(0, length - 1) | st.sampled_from(AROUND).filter(length.__gt__))
    content = blocks_of(content_at(shared_path), length, start)
    with shared_path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([DATA[at] ^ data.draw(st.integers(1, 255))]))
    with pytest.raises(Rewritten if at < start else Changing):
        content.read(at, at + 1)
    with pytest.raises(Changing):
        content.read(0, length)
    for first in range(0, length, BLOCK):
        with suppress(Changing):
            last = min(first + BLOCK, length)
            assert content.read(first, last) == DATA[first:last]


def test_what_a_guard_vouched_for_is_read_before_any_of_it_is_given(path: Path) -> None:
    content = blocks_of(content_at(path), SIZE, 2 * BLOCK)
    with path.open("r+b") as file:
        file.seek(BLOCK + 5)
        file.write(b"\0")
    for _ in range(2):
        with pytest.raises(Rewritten):
            content.read(0, 5)
    assert content.read(2 * BLOCK, SIZE) == DATA[2 * BLOCK :]


@pytest.mark.parametrize("start", [0, BLOCK])
def test_a_file_that_grows_meanwhile_gives_what_stood_there(path: Path, start: int) -> None:
    content = blocks_of(content_at(path), SIZE - 7, start)
    with path.open("ab") as file:
        file.write(b"more\n" * 9)
    assert content.read(0, content.size) == DATA[:-7]


def test_a_file_that_became_shorter_is_changing(path: Path) -> None:
    content = blocks_of(content_at(path), SIZE)
    os.truncate(path, SIZE - 1)
    with pytest.raises(Changing):
        content.read(0, SIZE)
    assert content.read(0, BLOCK) == DATA[:BLOCK]


def test_another_file_under_its_name_is_changing_also_with_the_same_bytes(path: Path) -> None:
    content = blocks_of(content_at(path), SIZE)
    path.with_name("b").write_bytes(DATA)
    path.with_name("b").rename(path)
    with pytest.raises(Changing):
        content.read(0, 1)


def test_a_file_that_is_removed_has_vanished(path: Path) -> None:
    content = blocks_of(content_at(path), SIZE)
    path.unlink()
    with pytest.raises(Vanished):
        content.read(0, 1)


def test_many_threads_may_read_what_a_guard_vouched_for() -> None:
    ranges = [(n * 12_345 % SIZE, SIZE) for n in range(8)] + [(SIZE - 9, SIZE)] * 8
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(20):
                content = blocks_of(Held(DATA), SIZE, 3 * BLOCK)
                read = list(pool.map(content.read, *zip(*ranges, strict=True)))
                assert read == [DATA[first:last] for first, last in ranges]
    finally:
        sys.setswitchinterval(interval)


class Endless:
    """A content larger than the test may hold: one line after the other, or one line."""

    def __init__(self, size: int, line: bytes) -> None:
        self.size = size
        self._block = (line * (BLOCK // len(line) + 1))[:BLOCK]

    def read(self, start: int, end: int) -> bytes:
        assert end - start <= BLOCK
        return self._block[: end - start]


@pytest.mark.parametrize(
    ("size", "line"),
    [
        pytest.param(64 * MIB, b'{"a":1}' + b" " * 9000 + b"\n", id="64 MiB of lines"),
        pytest.param(64 * MIB, b"\0", id="64 MiB of NUL bytes"),
        pytest.param(MIB, b"\n", id="a block of line feeds"),
        pytest.param(64 * MIB, b"x", id="a line of 64 MiB"),
    ],
)
def test_memory_does_not_depend_on_the_length_of_the_file_or_of_a_line(
    size: int, line: bytes
) -> None:
    raw = Endless(size, line)
    tracemalloc.start()
    try:
        found = measure(raw, [size - 5, size], Damage())
        content = Blocks(raw, found.marks[size], found.hashes, start=0, chain=bytes(32))
        for at in range(0, size, 32 * BLOCK):
            content.read(at, at + BLOCK)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * MIB
