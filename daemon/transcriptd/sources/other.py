"""Any other agent that keeps its sessions as files: where they are is configuration."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import TYPE_CHECKING

from transcriptd.tree import Tree

if TYPE_CHECKING:
    from transcriptd.config import OtherSource

_ANY_DIRECTORIES = "**"
_PART = re.compile(r"\*|\[!?\]?[^\]]*\]|.", re.DOTALL)  # a set, or one character


class Other(Tree):
    """One entry of the configuration."""

    def __init__(self, settings: OtherSource) -> None:
        self.name = settings.name
        self._globs = [_pattern(glob) for glob in settings.glob]
        self._depth = max(map(_depth, settings.glob))
        super().__init__([Path(root).expanduser().absolute() for root in settings.roots])

    def enters(self, directory: str) -> bool:
        return directory.count("/") + 1 <= self._depth

    def mirrors(self, path: str) -> bool:
        return any(glob.fullmatch(path) for glob in self._globs)


def _depth(glob: str) -> float:
    """Return how many directories deep a file may be that a glob matches."""
    return float("inf") if _ANY_DIRECTORIES in glob.split("/") else glob.count("/")


def _pattern(glob: str) -> re.Pattern[str]:
    """Return what a glob means: `*` stays within a name, `**` stands for any directories."""
    *directories, last = glob.split("/")
    if last == _ANY_DIRECTORIES:
        directories, last = [*directories, last], "*"
    parts = [
        "(?:[^/]+/)*" if each == _ANY_DIRECTORIES else f"{_within_a_name(each)}/"
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
