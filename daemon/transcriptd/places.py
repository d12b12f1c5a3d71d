"""Where an agent's sessions may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """Where sessions may be.

    `roots` hold sessions. `indexes` are directories whose entries name further roots; `watermark`
    (Unix nanoseconds) says up to which change they have been read.
    """

    roots: tuple[Path, ...]
    indexes: tuple[Path, ...] = ()
    watermark: int = 0
