r"""The escapes of JSON strings: what a text says without them, and where each byte of that stood.

Two steps, each told by the text alone. `plain` drops needless escapes (`\/`, `\u0041`) and keeps
those that keep strings apart. `decoded` drops all of them, once. What is no escape stays as it is;
a backslash at the very end, which nothing follows, stands for nothing. Backslashes pair from the
left of their run, so that a text may be cut anywhere outside of an escape.

Both go by whole replacements, which are fast. Places are told by a walk over the escapes, which
says the same (`walked`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Unit = Callable[[bytes], bytes]

_UNIT = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair of surrogates
    rb'|\\u[0-9a-fA-F]{4}|\\["\\/bfnrt]|\\\Z'
)
_NEEDLESS = re.compile(rb"\\u00[2-7][0-9a-fA-F]")
_CODE = re.compile(rb"\\u[0-9a-fA-F]{4}")
_CODES = re.compile(rb"(?:\\u[0-9a-fA-F]{4})+")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SHORT = {
    b'\\"': b'"', b"\\n": b"\n", b"\\/": b"/", b"\\t": b"\t", b"\\r": b"\r", b"\\b": b"\b",
    b"\\f": b"\f",
}  # fmt: skip
_PAIR = b"\\\\"
_BACKSLASH = 0x5C
# Bytes that stand in for a pair of backslashes where they do not occur: control characters, which
# JSON escapes.
_STAND_INS = tuple(bytes([code]) for code in (*range(0x1C, 0x20), *range(1, 9), *range(14, 28)))
_FEW = 24  # so many different escapes are replaced one after the other


def plain(text: bytes) -> bytes:
    """Return `text` without its needless escapes."""
    if b"\\" not in text or (b"\\/" not in text and b"\\u00" not in text):
        return text
    if (stand_in := _stand_in(text)) is None:
        return _UNIT.sub(lambda unit: plain_unit(unit[0]), text)
    text = text.replace(_PAIR, stand_in).replace(b"\\/", b"/")
    text = _NEEDLESS.sub(lambda unit: plain_unit(unit[0]), text)
    return text.replace(stand_in, _PAIR)


def decoded(text: bytes) -> bytes:
    """Return what `text` says once its escapes are undone, once."""
    if b"\\" not in text:
        return text
    if (stand_in := _stand_in(text)) is None:
        return _UNIT.sub(lambda unit: decoded_unit(unit[0]), text)
    text = text.replace(_PAIR, stand_in)
    if b"\\" in text:
        for escape, byte in _SHORT.items():
            text = text.replace(escape, byte)
        text = _codes_decoded(text)
        # What decoding brought forth is no escape: only what stood at the very end is one.
    return text.replace(stand_in, b"\\")


@lru_cache(maxsize=1024)
def plain_unit(unit: bytes) -> bytes:
    """Return what stands for one escape in `plain`: itself, mostly."""
    if unit == b"\\/":
        return b"/"
    if _NEEDLESS.fullmatch(unit) and (byte := bytes([int(unit[4:], 16)])) not in b'"\\':
        return byte
    return unit


@lru_cache(maxsize=1024)
def decoded_unit(unit: bytes) -> bytes:
    """Return what one escape stands for. A lone surrogate becomes three bytes that are no UTF-8."""
    if unit in _SHORT:
        return _SHORT[unit]
    return _code_points(unit) if unit[1:2] == b"u" else unit[1:]


def walked(text: bytes, unit: Unit, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return where `spans` of what a step makes of `text` stand in it: whole escapes.

    `unit` is the step's way with one escape.
    """
    wanted = iter(sorted({point for start, end in spans for point in (start, end - 1)}))
    stood: dict[int, tuple[int, int]] = {}
    shift = 0
    point = next(wanted, -1)
    for match in _UNIT.finditer(text):
        if point < 0:
            break
        first, end = match.span()
        at = first - shift
        while 0 <= point < at:
            stood[point] = (point + shift, point + shift + 1)
            point = next(wanted, -1)
        behind = at + len(unit(match[0]))
        while at <= point < behind:
            stood[point] = (first, end)
            point = next(wanted, -1)
        shift = end - behind
    while point >= 0:
        stood[point] = (point + shift, point + shift + 1)
        point = next(wanted, -1)
    return [(stood[start][0], stood[end - 1][1]) for start, end in spans]


def trimmed(text: bytes, start: int, end: int) -> tuple[int, int]:
    """Return the span without parts of escapes at its edges, at whatever depth they are ones."""
    start = max(_cut_unit(text, start), default=start)
    end = min(_cut_unit(text, end), default=end)
    while end > start and text[end - 1] == _BACKSLASH:
        end -= 1
    return start, end


def _cut_unit(text: bytes, at: int) -> tuple[int, ...]:
    """Return the edges of the escape that a cut at `at` goes through, if any."""
    last = text.rfind(b"\\", max(0, at - 5), at)
    unit = _UNIT.match(text, last) if last >= 0 else None
    return unit.span() if unit and unit.end() > at else ()


def _stand_in(text: bytes) -> bytes | None:
    return next((byte for byte in _STAND_INS if byte not in text), None)


def _codes_decoded(text: bytes) -> bytes:
    r"""Return `text`, whose backslashes are single, without `\uXXXX` and a last backslash."""
    text = text.removesuffix(b"\\")
    if b"\\u" not in text:
        return text
    found = set(_CODE.findall(text))
    if len(found) <= _FEW and not _SURROGATE.search(text):
        # The backslash comes last: what it precedes is no escape.
        for code in sorted(found, key=lambda code: decoded_unit(code) == b"\\"):
            text = text.replace(code, decoded_unit(code))
        return text
    if text.isascii() and b"\\U" not in text:
        try:
            return _encoded(text.decode("raw_unicode_escape"))
        except UnicodeDecodeError:
            pass  # `\u` that no code follows: the slow way knows what to do with it
    return _CODES.sub(lambda codes: _code_points(codes[0]), text)


def _code_points(codes: bytes) -> bytes:
    r"""Return what a run of `\uXXXX` stands for."""
    return _encoded(
        bytes.fromhex(codes.replace(b"\\u", b"").decode()).decode("utf-16-be", "surrogatepass")
    )


def _encoded(text: str) -> bytes:
    """Return `text` in UTF-8, pairs of surrogates joined, lone ones kept."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        pairs = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return pairs.encode("utf-8", "surrogatepass")
