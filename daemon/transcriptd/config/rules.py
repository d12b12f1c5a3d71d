"""Rules of the file's own: what else is a secret. Read from `[[rules]]`.

Whether a rule can be used is for `transcriptd.redaction` to say. What a rule looks for may be a
secret by itself: no message repeats a pattern.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from transcriptd.config.reference import shown, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = ("name", "pattern")
"""What is said of a rule."""

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
"""What a rule may be called: its name stands in masks and metrics."""

Found: TypeAlias = "tuple[str, str]"


@dataclass(frozen=True, slots=True)
class OwnRule:
    """One rule: `pattern` is RE2; its first group, where there is one, is what is secret."""

    name: str
    pattern: str = field(repr=False)

    @property
    def key(self) -> str:
        return f"rules.{self.name}"


@dataclass(frozen=True, slots=True)
class Read:
    """The rules without problems, in the order of the file, and the problems of all others."""

    rules: tuple[OwnRule, ...] = ()
    problems: tuple[Found, ...] = ()


def read(rules: object) -> Read:
    """Read what the file says under `rules`."""
    if not isinstance(rules, list):
        return Read(problems=(("rules", "expected entries of [[rules]]"),))
    problems: list[Found] = []
    made: list[OwnRule] = []
    known: set[str] = set()
    for number, said in enumerate(rules, 1):
        name = said.get("name") if isinstance(said, dict) else None
        if not isinstance(said, dict) or not isinstance(name, str):
            problems.append((f"rules entry {number}", "expected a name such as 'intranet-token'"))
            continue
        found = list(_problems(name, said))
        if name in known:
            found.append((f"rules.{name}", f"entry {number} has the name of one before it"))
        known.add(name)
        problems += found
        if not found:
            made.append(OwnRule(name, said["pattern"]))
    unusable = list(_unusable(made))
    return Read(tuple(made) if not unusable else (), (*problems, *unusable))


def _problems(name: str, said: dict[str, object]) -> Iterator[Found]:
    key = f"rules.{name}"
    if not NAME.fullmatch(name):
        wanted = "expected a name of up to 40 of a-z 0-9 - beginning with a letter or a digit"
        yield key, f"{wanted}, got {shown(name)}"
    for each in said:
        if each not in KEYS:
            yield f"{key}.{each}", unknown(each, KEYS)
    pattern = said.get("pattern")
    if not isinstance(pattern, str) or not pattern:
        yield f"{key}.pattern", "expected a pattern of what is secret, as RE2 has them"


def _unusable(rules: list[OwnRule]) -> Iterator[Found]:
    """Yield which rules the engine does not take. It is loaded where there are rules, only."""
    if not rules:
        return
    from transcriptd.redaction import BadRule, Rule, RuleSet

    made = [Rule(rule.name, rule.pattern, (), ()) for rule in rules]
    try:
        RuleSet(made)
    except BadRule:
        for rule in made:
            try:
                RuleSet([rule])
            except BadRule as error:
                # RE2 repeats what it does not understand; that is the pattern, and stays here.
                yield f"rules.{rule.name}", ": ".join(error.reason.split(": ", 2)[:2])
