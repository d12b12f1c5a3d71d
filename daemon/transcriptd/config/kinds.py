"""What kinds of values keys have, where several tables have the same kind.

Knows no key.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from msgspec import Meta

if TYPE_CHECKING:
    from collections.abc import Callable

    Expand: TypeAlias = Callable[[str, Path], Path]
    """Makes a path out of a text: `~` is the home directory, a relative one counts from a base."""

Redaction: TypeAlias = Literal["off", "report", "mask"]

Seconds = Annotated[float, Meta(ge=0, extra={"expected": "a number of seconds >= 0"})]

_ANYWHERE = frozenset("*?[")
_NO_NAME = frozenset({"", ".", "..", "~"})
_NOWHERE = Path()


def derived(default: str) -> Meta:
    """Say what the default of a key is that has none of its own."""
    return Meta(extra={"default": default})


def is_glob(text: str) -> bool:
    """Say whether a text is a pattern of what lies below a directory."""
    return bool(text) and _NO_NAME.isdisjoint(text.split("/"))


def is_place(text: str) -> bool:
    """Say whether a text names one place, whatever lies around it."""
    return text.startswith(("/", "~"))


def place(text: str, expand: Expand) -> str:
    """Return the path that a text names. Raises `ValueError` unless it is absolute or in a home."""
    path = expand(text, _NOWHERE)
    if not path.is_absolute():
        raise ValueError(text)
    return str(path)


def place_or_glob(text: str, expand: Expand) -> str:
    """Return the path that a text names, or the pattern that it is. Raises `ValueError`."""
    if not is_place(text):
        if not is_glob(text):
            raise ValueError(text)
        return text
    if not _ANYWHERE.isdisjoint(text):  # a pattern is meant, and would be taken for a name
        raise ValueError(text)
    return place(text, expand)


Directories = Annotated[
    tuple[str, ...], Meta(extra={"expected": "a list of directories", "path": True})
]
Places = Annotated[
    tuple[str, ...],
    Meta(extra={"expected": "a list of directories that begin with / or ~", "each": place}),
]
PlacesAndGlobs = Annotated[
    tuple[str, ...],
    Meta(
        extra={
            "expected": "a list of paths without wildcards that begin with / or ~, or of patterns "
            "of what lies below the agent's directory, such as 'scratch/**'",
            "each": place_or_glob,
        }
    ),
]
