"""How restoring was asked for: where to, by force, with which directories that have moved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transcriptd.restore.outcome import Fate

if TYPE_CHECKING:
    from pathlib import Path

    from transcriptd.remap import Remap
    from transcriptd.restore.outcome import Outcome
    from transcriptd.standing import Standing


@dataclass(frozen=True, slots=True)
class Order:
    """`to` is a directory; without one sessions go where their agent looks for them.

    With `force` a file gives way to the archive whatever it holds, and is kept beside where that is
    more, or what the archive masks. `is_dry`: only say what would be done.
    """

    to: Path | None = None
    force: bool = False
    remap: Remap | None = None
    is_dry: bool = False

    def without_writing(self, outcome: Outcome, standing: Standing) -> Outcome | None:
        """Return what becomes of a session for which nothing is to be written; `None`: it is."""
        said = replace(outcome, reason=standing.reason, message=standing.message)
        if standing.is_equal and not (standing.keep and self.force):
            return replace(said, fate=Fate.SKIPPED, message="")
        if standing.keep and not standing.gives_way and not self.force:
            return replace(said, fate=Fate.KEPT)
        if self.is_dry:
            return replace(said if standing.hides else outcome, fate=Fate.PLANNED)
        return None
