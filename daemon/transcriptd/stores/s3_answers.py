"""What the server's answers say, read with suspicion. Pure functions of the SDK's dictionaries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from transcriptd.errors import ConditionFailed, Damaged, Unsupported
from transcriptd.stores import Entry, Head

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def etag_of(answer: Mapping[str, Any]) -> str:
    """Return the ETag as a token, without the quotes that some answers have and some not."""
    return str(answer.get("ETag", "")).strip('"')


def head_of(answer: Mapping[str, Any], size: int | None) -> Head:
    """Read the headers of an object. Servers change the case of metadata names: lower them."""
    if size is None:
        raise Damaged("the answer does not say how long the object is")
    modified = answer.get("LastModified")
    return Head(
        etag=etag_of(answer),
        size=size,
        modified=modified.timestamp() if modified else 0.0,
        metadata=lowered(answer.get("Metadata", {})),
    )


def lowered(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata with its names in lower case, the only case that every server keeps."""
    return {name.lower(): value for name, value in metadata.items()}


def entry_of(row: Mapping[str, Any]) -> Entry:
    """Read one row of a listing."""
    try:
        key, size, modified = row["Key"], row["Size"], row["LastModified"]
    except KeyError:
        raise Damaged("list: the answer does not say what there is") from None
    return Entry(key=key, size=size, etag=etag_of(row), modified=modified.timestamp())


def total_size(answer: Mapping[str, Any], start: int, end: int | None) -> int:
    """Return the whole object's size. Raises `Damaged` unless the answer is the range asked for."""
    length = answer.get("ContentLength")
    if length is None:
        raise Damaged("get: the answer does not say how long it is")
    said = answer.get("ContentRange")
    if said is None:
        if start or (end is not None and end < length):
            raise Unsupported("get: this server cannot give a part of an object")
        return int(length)
    found = _CONTENT_RANGE.fullmatch(said)
    if found is None:
        raise Damaged("get: the answer does not say which bytes it gives")
    first, last, total = map(int, found.groups())
    wanted = total if end is None else min(end, total)
    if (first, last + 1, length) != (start, wanted, wanted - start):
        raise Damaged("get: the answer is another range than was asked for")
    return total


def must_match(head: Head, etag: str | None) -> None:
    """Raise `ConditionFailed` if the object has another ETag than the one that is wanted."""
    if etag is not None and head.etag != etag:
        raise ConditionFailed("get: the object is not what it was")


def must_hold(head: Head | None, size: int, metadata: Mapping[str, str]) -> Head:
    """Return what stands there. Raises `Damaged` unless it has this size and this metadata."""
    if head is None:
        raise Damaged("the store said it wrote an object that is not there")
    if head.size != size:
        raise Damaged(f"the store holds {head.size} bytes where it was given {size}")
    if not lowered(metadata).items() <= head.metadata.items():
        raise Damaged("the store holds other metadata than it was given")
    return head
