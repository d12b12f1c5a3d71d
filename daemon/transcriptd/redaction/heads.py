r"""The heads of patterns, as one: a weaker pattern, which matches wherever one of them does.

A pattern that counts far (`[0-9a-f]{64}`) makes an automaton of its own for every place where it
may have begun, so a head counts to `FAR` and ends there. What heads begin with alike is said once:
RE2 takes the longer for each of its states the more ways there are to go on.

A head for raw text matches whatever its pattern would match once the text is decoded, however
often, if no letter or digit is escaped in it (`ESCAPED_LETTER`): where a quote, a slash, a space or
anything beyond ASCII may stand, an escape may.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import re2

if TYPE_CHECKING:
    from collections.abc import Iterable

FAR = 8
# So many characters that stand for themselves tell a shape apart before it counts.
KNOWN = 2
# `\u0041` and its like, and the backslash, which makes new escapes. Not those for the characters of
# `_OFTEN_ESCAPED`, nor for what is no ASCII, which `_ESCAPE` stands for.
ESCAPED_LETTER = (
    r"\\u00(?:2[01345890A-Ea-e]|3[0-9ABFabf]|[46][0-9A-Fa-f]|5[0-9A-Fa-f]|7[0-9A-Fa-f])"
)
_ESCAPE = r'\\+(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})'
_BEFORE_WORD = rf"(?:\b|{_ESCAPE})"
_OFTEN_ESCAPED = (
    *(chr(code) for code in range(32)), '"', "\\", "/", "<", ">", "&", "'", "=", "\x7f", "\x80",
    "\xe9", "\u4e2d", "\U0001f600",
)  # fmt: skip
_LONGEST = 4  # bytes that one escape stands for

_PLAIN = ("(", "(?:")  # groups without flags

Head = tuple[str, ...]  # its parts: characters, classes, groups, each with its count

_ATOM = re.compile(
    r"\\x\{[0-9A-Fa-f]+\}|\\x[0-9A-Fa-f]{2}|\\[pP]\{\^?\w+\}|\\[^QECB]"
    r"|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|[^\\\[(|)?*+]",
    re.DOTALL,
)
_GROUP = re.compile(r"\(\?[a-zA-Z]*:|\(\?P?<\w+>|\((?!\?)")
_COUNT = re.compile(r"(?:([?*+])|\{([0-9]+)(,?)([0-9]*)\})\??")


class _Unknown(Exception):
    """The pattern has something in it that is not understood here."""


@dataclass(slots=True)
class _Item:
    """A part of a sequence: what it is, how often, and its branches if it is a group."""

    text: str
    count: str = ""
    least: int = 1
    opening: str = ""
    branches: list[list[_Item]] = field(default_factory=list)


def heads(pattern: str, *, raw: bool) -> list[Head] | None:
    """Return the ways in which a match of `pattern` begins, or None if it is not understood."""
    try:
        branches, end = _branches(pattern, 0)
    except _Unknown:
        return None
    if end != len(pattern):
        return None
    if raw:
        for branch in branches:
            _bear_escapes(branch)
    return [tuple(parts) for branch in branches for parts, _ in _ways(branch, 0)]


def together(some: Iterable[Head]) -> str:
    """Return one pattern for heads, in which each beginning that they share stands once."""
    following: dict[str, list[Head]] = {}
    for one in some:
        if not one:
            return ""  # one of them ends here, so the others need not go on
        following.setdefault(one[0], []).append(one[1:])
    ways = [first + together(rest) for first, rest in sorted(following.items())]
    return ways[0] if len(ways) == 1 else f"(?:{'|'.join(ways)})"


def _ways(items: list[_Item], known: int) -> list[tuple[list[str], bool]]:
    """Return the ways into a sequence, each with whether it ends before the sequence does.

    `known` is how many characters stand for themselves before it.
    """
    parts: list[str] = []
    for index, item in enumerate(items):
        if item.least > FAR and known >= KNOWN:
            return [([*parts, f"{item.text}{{{FAR}}}"], True)]
        if item.opening in _PLAIN and not item.count:
            inside = [way for branch in item.branches for way in _ways(branch, known)]
            last = index + 1 == len(items)
            if last or any(shorter for _, shorter in inside):
                # Only what is whole goes on behind the group.
                rest = _ways(items[index + 1 :], known + _known(item))
                return [
                    way
                    for begin, shorter in inside
                    for way in (
                        [([*parts, *begin], True)]
                        if shorter
                        else [([*parts, *begin, *end], ended) for end, ended in rest]
                    )
                ]
        parts.append(item.text + item.count)
        known += _known(item)
    return [(parts, False)]


def _known(item: _Item) -> int:
    """Return how many characters of an item stand for themselves, at least."""
    if item.count:
        return 0
    if item.branches:
        return min(sum(_known(one) for one in branch) for branch in item.branches)
    escaped = item.text[0] == "\\" and len(item.text) == 2 and not item.text[1].isalnum()  # noqa: PLR2004 - a backslash and what it escapes
    return int(escaped or (len(item.text) == 1 and item.text != "."))


def _bear_escapes(items: list[_Item]) -> None:
    """Change parts so that they match what they would, escaped or not."""
    for item in items:
        if item.branches:
            for branch in item.branches:
                _bear_escapes(branch)
            item.text = (
                item.opening
                + "|".join(
                    "".join(one.text + one.count for one in branch) for branch in item.branches
                )
                + ")"
            )
            _loosen(item)
        elif item.text == r"\b":
            item.text = _BEFORE_WORD
        elif _often_escaped(item.text):
            item.text = f"(?:{item.text}|{_ESCAPE})"
            _loosen(item)


def _loosen(item: _Item) -> None:
    """Change a count of bytes so that it fits to escapes, each of which stands for some."""
    if item.count and item.count[0] == "{":
        item.least = -(-item.least // _LONGEST)
        item.count = f"{{{item.least},}}"


@lru_cache(maxsize=512)
def _often_escaped(atom: str) -> bool:
    if not atom.isascii() or atom.startswith(("\\p", "\\P")) or "\\x{" in atom:
        return True
    chosen = re2.Options()
    chosen.log_errors = False
    compiled = re2.compile(atom.encode(), chosen)
    return any(compiled.fullmatch(one.encode()) for one in _OFTEN_ESCAPED)


def _branches(pattern: str, at: int) -> tuple[list[list[_Item]], int]:
    """Parse alternatives from `at` up to the end of their group, or of the pattern."""
    branches: list[list[_Item]] = [[]]
    while at < len(pattern) and pattern[at] != ")":
        if pattern[at] == "|":
            branches.append([])
            at += 1
            continue
        item, at = _item(pattern, at)
        if found := _COUNT.match(pattern, at):
            item.count, at = found[0], found.end()
            item.least = int(found[2]) if found[2] else int(found[1] == "+")
        branches[-1].append(item)
    return branches, at


def _item(pattern: str, at: int) -> tuple[_Item, int]:
    if found := _GROUP.match(pattern, at):
        branches, end = _branches(pattern, found.end())
        if pattern[end : end + 1] != ")":
            raise _Unknown
        return _Item(pattern[at : end + 1], opening=found[0], branches=branches), end + 1
    if found := _ATOM.match(pattern, at):
        return _Item(found[0]), found.end()
    raise _Unknown
