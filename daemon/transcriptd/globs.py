"""What a glob of paths means: `*` stays within a name, `**` stands for any directories."""

from __future__ import annotations

import fnmatch
import re
from functools import cache

ANY_DIRECTORIES = "**"
_PART = re.compile(r"\*|\[!?\]?[^\]]*\]|.", re.DOTALL)  # a set, or one character


@cache
def pattern(glob: str) -> re.Pattern[str]:
    """Return what a whole path has to match. There are as many globs as somebody configured."""
    *directories, last = glob.split("/")
    if last == ANY_DIRECTORIES:
        directories, last = [*directories, last], "*"
    parts = [
        "(?:[^/]+/)*" if each == ANY_DIRECTORIES else f"{_within_a_name(each)}/"
        for each in directories
    ]
    return re.compile("".join([*parts, _within_a_name(last)]), re.DOTALL)


def _within_a_name(glob: str) -> str:
    return "".join(map(_part, _PART.findall(glob)))


def _part(glob: str) -> str:
    if glob == "*":
        return "[^/]*"
    translated = re.fullmatch(r"\(\?s:(.*)\)\\[Zz]", fnmatch.translate(glob))
    assert translated is not None
    return f"(?!/){translated[1]}"
