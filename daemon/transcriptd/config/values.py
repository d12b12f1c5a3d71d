"""What was said of a key, as a value of the key's type.

Knows no layers: a path is made absolute by who knows what it counts from.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import msgspec

from transcriptd.config.reference import Leaf, parse_size, shown

if TYPE_CHECKING:
    from pathlib import Path

    from transcriptd.config.kinds import Expand


def parsed(leaf: Leaf, value: Any, base: Path, expand: Expand, *, is_text: bool = False) -> Any:  # noqa: ANN401 - any key
    """Turn what was given into the key's type. Raises `ValueError`.

    `is_text` where it has no type of its own: a variable.
    """
    if is_text and leaf.kind is tuple:
        value = tuple(filter(None, value.split(os.pathsep)))
    if leaf.is_path:
        return _located(leaf, value, base, expand)
    if leaf.is_size and isinstance(value, str):
        value = parse_size(value)
    elif is_text and leaf.kind in {int, float, bool}:
        value = msgspec.convert(value.strip(), leaf.kind, strict=False)
    value = msgspec.convert(value, leaf.type)
    if leaf.each is not None:
        return tuple(leaf.each(text, expand) for text in value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    if leaf.key == "prefix" and not value.endswith("/"):
        return f"{value}/"
    return value


def unfit(leaf: Leaf, value: object) -> str:
    """Say what was expected instead of a value."""
    if leaf.secret:
        return f"expected {leaf.expected}"
    return f"expected {leaf.expected}, got {shown(value)}"


def _located(leaf: Leaf, value: object, base: Path, expand: Expand) -> Any:  # noqa: ANN401 - a path, a text or several
    many = isinstance(value, list | tuple)
    paths = list(value) if isinstance(value, list | tuple) else [value]
    if many is not (leaf.kind is tuple) or not all(isinstance(p, str | os.PathLike) for p in paths):
        raise ValueError(value)
    if leaf.kind is str and not value:
        return ""
    if "" in paths:
        raise ValueError(value)
    found = [expand(str(path), base) for path in paths]
    if many:
        return tuple(map(str, found))
    return leaf.kind(found[0])
