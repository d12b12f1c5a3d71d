"""What is found depends on the bytes of a line alone, and a mask changes nothing else of it."""

from __future__ import annotations

import base64
import json
import random
import re
import tracemalloc
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcriptd.content import Held
from transcriptd.redaction import Rule, RuleSet, Unscannable, in_lines, in_text, masked
from transcriptd.redaction.escapes import decoded, decoded_unit, plain, plain_unit, trimmed, walked
from transcriptd.redaction.lines import LONG, OVERLAP, _cut
from transcriptd.redaction.piece import DEPTH, secrets
from transcriptd.redaction.ruleset import BUILT_IN, _secrets
from transcriptd.redaction.shapes import base32, mixed
from transcriptd.redaction.strings import Piece

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parents[1] / "data"
RULES = RuleSet()
KEY = "AKIA" + base32(16)
TOKEN = "ghp_" + mixed(36)
PASSWORD = 'PASSWORD="' + "hunter2" * 2 + '"'
ESCAPED_KEY = "".join(f"\\u{ord(one):04x}" for one in KEY)
EXAMPLES = [text for rule in BUILT_IN for text in rule.true[:1]]

Places = list[tuple[int, int, str]]


@dataclass(slots=True)
class Odd:
    """Content that gives fewer bytes at a time than it is asked for, and keeps the largest ask."""

    data: bytes
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    largest: int = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, end: int) -> bytes:
        self.largest = max(self.largest, end - start)
        return self.data[start : start + self.chance.randint(1, max(1, end - start))]


def places(raw: bytes, rules: RuleSet = RULES, start: int = 0) -> Places:
    return [(one.start, one.end, one.rule) for one in in_lines(rules, Held(raw), start, len(raw))]


def said(raw: bytes, rules: RuleSet = RULES) -> list[bytes]:
    return [raw[start:end] for start, end, _ in places(raw, rules)]


def once_masked(raw: bytes, found: Places) -> bytes:
    result = bytearray(raw)
    for start, end, rule in found:
        result[start:end] = masked(rule, raw[start:end])
    return bytes(result)


