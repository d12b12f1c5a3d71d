"""Findings in a file, by the bytes of each line alone, however they are read.

Lines are read many at a time; where no rule may match in any of them, that is all. A line above
`LONG` bytes is looked at in windows that overlap by twice `OVERLAP`, cut at places that its bytes
tell: a match up to that length is seen whole, with a longer one it cannot be scanned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transcriptd.redaction.finding import Finding, joined
from transcriptd.redaction.piece import secrets
from transcriptd.redaction.ruleset import Unscannable
from transcriptd.redaction.strings import Piece, bare_quotes

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from transcriptd.content import Content
    from transcriptd.redaction.ruleset import RuleSet

    Secret = tuple[int, int, int]  # start, end, rank of the rule

LONG = 512 << 10
OVERLAP = 32 << 10
_STEP = LONG - 2 * OVERLAP
_AT_ONCE = 64 << 10  # lines that are looked at together: they stay in the processor's cache
_BACK = 4 << 10  # so far back a place is looked for that is outside of an escape


def in_lines(rules: RuleSet, content: Content, start: int, end: int) -> Iterator[Finding]:
    """Yield what is found in bytes `[start, end)`, whole lines. Raises `Unscannable`. Blocks."""
    at = start
    while at < end:
        block = _read(content, at, min(at + LONG + 1, end))
        if behind := block.rfind(b"\n") + 1:
            yield from _in_block(rules, block[:behind], at)
        elif len(block) <= LONG:
            behind = len(block)
            yield from _in_block(rules, block, at)
        else:
            behind = yield from _in_long(rules, content, at, end, ends_with=b"\n")
        at += behind


def in_text(rules: RuleSet, content: Content, start: int, end: int) -> Iterator[Finding]:
    """Yield what is found in bytes `[start, end)`, as one text. Raises `Unscannable`. Blocks."""
    if end - start > LONG:
        yield from _in_long(rules, content, start, end, ends_with=b"")
    elif start < end:
        raw = _read(content, start, end)
        if rules.may_match(raw):
            yield from _named(rules, secrets(rules, Piece(raw)), start)


def _in_block(rules: RuleSet, block: bytes, at: int) -> Iterator[Finding]:
    """Look at whole lines, which begin at byte `at` of the file."""
    start = 0
    while start < len(block):
        end = block.rfind(b"\n", start, start + _AT_ONCE) + 1 or block.find(b"\n", start) + 1
        end = end or len(block)
        if rules.may_match(block[start:end]):
            yield from _in_each(rules, block[start:end], at + start)
        start = end


def _in_each(rules: RuleSet, lines: bytes, at: int) -> Iterator[Finding]:
    start = 0
    while start < len(lines):
        feed = lines.find(b"\n", start)
        end = feed if feed >= 0 else len(lines)
        if rules.may_match(line := lines[start:end]):
            yield from _named(rules, secrets(rules, Piece(line)), at + start)
        start = end + 1


def _in_long(
    rules: RuleSet, content: Content, at: int, end: int, *, ends_with: bytes
) -> Generator[Finding, None, int]:
    """Look at a long line window by window. Return how many bytes it has, with its line feed."""
    left = core = at  # where the window begins, and what of it no other window answers for
    in_string = False
    held: list[Secret] = []
    while True:
        raw = _read(content, left, min(left + LONG, end))
        last = left + len(raw) == end
        feed = raw.find(ends_with, core - left) if ends_with else -1
        if feed >= 0:
            raw, last = raw[:feed], True
        elif not last:
            raw = raw[: _cut(raw, len(raw))]
        core_end = len(raw) if last else _cut(raw, len(raw) - OVERLAP)
        if rules.may_match(raw):
            piece = Piece(raw, begins_in_string=in_string, begins=left == at, ends=last)
            found = [
                (left + start, left + until, rank)
                for start, until, rank in secrets(rules, piece)
                if start < core_end and until > core - left
            ]
            if not last and any(until >= left + len(raw) for _, until, _ in found):
                raise Unscannable(f"a match of more than {OVERLAP} bytes")
            held = joined((*held, *found))
        if last:
            yield from _named(rules, held)
            return left + len(raw) + (feed >= 0) - at
        core = left + core_end
        following = _cut(raw, core_end - OVERLAP)
        in_string ^= bare_quotes(raw[:following]).count(b'"') % 2 == 1
        left += following
        yield from _named(rules, [one for one in held if one[1] <= left])
        held = [one for one in held if one[1] > left]


def _cut(raw: bytes, at: int) -> int:
    """Return the last place up to `at` that is outside of an escape, before a run of backslashes.

    A run that does not end is cut behind a pair.
    """
    last = raw.rfind(b"\\", max(0, at - 6), at)
    if last < 0:
        return at
    first = len(raw[: last + 1].rstrip(b"\\"))
    paired = (last - first) % 2 == 1
    width = 1 if paired else 6 if raw[last + 1 : last + 2] == b"u" else 2
    if last + width < at or (last + width == at and not paired):
        return at
    if at - first <= _BACK:
        return first
    return at if paired else last


def _named(rules: RuleSet, found: list[Secret], offset: int = 0) -> Iterator[Finding]:
    for start, end, rank in found:
        yield Finding(offset + start, offset + end, rules.names[rank])


def _read(content: Content, start: int, end: int) -> bytes:
    """Return bytes `[start, end)`, also from who gives fewer at a time."""
    raw = content.read(start, end)
    while len(raw) < end - start:
        if not (more := content.read(start + len(raw), end)):
            raise Unscannable("fewer bytes than there should be")
        raw += more
    return raw
