"""What is proven of an endpoint and a bucket, as values. How it is found out, `probe` knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = 2

Quoting = Literal["quoted", "unquoted", "ignored"]
"""How a tag must be written for the server to compare it, if it does."""


def quote(tag: str) -> str:
    return f'"{tag}"'


WRITINGS: dict[Quoting, Callable[[str], str]] = {"quoted": quote, "unquoted": str}


@dataclass(frozen=True, slots=True)
class Parts:
    """What was proven of multipart uploads.

    `etags_are_sums`: the ETag of a part is its MD5 sum, and the object's is the sum of those.
    """

    copy_parts: bool = False
    if_none_match: bool = False
    if_match: Quoting = "ignored"
    etags_are_sums: bool = False


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What was proven; `probed_at` in Unix seconds. `parts` is found out when it is needed."""

    if_none_match: bool
    if_match: Quoting
    etag_is_md5: bool
    probed_at: float
    version: int = VERSION
    parts: Parts | None = None


def guarantees(known: Capabilities | None) -> dict[str, str]:
    """Return what is known in the words that people are shown."""
    parts = known.parts if known else None
    return {
        "if_none_match": _word(known.if_none_match if known else None),
        "if_match": _word(known.if_match != "ignored" if known else None),
        "etag_is_md5": _word(known.etag_is_md5 if known else None),
        "copy_parts": _word(parts.copy_parts if parts else None),
        "complete_if_none_match": _word(parts.if_none_match if parts else None),
        "complete_if_match": _word(parts.if_match != "ignored" if parts else None),
    }


def _word(proven: bool | None) -> str:  # noqa: FBT001 - it is what the word is for
    return {True: "honoured", False: "not honoured", None: "unknown"}[proven]
