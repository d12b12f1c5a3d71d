"""What the server's answers say, read with suspicion. Pure functions of the SDK's dictionaries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from transcriptd.errors import ConditionFailed, Damaged, Unsupported
from transcriptd.stores import Absent, Entry, Head, Matches
from transcriptd.stores.capabilities import WRITINGS
from transcriptd.stores.s3_hashes import etag_of_parts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transcriptd.stores import Condition
    from transcriptd.stores.capabilities import Quoting

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


def tags_of(condition: Condition, if_none_match: bool, if_match: Quoting) -> dict[str, str]:  # noqa: FBT001 - what was proven, in the order of `Parts`
    """Return the headers of a condition where the server compares them, else none."""
    match condition:
        case Absent() if if_none_match:
            return {"IfNoneMatch": "*"}
        case Matches(etag) if if_match != "ignored":
            return {"IfMatch": WRITINGS[if_match](etag)}
    return {}


def must_allow(condition: Condition, head: Head | None) -> None:
    """Raise `ConditionFailed` unless the condition holds of what stands there."""
    match condition:
        case Absent() if head is not None:
            raise ConditionFailed("something stands there")
        case Matches(etag) if head is None or head.etag != etag:
            raise ConditionFailed("the object is not what it was")


def must_hold(head: Head | None, size: int, metadata: Mapping[str, str]) -> Head:
    """Return what stands there. Raises `Damaged` unless it has this size and this metadata."""
    if head is None:
        raise Damaged("the store said it wrote an object that is not there")
    if head.size != size:
        raise Damaged(f"the store holds {head.size} bytes where it was given {size}")
    if not lowered(metadata).items() <= head.metadata.items():
        raise Damaged("the store holds other metadata than it was given")
    return head


def must_be_made_of(head: Head, tags: Sequence[str]) -> None:
    """Raise `Damaged` unless the ETag is that of an object of parts with these ETags."""
    if head.etag != etag_of_parts(tags):
        raise Damaged("the store holds other parts than it was given")
