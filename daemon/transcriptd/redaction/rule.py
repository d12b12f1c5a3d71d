"""What a rule is, and which patterns cannot be one."""

from __future__ import annotations

import re
from dataclasses import dataclass

import re2

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_MEMORY = 16 << 20  # at most, for the states of one pattern
# What a pattern is looked for in before it is taken: one that matches nothing matches here.
_NOTHING = ("", "a", " ", "a b", '"', "\n", "é")


class BadRule(ValueError):
    """A rule that cannot be one: `rule` is its name, `reason` what is wrong."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"{rule}: {reason}")
        self.rule = rule
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rule:
    """A shape that a secret has, in the syntax of RE2. Its group 1, if any, is the secret.

    It is looked for anywhere in a text. What `unless` matches whole is no secret. `true` holds
    examples in which it finds one, `false` those in which it must not.
    """

    name: str
    pattern: str
    true: tuple[str, ...] = ()
    false: tuple[str, ...] = ()
    unless: str = ""


def options(*, text: bool) -> re2.Options:
    """Return how a pattern is compiled: for characters of UTF-8 (`text`), or for bytes."""
    chosen = re2.Options()
    chosen.max_mem = _MEMORY
    chosen.log_errors = False  # a pattern of the user's is none of the journal's business
    if not text:
        chosen.encoding = re2.Options.Encoding.LATIN1
    return chosen


def check(rule: Rule) -> None:
    """Raise `BadRule` for what cannot be looked for anywhere in a text, or finds nothing."""
    if not NAME.fullmatch(rule.name):
        raise BadRule(rule.name, "a name is a-z, 0-9 and dashes, at most 40")
    for pattern in (rule.pattern, rule.unless):
        try:
            compiled = re2.compile(pattern.encode(), options(text=True))
        except re2.error as error:
            raise BadRule(rule.name, f"does not compile: {_said(error)}") from None
        except UnicodeEncodeError:
            raise BadRule(rule.name, "is no text") from None
        if pattern is rule.pattern:
            if anchor := _anchor(pattern):
                raise BadRule(
                    rule.name, f"{anchor} means nothing: a rule is looked for anywhere in a text"
                )
            if any(_empty(compiled, text) for text in _NOTHING):
                raise BadRule(rule.name, "matches the empty string")


def _empty(compiled: re2._Regexp, text: str) -> bool:
    return any(match.start() == match.end() for match in compiled.finditer(text.encode()))


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


_PART = re.compile(
    r"\\Q.*?(?:\\E|\Z)"  # literally
    r"|\\[Az]"
    r"|\\."
    r"|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]"  # a class
    r"|[$^]",
    re.DOTALL,
)


def _anchor(pattern: str) -> str:
    """Return the anchor that stands in a pattern outside of its classes, if any."""
    for part in _PART.findall(pattern):
        if part in {"^", "$", r"\A", r"\z"}:
            return str(part)
    return ""
