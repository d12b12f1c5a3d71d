"""What the archive's server was seen to do, in plain words, and what is done where it does not.

What makes a promise to the user weaker is a warning; what only costs requests or bytes is said, and
is none. Asks nothing: `round_trip` has the store find out what it has not needed so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transcriptd.doctor.finding import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECTION = "archive"
_HONOURED = "honoured"
_ONE_WRITER = "let one machine write to a prefix"
_LOOKED_FIRST = "compared right before instead, so that two writers at the same moment could"


@dataclass(frozen=True, slots=True)
class _Guarantee:
    """`kept`: what it is good for. `instead`: what holds without. `weakens`: less is promised."""

    kept: str
    instead: str
    weakens: bool = True


_EXPLAINED = {
    "if_none_match": _Guarantee(
        kept="what is absent is made only once",
        instead=f"{_LOOKED_FIRST} both make an object",
    ),
    "if_match": _Guarantee(
        kept="only what is known is replaced",
        instead=f"{_LOOKED_FIRST} overwrite each other",
    ),
    "etag_is_md5": _Guarantee(
        kept="the answer to a write proves what was stored",
        instead="each write is looked at again",
        weakens=False,
    ),
    "copy_parts": _Guarantee(
        kept="a seal of a large session sends what is new, the server copies the rest",
        instead="a seal of a large session sends it again",
        weakens=False,
    ),
    "complete_if_none_match": _Guarantee(
        kept="what is absent is made only once, also in parts",
        instead=f"for uploads in parts {_LOOKED_FIRST} both make an object",
    ),
    "complete_if_match": _Guarantee(
        kept="only what is known is replaced, also in parts",
        instead=f"for uploads in parts {_LOOKED_FIRST} overwrite each other",
    ),
}


def explain(words: Mapping[str, str]) -> list[Finding]:
    """Say for each guarantee of a store how it is kept."""
    return [_finding(name, word, _EXPLAINED[name]) for name, word in words.items()]


def _finding(name: str, word: str, guarantee: _Guarantee) -> Finding:
    if word == _HONOURED:
        return Finding(_SECTION, Level.OK, name, f"{word}: {guarantee.kept}")
    level = Level.WARN if guarantee.weakens else Level.OK
    hint = _ONE_WRITER if guarantee.weakens else ""
    return Finding(_SECTION, level, name, f"{word}: {guarantee.instead}", hint)