def shape(value: object) -> object:
    """Return a value with its strings' texts left out: what a mask must not change."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value]
    return str if isinstance(value, str) else repr(value)


def texts(value: object, depth: int) -> list[str]:
    """Return every string in a value, and in what is JSON in a string."""
    if isinstance(value, dict):
        return [text for one in value.values() for text in texts(one, depth)]
    if isinstance(value, list):
        return [text for one in value for text in texts(one, depth)]
    if not isinstance(value, str):
        return []
    try:
        inner = json.loads(value) if depth else None
    except ValueError:
        inner = None
    return [value, *(texts(inner, depth - 1) if isinstance(inner, dict | list) else ())]


words = st.text(st.characters(codec="utf-8"), max_size=12)
planted = st.sampled_from([KEY, TOKEN, f"x {KEY} y", f"\n{TOKEN}\n", f"é{KEY}é", f"\\{KEY}\\"])
strings = st.one_of(words, planted, st.tuples(words, planted, words).map("\n".join))
values = st.recursive(
    st.one_of(strings, st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(words, st.sampled_from([KEY, "password", '"'])), inner, max_size=4
        ),
        st.dictionaries(words, inner, max_size=3).map(json.dumps),
        st.lists(inner, max_size=3).map(lambda one: json.dumps(one, ensure_ascii=False)),
    ),
    max_leaves=12,
)


@given(
    lines=st.lists(values, min_size=1, max_size=3),
    ascii_only=st.booleans(),
    slashes=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_a_mask_changes_no_shape_and_leaves_no_secret(
    lines: list[object], *, ascii_only: bool, slashes: bool
) -> None:
    raw = b"\n".join(
        json.dumps(line, ensure_ascii=ascii_only).replace("/", "\\/" if slashes else "/").encode()
        for line in lines
    )
    after = once_masked(raw, places(raw))
    assert len(after) == len(raw)
    assert after.count(b"\n") == raw.count(b"\n")
    for was, line in zip(raw.split(b"\n"), after.split(b"\n"), strict=True):
        before, now = json.loads(was), json.loads(line)
        assert shape(now) == shape(before)
        for text in texts(now, DEPTH - 1):
            assert not re.search(rf"(?<!\w){KEY}(?!\w)", text)
            assert TOKEN not in text


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", KEY.encode(), b'"', b"\\", b"\\u0041", TOKEN.encode()]),
    st.binary(max_size=60),
)
@settings(max_examples=150, deadline=None)
def test_any_bytes_can_be_scanned(before: bytes, what: bytes, behind: bytes) -> None:
    raw = before + what + behind
    found = places(raw)
    assert all(0 <= start < end <= len(raw) for start, end, _ in found)
    assert all(one[1] <= other[0] for one, other in pairwise(found))
    list(in_text(RULES, Held(raw), 0, len(raw)))


pieces = st.lists(
    st.sampled_from(
        [
            *EXAMPLES,
            ESCAPED_KEY,
            KEY,
            "\\",
            '"',
            "\\n",
            "\\\\",
            "\\u005c",
            "\\u0022",
            "\\/",
            "u0041",
            "n",
            "\\ud83d",
            "\\ude00",
            "é",
            '":"',
            "password",
            ":",
            " ",
            "\\u00e9",
            "\x1c",
            "\x1d",
            "{",
            "}",
            ",",
        ]
    ),
    max_size=12,
).map("".join)


@given(pieces)
@settings(max_examples=300, deadline=None)
def test_the_fast_look_hides_nothing(text: str) -> None:
    for raw in (
        text.encode(),
        json.dumps({"x": text}).encode(),
        json.dumps(json.dumps([text])).encode(),
    ):
        slowly = secrets(SLOW, Piece(raw))
        assert [(start, end, RULES.names[rank]) for start, end, rank in slowly] == [
            (one.start, one.end, one.rule) for one in in_text(RULES, Held(raw), 0, len(raw))
        ]


class Slow(RuleSet):
    """Rules that are asked one by one, about every string."""

    def may_match(self, raw: bytes) -> bool:
        return True

    def found_in(self, text: bytes) -> Iterator[tuple[int, int, int]]:
        for few in self._fews:
            for one in few.rules:
                yield from ((*span, one.rank) for span in _secrets(one, text))


SLOW = Slow()


@given(pieces)
@settings(max_examples=300, deadline=None)
def test_the_fast_way_to_decode_says_what_the_walk_says(text: str) -> None:
    raw = text.encode()
    for step, unit in ((plain, plain_unit), (decoded, decoded_unit)):
        other = step(raw)
        whole = [(at, at + 1) for at in range(len(other))]
        stood = walked(raw, unit, whole)
        for (start, end), byte in zip(stood, other, strict=True):
            part = raw[start:end]
            assert part == bytes([byte]) or byte in unit(part)
        if len(other):
            assert walked(raw, unit, [(0, len(other))])[0][0] == stood[0][0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (rb"\u0041", b"A"),
        (rb"\\u0041", rb"\u0041"),
        (rb"\\\u0041", rb"\A"),
        (rb"\u005cn", rb"\n"),
        (rb"\u0041\u005cu0041", rb"A\u0041"),
        (rb"\n\t\r\b\f\/\"", b'\n\t\r\b\f/"'),
        (rb"\d\x\u12", rb"\d\x\u12"),
        (rb"\ud83d\ude00\u00e9", "😀é".encode()),
        (rb"\ud83d!", b"\xed\xa0\xbd!"),
        (b"a\\", b"a"),
        (b"\x1c\\n\x1d", b"\x1c\n\x1d"),
        (bytes(range(1, 32)) + b"\\\\n\\n", bytes(range(1, 32)) + b"\\n\n"),
        ("é\\u00e9".encode(), "éé".encode()),
        (
            b"".join(b"\\u%04x" % code for code in range(0x4E00, 0x4E40)),
            "".join(map(chr, range(0x4E00, 0x4E40))).encode(),
        ),
        (
            b"".join(b"\\u%04x" % code for code in range(0x4E00, 0x4E40)) + b"\\uD83D\\u12\\U",
            "".join(map(chr, range(0x4E00, 0x4E40))).encode() + b"\xed\xa0\xbd\\u12\\U",
        ),
    ],
)
def test_escapes_are_undone_once(text: bytes, says: bytes) -> None:
    assert decoded(text) == says


@pytest.mark.parametrize(
    "line",
    [
        f'{{"a":"{KEY}',  # torn
        f'{{"{KEY}":1,"b":"c',
        f'{{"a":"b{{"type":"user","content":"{KEY}"}}',  # torn, and the next line behind it
        f'\0\0\0\0{{"a":"{KEY}"}}',
        f'{{"a":"\ud800 {KEY}"}}',
        f'{{"a":"\\ud800{KEY}"}}',
        f"{KEY}",
        f'say "{KEY}": it is',
        f'{{"a":"{ESCAPED_KEY}',
        f'\ufeff{{"a":"{KEY}"}}',
        f"export X={KEY}\r",
        f'{{"a":"\x07{KEY}"}}',
        f'{{"a":NaN,"b":"{KEY}"}}',
    ],
)
def test_a_line_that_is_no_json_is_text(line: str) -> None:
    raw = line.encode("utf-8", "surrogatepass")
    assert len(said(raw)) == 1
    assert KEY.encode() not in once_masked(raw, places(raw))


def test_invalid_utf8_is_scanned() -> None:
    raw = b'{"a":"\xff\xfe\xc3 ' + KEY.encode() + b' \x80"}'
    assert said(raw) == [KEY.encode()]


def test_keys_of_the_line_are_left_alone() -> None:
    raw = json.dumps({KEY: {TOKEN: [1, KEY]}, f"password {TOKEN}": None}).encode()
    assert said(raw) == [KEY.encode()]
    assert list(json.loads(once_masked(raw, places(raw)))) == [KEY, f"password {TOKEN}"]


def test_what_stands_outside_of_strings_is_left_alone() -> None:
    rules = RuleSet([Rule("digits", "[0-9]{6,}|true|null")])
    raw = b'{"a":123456789,"b":true,"c":[null,-1.5e10],"PASSWORD":12345678}'
    assert said(raw, rules) == []


def test_text_may_be_digits_alone() -> None:
    rules = RuleSet([Rule("digits", "[0-9]{6,}")])
    assert said(b"the number is 123456789", rules) == [b"123456789"]


def test_no_character_is_cut() -> None:
    rules = RuleSet([Rule("mine", r"acme\C{4}")])
    raw = '{"x":"acmeé中é"}'.encode()
    ((start, end, _),) = places(raw, rules)
    assert raw[start:end].decode() == "acmeé中"
    json.loads(once_masked(raw, places(raw, rules)))


def test_what_overlaps_is_one_finding() -> None:
    rules = RuleSet([Rule("one", "abc[0-9]+"), Rule("two", "bc[0-9]+xyz"), Rule("three", "yz!")])
    assert places(b'{"x":"abc12xyz!"}', rules) == [(6, 15, "one")]


def long_line(size: int, chance: random.Random) -> bytes:
    """Return a line with a key in it here and there, at the edges of windows, too."""
    step = LONG - 2 * OVERLAP
    parts = [b'{"x":"']
    at = 6
    while at < size:
        part = chance.choice(
            [b"lorem ipsum ", b'\\"q\\" ', b"\\n", b"\\u4e2d\\u6587", KEY.encode() + b" ",
             b'","k":"',
             TOKEN.encode() + b" ", b"\\\\" * 7, b"\\ud83d\\ude00", ESCAPED_KEY.encode() + b" "]
        ) * chance.choice([1, 1, 50])  # fmt: skip
        parts.append(part)
        at += len(part)
        if abs(at % step) < 40:
            parts.append(b" " + KEY.encode() + b" ")
            at += 22
    return b"".join(parts) + b'"}\n'


@pytest.mark.parametrize("seed", range(2))
def test_a_long_line_is_looked_at_whole(seed: int) -> None:
    raw = long_line(2 * LONG, random.Random(seed))
    assert len(raw) > 2 * LONG
    after = once_masked(raw, places(raw))
    assert shape(json.loads(after)) == shape(json.loads(raw))
    assert not [text for text in texts(json.loads(after), 0) if KEY in text or TOKEN in text]
    assert len(places(raw)) > 100


@pytest.mark.parametrize("seed", range(2))
def test_how_it_is_read_changes_nothing(seed: int) -> None:
    chance = random.Random(seed)
    short = [
        json.dumps({"x": chance.choice([KEY, TOKEN, "a" * 3000, PASSWORD])}).encode()
        for _ in range(500)
    ]
    lines = [
        *short,
        long_line(LONG * 9 // 8, chance)[:-1],
        *short[:50],
        f'{{"torn":"{KEY}'.encode(),
    ]
    raw = b"\n".join(lines)
    whole = places(raw)
    odd = Odd(raw)
    assert [(one.start, one.end, one.rule) for one in in_lines(RULES, odd, 0, len(raw))] == whole
    assert odd.largest <= 1 << 20
    at = 0
    for line in lines:
        if chance.random() < 0.005:
            assert places(raw, start=at) == [one for one in whole if one[0] >= at]
        at += len(line) + 1


@pytest.mark.parametrize("what", [KEY, PASSWORD.replace('"', "'")])
def test_a_secret_at_any_place_of_a_long_line_is_found(what: str) -> None:
    (secret,) = said(f'{{"x":"{what}"}}'.encode())
    for around in (LONG, LONG - OVERLAP, LONG - 2 * OVERLAP, 2 * LONG - 3 * OVERLAP):
        for shift in (-21, -20, -11, -1, 0, 1):
            raw = b'{"x":"' + b"lorem " * (2 * LONG // 6 + 1) + b'"}'
            at = around + shift
            raw = raw[:at] + b" " + what.encode() + b" " + raw[at:]
            assert said(raw) == [secret]


@pytest.mark.parametrize("strings", [1, 2, 3])
def test_keys_of_a_long_line_are_left_alone(strings: int) -> None:
    text = "lorem " * (LONG // 9)
    numbers = [7] * (LONG // 3)
    line = [{KEY: [text] * strings, "n": numbers, f"{KEY}-{at}": KEY} for at in range(4)]
    raw = json.dumps(line).encode()
    assert len(raw) > 3 * LONG
    assert said(raw) == [KEY.encode()] * len(line)
    assert shape(json.loads(once_masked(raw, places(raw)))) == shape(line)


@given(pieces, st.integers(0, 60), st.booleans())
@settings(max_examples=500, deadline=None)
def test_no_cut_goes_through_an_escape(text: str, at: int, endless: bool) -> None:  # noqa: FBT001 - given by position
    raw = (b"\\" * 5001 if endless else b"") + text.encode()
    cut = _cut(raw, min(len(raw), at + 5001 * endless))
    assert decoded(raw[:cut] + b"!")[:-1] + decoded(raw[cut:]) == decoded(raw) or raw[:cut] == raw
    assert decoded(raw[:cut] + b"n") == decoded(raw[:cut] + b"!")[:-1] + b"n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((2, 4), (2, 4)),
        ((0, 9), (0, 6)),  # into the code
        ((8, 13), (12, 13)),  # out of it
        ((12, 15), (12, 14)),  # behind the backslash
        ((15, 17), (16, 17)),
    ],
)
def test_a_part_of_an_escape_is_left_out(before: tuple[int, int], after: tuple[int, int]) -> None:
    assert trimmed(rb"abcdef\u00e9gh\nij", *before) == after


def test_a_long_line_of_backslashes_is_scanned() -> None:
    raw = b'{"x":"' + b"\\" * (2 * LONG) + b'","y":"' + KEY.encode() + b'"}'
    assert said(raw) == [KEY.encode()]


def test_a_text_of_many_lines_is_one() -> None:
    block = next(text for rule in BUILT_IN if rule.name == "private-key" for text in rule.true)
    raw = f"so\n{block}\nit is".encode()
    ((found),) = list(in_text(RULES, Held(raw), 0, len(raw)))
    assert raw[found.start : found.end].decode() == block
    mask = masked(found.rule, raw[found.start : found.end])
    assert [at for at, byte in enumerate(mask) if byte == 10] == [
        at for at, byte in enumerate(block.encode()) if byte == 10
    ]
    json_text = json.dumps({"x": KEY, KEY: [1]}, indent=2).encode()
    assert [
        json_text[one.start : one.end] for one in in_text(RULES, Held(json_text), 0, len(json_text))
    ] == [KEY.encode()]


def test_a_long_line_costs_no_more_memory() -> None:
    blob = base64.b64encode(random.Random(1).randbytes(12 << 20))
    raw = (
        b'{"x":"'
        + blob
        + b" "
        + KEY.encode()
        + b" "
        + b'\\"\\u4e2d' * (4 << 20)
        + b'","y":["a","b"'
        + b',"c"' * (4 << 20)
        + b',"'
        + KEY.encode()
        + b'"]}\n'
    )
    assert len(raw) > 60 << 20
    places(raw[: 2 * LONG])
    tracemalloc.start()
    try:
        assert said(raw) == [KEY.encode()] * 2
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_bytes_that_are_not_there_cannot_be_scanned() -> None:
    with pytest.raises(Unscannable):
        list(in_lines(RULES, Held(b"short"), 0, 50))


def test_the_sample_transcripts_hold_no_secret() -> None:
    for path in DATA.rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            assert places(raw) == [], path
            assert list(in_text(RULES, Held(raw), 0, len(raw))) == [], path


def test_a_match_that_is_longer_than_what_is_looked_at_at_once_cannot_be_scanned() -> None:
    rules = RuleSet([Rule("blob", "blob-[a-z]+")])
    line = b'{"x":"blob-' + b"a" * (2 << 20) + b'"}\n'
    with pytest.raises(Unscannable, match="a match of more than"):
        list(in_lines(rules, Held(line), 0, len(line)))
