"""Any other agent that keeps its sessions as files: where they are is configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transcriptd.globs import ANY_DIRECTORIES, pattern
from transcriptd.tree import Tree

if TYPE_CHECKING:
    from transcriptd.config import OtherSource


class Other(Tree):
    """One entry of the configuration."""

    def __init__(self, settings: OtherSource) -> None:
        self.name = settings.name
        self._globs = [pattern(glob) for glob in settings.glob]
        self._depth = max(map(_depth, settings.glob))
        super().__init__([Path(root).expanduser().absolute() for root in settings.roots])

    def enters(self, directory: str) -> bool:
        return directory.count("/") + 1 <= self._depth

    def mirrors(self, path: str) -> bool:
        return any(glob.fullmatch(path) for glob in self._globs)


def _depth(glob: str) -> float:
    """Return how many directories deep a file may be that a glob matches."""
    return float("inf") if ANY_DIRECTORIES in glob.split("/") else glob.count("/")
