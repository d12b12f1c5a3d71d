"""Rules, compiled: whether any of them may match, and where each does.

One alternation of all their heads says of most bytes, at some 300 MB a second, that there is
nothing. Where there may be something, alternations of a few say which rules to ask. Each is
compiled when it is first asked. Ours match bytes; the user's match characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

import re2

from transcriptd.redaction.assignments import ASSIGNMENTS
from transcriptd.redaction.heads import ESCAPED_LETTER, heads, together
from transcriptd.redaction.keys import KEYS
from transcriptd.redaction.operations import OPERATIONS
from transcriptd.redaction.rule import BadRule, Rule, check, options
from transcriptd.redaction.services import SERVICES
from transcriptd.redaction.tokens import TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from transcriptd.redaction.heads import Head

BUILT_IN: tuple[Rule, ...] = (*TOKENS, *SERVICES, *OPERATIONS, *KEYS, *ASSIGNMENTS)
_A_FEW = 12
_ALGORITHM = 1  # what is found for the same rules: raised with every change of it


class Unscannable(Exception):
    """Bytes could not be scanned, so that nobody knows what is in them."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RuleSet:
    """The built-in rules and the user's own. Raises `BadRule`."""

    def __init__(self, own: Iterable[Rule] = ()) -> None:
        mine = tuple(own)
        taken = {rule.name for rule in BUILT_IN}
        for rule in mine:
            check(rule)
            if rule.name in taken:
                raise BadRule(rule.name, "the name is taken")
            taken.add(rule.name)
        self.rules = (*BUILT_IN, *mine)
        self._own = len(mine)
        self.names = tuple(rule.name for rule in self.rules)
        digest = sha256(str(_ALGORITHM).encode())
        for rule in self.rules:
            for part in (rule.name, rule.pattern, rule.unless):
                digest.update(b"\0" + part.encode())
        self.version = digest.hexdigest()[:12]

    def rest(self) -> None:
        """Let go of what is compiled, some 10 MB. It is made again when it is asked for."""
        for made in ("_any", "_any_once_decoded", "_fews"):
            vars(self).pop(made, None)
        re2.purge()

    def may_match(self, raw: bytes) -> bool:
        """Say whether any rule may match in `raw` decoded, however often. Raises `Unscannable`.

        `raw` may be many lines, or strings and what is between them. That hides nothing: no rule
        asks for an edge of its text, and the edge of a string is a quote, which is no part of a
        word.
        """
        try:
            return any(one.match(raw) for one in self._any_once_decoded)
        except (re2.error, MemoryError, RuntimeError) as error:
            raise Unscannable(type(error).__name__) from error

    def found_in(self, text: bytes) -> Iterator[tuple[int, int, int]]:
        """Yield start, end and rank of each secret in `text`, in no order. Raises `Unscannable`."""
        try:
            if not any(one.match(text) for one in self._any):
                return
            for few in self._fews:
                if any(one.match(text) for one in few.heads):
                    for one in few.rules:
                        yield from ((*span, one.rank) for span in _secrets(one, text))
        except (re2.error, MemoryError, RuntimeError) as error:
            raise Unscannable(type(error).__name__) from error

    @cached_property
    def _parts(self) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
        ours = len(self.rules) - self._own
        return self.rules[:ours], self.rules[ours:]

    @cached_property
    def _any(self) -> tuple[re2._Regexp, ...]:
        ours, mine = self._parts
        return (*_alternations(ours, text=False), *_alternations(mine, text=True))

    @cached_property
    def _any_once_decoded(self) -> tuple[re2._Regexp, ...]:
        ours, mine = self._parts
        return (
            *_alternations(ours, text=False, raw=True),
            *_alternations(mine, text=True, raw=True),
        )

    @cached_property
    def _fews(self) -> tuple[_Few, ...]:
        ours, mine = self._parts
        return (*_fews(ours, 0, text=False), *_fews(mine, len(ours), text=True))


@dataclass(frozen=True, slots=True)
class _Compiled:
    """One rule, and its place in the table."""

    rank: int
    pattern: re2._Regexp
    unless: re2._Regexp | None


class _Few:
    """Some rules, and what says whether any of them may match. Most are never asked themselves."""

    def __init__(self, rules: tuple[Rule, ...], first: int, *, text: bool) -> None:
        self._rules = rules
        self._first = first
        self._text = text
        self.heads = tuple(_alternations(rules, text=text))

    @cached_property
    def rules(self) -> tuple[_Compiled, ...]:
        return tuple(
            _Compiled(
                rank, _compiled(rule.pattern, text=self._text), _unless(rule, text=self._text)
            )
            for rank, rule in enumerate(self._rules, self._first)
        )


def _fews(rules: tuple[Rule, ...], first: int, *, text: bool) -> Iterator[_Few]:
    for at in range(0, len(rules), _A_FEW):
        yield _Few(rules[at : at + _A_FEW], first + at, text=text)


def _compiled(pattern: str, *, text: bool) -> re2._Regexp:
    return re2.compile(pattern.encode(), options(text=text))


def _unless(rule: Rule, *, text: bool) -> re2._Regexp | None:
    return _compiled(rule.unless, text=text) if rule.unless else None


def _secrets(rule: _Compiled, text: bytes) -> Iterator[tuple[int, int]]:
    pattern, unless = rule.pattern, rule.unless
    at = 0
    while match := pattern.search(text, at):
        start, end = match.span(1) if pattern.groups else match.span()
        if start < 0:
            start, end = match.span()
        if start < end and not (unless and unless.fullmatch(text, start, end)):
            yield start, end
            at = end
        else:
            # What is no secret may hold one: `PASSWORD=${PASSWORD:-secret}`.
            at = max(start, match.start() + 1)


def _alternations(
    rules: tuple[Rule, ...], *, text: bool, raw: bool = False
) -> Iterator[re2._Regexp]:
    """Yield the heads of rules as one pattern, or as several where RE2 finds that too large."""
    if not rules:
        return
    chosen = options(text=text)
    chosen.never_capture = True
    try:
        # Anchored, because RE2 would otherwise look for where the match begins, which takes longer.
        yield re2.compile(rf"\C*?(?:{_heads(rules, raw=raw)})".encode(), chosen)
    except re2.error:
        if len(rules) == 1:
            raise
        half = len(rules) // 2
        yield from _alternations(rules[:half], text=text, raw=raw)
        yield from _alternations(rules[half:], text=text, raw=raw)


def _heads(rules: tuple[Rule, ...], *, raw: bool) -> str:
    ways: list[Head] = [(ESCAPED_LETTER,)] if raw else []
    for rule in rules:
        # A pattern that is not understood stands for itself, and every escape may hide it.
        ways += heads(rule.pattern, raw=raw) or [(f"(?:{rule.pattern})",)] + [(r"\\",)] * raw
    return together(ways)
