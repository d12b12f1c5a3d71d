"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"  # it works, with less than it could
    FAIL = "fail"  # something is not archived, or will not be, or is open to everybody


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `hint` says what a person can do."""

    section: str
    level: Level
    subject: str
    message: str
    hint: str = ""


def counted(count: int, one: str) -> str:
    """Say how many there are of something."""
    return f"{count:,} {one}{'' if count == 1 else 's'}"
