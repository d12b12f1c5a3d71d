"""The exact look at a line, or at a window of a long one: which of its bytes are a secret.

Where everything outside of its strings is what JSON has there, each string that is no key is looked
at by itself, decoded as often as its escapes allow, and each member of an object once more as key
and value. Anything else is text: it is looked at whole, decoded likewise. A secret is told in bytes
of the piece: whole escapes, whole characters, no quote that ends a string, nothing of a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transcriptd.redaction.escapes import decoded, decoded_unit, plain, plain_unit, trimmed, walked
from transcriptd.redaction.finding import joined
from transcriptd.redaction.strings import Strings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transcriptd.redaction.ruleset import RuleSet
    from transcriptd.redaction.strings import Piece

    Secret = tuple[int, int, int]  # start, end, rank of the rule

DEPTH = 4  # so often JSON may stand in JSON
_AT_ONCE = 8
_INSIDE = range(0x80, 0xC0)  # bytes of a character behind its first


def secrets(rules: RuleSet, piece: Piece) -> list[Secret]:
    """Return the secrets in order, none overlapping another. Raises `Unscannable`."""
    strings = Strings(piece)
    if strings.structured:
        found = list(_in_strings(rules, piece.raw, strings))
    else:
        found = [
            (*part, rank)
            for start, end, rank in _in_text(rules, piece.raw, 0)
            for part in strings.without_quotes(start, end)
        ]
    return joined((*_whole(piece.raw, start, end), rank) for start, end, rank in found)


def _in_strings(rules: RuleSet, raw: bytes, strings: Strings) -> Iterator[Secret]:
    for number in _narrowed(rules, strings, 0, strings.count):
        if strings.is_key(number):
            continue
        first, last = strings.content(number)
        for start, end, rank in _in_text(rules, raw[first:last], 1):
            yield first + start, first + end, rank
        if (member := strings.key_of(number)) is not None:
            for start, end, rank in _in_text(rules, raw[member : last + 1], 0, 0):
                inside = max(first, member + start), min(last, member + end)
                if inside[0] < inside[1]:
                    yield *inside, rank


def _narrowed(rules: RuleSet, strings: Strings, first: int, last: int) -> Iterator[int]:
    """Yield the numbers of the strings that may hold something, of `[first, last)`."""
    if first == last or not rules.may_match(strings.reach(first, last)):
        return
    if last - first == 1:
        yield first
        return
    step = -(-(last - first) // _AT_ONCE)
    for at in range(first, last, step):
        yield from _narrowed(rules, strings, at, min(at + step, last))


def _in_text(rules: RuleSet, raw: bytes, first: int, last: int = DEPTH) -> Iterator[Secret]:
    """Yield what stands in `raw` decoded `first` to `last` times, by its place in `raw`."""
    steps: list[tuple[bytes, Callable[[bytes], bytes]]] = []
    text = raw
    for depth in range(last + 1):
        if (simple := plain(text)) != text:
            steps.append((text, plain_unit))
            text = simple
        following = decoded(text)
        at_rest = following == text
        if depth >= first or at_rest:
            found = [(*trimmed(text, *span), rank) for *span, rank in rules.found_in(text)]
            yield from _placed([one for one in found if one[0] < one[1]], steps)
        if at_rest:
            return
        steps.append((text, decoded_unit))
        text = following


def _placed(
    found: list[Secret], steps: list[tuple[bytes, Callable[[bytes], bytes]]]
) -> Iterator[Secret]:
    """Yield what was found by where it stood before the steps."""
    if not found:
        return
    spans = [(start, end) for start, end, _ in found]
    for text, unit in reversed(steps):
        spans = walked(text, unit, spans)
    for span, (_, _, rank) in zip(spans, found, strict=True):
        yield *span, rank


def _whole(raw: bytes, start: int, end: int) -> tuple[int, int]:
    """Return the span with the whole of the characters at its edges."""
    for _ in range(3):
        if start and raw[start] in _INSIDE:
            start -= 1
        if end < len(raw) and raw[end] in _INSIDE:
            end += 1
    return start, end
