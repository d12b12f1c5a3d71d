"""Lines of a JSONL file that are no JSON are counted, however the file is cut into pieces."""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.agents import record
from transcriptd.damage import Damage

if TYPE_CHECKING:
    from collections.abc import Iterable

MIB = 1 << 20
LINE = record(type="user", text="grüße 😀")
LONG = record(type="user", text="x" * (3 * MIB))
TORN = LINE[:-6]
SOUND = [
    LINE,
    b"{}",
    b"",
    b" ",
    b"\r",
    LINE + b"\r",
    b'"\\ud83d"',
    b"[1e400,-0]",
    b"null",
    b"\t{} ",
]
BROKEN = [
    TORN, TORN + LINE, LINE + LINE, b"\0" * 9, LINE + b"\0", b"NaN", b'{"a":"\xff"}', b"\xff\xfe",
    b'{"a":"\t"}', LINE[:16], b"}", b"\xef\xbb\xbf{}", b"{'a':1}",
]  # fmt: skip
lines = st.lists(st.sampled_from([*SOUND, *BROKEN]) | st.binary(max_size=6), max_size=8)
contents = st.tuples(lines, st.sampled_from([b"", TORN, LINE])).map(
    lambda parts: b"".join(line + b"\n" for line in parts[0]) + parts[1]
)
cuts = st.lists(st.integers(0, 200), max_size=6).map(sorted)


def by_the_definition(content: bytes) -> int:
    *whole, _ = content.split(b"\n")
    return sum(not _is_json(line) for line in whole if line.strip())


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line.decode(), parse_constant=_refuse)
    except ValueError:
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def count(*pieces: bytes) -> int:
    damage = Damage()
    for piece in pieces:
        damage.feed(memoryview(piece))
    return damage.lines


def cut(content: bytes, at: Iterable[int]) -> list[bytes]:
    ends = [0, *at, len(content)]
    return [content[start:end] for start, end in pairwise(ends)]


@pytest.mark.parametrize("line", SOUND)
def test_what_is_json_or_empty_is_no_damage(line: bytes) -> None:
    assert count(line + b"\n") == 0


@pytest.mark.parametrize("line", BROKEN)
def test_torn_spliced_and_nul_filled_lines_are_damage(line: bytes) -> None:
    assert count(line + b"\n") == 1


def test_a_line_counts_once_it_ended() -> None:
    assert count(TORN) == 0
    assert count(TORN, b"\n") == 1


@given(contents, cuts)
def test_the_count_does_not_depend_on_the_pieces(content: bytes, at: list[int]) -> None:
    assert count(*cut(content, at)) == by_the_definition(content)


@given(contents, st.integers(0, 200), cuts)
@example(TORN + LINE + b"\n", len(TORN), [])
def test_a_count_goes_on_anywhere_as_if_it_had_never_stopped(
    content: bytes, at: int, rest: list[int]
) -> None:
    before, behind = content[:at], content[at:]
    damage = Damage(count(before))
    damage.goes_on(before, begins_a_line=True)
    for piece in cut(behind, rest):
        damage.feed(memoryview(piece))
    assert damage.lines == by_the_definition(content)


def test_of_a_line_whose_beginning_is_not_known_nothing_is_said() -> None:
    damage = Damage(3)
    damage.goes_on(b"the middle", begins_a_line=False)
    damage.feed(memoryview(b" and the end\n" + LINE + b"\n" + TORN + b"\n"))
    assert damage.lines == 4


@pytest.mark.parametrize("end", [b"", b"\r", b" \t", b" \r"])
@pytest.mark.parametrize("piece", [MIB, MIB + 1, 700_001])
def test_a_line_of_several_blocks_may_end_as_any_other(end: bytes, piece: int) -> None:
    content = LONG + end + b"\n" + LINE + b"\n"
    sizes = range(piece, len(content), piece)
    assert count(*cut(content, sizes)) == 0
    assert count(*cut(content, [len(LONG) - 1, len(LONG), len(LONG) + len(end)])) == 0


@pytest.mark.parametrize(
    "line", [LONG[:-1], LONG[1:], LONG[:MIB] + b"\0" + LONG[MIB:], LONG + LONG[:9]]
)
def test_a_line_of_several_blocks_that_is_torn_or_has_a_nul_is_damage(line: bytes) -> None:
    content = line + b"\n" + LINE + b"\n"
    assert count(*cut(content, range(MIB, len(content), MIB))) == 1


def test_what_is_no_file_of_lines_has_no_damage() -> None:
    damage = Damage(counts=False)
    damage.goes_on(TORN, begins_a_line=True)
    damage.feed(memoryview(TORN + b"\n"))
    assert damage.lines == 0


def test_a_line_of_64_mib_is_not_held() -> None:
    block = memoryview(b"x" * MIB)
    damage = Damage()
    tracemalloc.start()
    try:
        for _ in range(64):
            damage.feed(block)
        assert tracemalloc.get_traced_memory()[1] < 6 * MIB
    finally:
        tracemalloc.stop()
    damage.feed(memoryview(b"\n"))
    assert damage.lines == 1


def test_nesting_however_deep_is_an_answer() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert count(deep + b"\n", LINE + b"\n") in {0, 1}
