"""What the SDK knows of the service, as far as it is needed here.

botocore describes every operation, with its documentation, and every endpoint of every service:
14 MB as objects, of which this store needs one. A file that is not as expected is loaded whole.
"""

from __future__ import annotations

import gzip
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import msgspec
from botocore.loaders import JSONFileLoader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OPERATIONS = frozenset(
    {
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CreateMultipartUpload",
        "CreateSession",  # the SDK's own, for directory buckets
        "DeleteObject",
        "DeleteObjects",
        "GetBucketEncryption",
        "GetBucketLifecycleConfiguration",
        "GetBucketPolicy",
        "GetBucketPolicyStatus",
        "GetBucketVersioning",
        "GetObject",
        "GetObjectLockConfiguration",
        "GetPublicAccessBlock",
        "HeadBucket",  # the SDK's own, too: where a bucket really is
        "HeadObject",
        "ListMultipartUploads",
        "ListObjectsV2",
        "ListParts",
        "PutObject",
        "UploadPart",
        "UploadPartCopy",
    }
)
"""What may be asked of the service; the client has no other methods."""

_Parts = dict[str, msgspec.Raw]
_DOCUMENTATION = "documentation"


class NeededFiles(JSONFileLoader):  # type: ignore[misc]  # the SDK is untyped
    """Loads botocore's files of data, without what the S3 client never looks at."""

    def load_file(self, file_path: str) -> Any:  # noqa: ANN401 - JSON
        """Return what a file holds, named without its suffix; `None` if there is none."""
        reduce = _REDUCED.get(PurePath(file_path).name)
        if reduce:
            for suffix, opened in ((".json", open), (".json.gz", gzip.open)):
                try:
                    with opened(file_path + suffix, "rb") as file:
                        return reduce(file.read())
                except FileNotFoundError:
                    continue
                except (LookupError, TypeError, msgspec.MsgspecError):
                    break
        return super().load_file(file_path)


def _of_service(raw: bytes) -> dict[str, Any]:
    parts = msgspec.json.decode(raw, type=_Parts)
    operations = msgspec.json.decode(parts.pop("operations"), type=_Parts)
    shapes = msgspec.json.decode(parts.pop("shapes"), type=_Parts)
    parts.pop(_DOCUMENTATION, None)
    kept = {name: _plain(operations[name]) for name in sorted(OPERATIONS & operations.keys())}
    found: dict[str, Any] = {}
    wanted = list(_shapes_of(kept))
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = _plain(shapes[name])
            wanted += _shapes_of(found[name])
    rest = {name: msgspec.json.decode(part) for name, part in parts.items()}
    return {**rest, "operations": kept, "shapes": found}


def _of_endpoints(raw: bytes) -> dict[str, Any]:
    parts = msgspec.json.decode(raw, type=_Parts)
    partitions = msgspec.json.decode(parts.pop("partitions"), type=list[_Parts])
    rest = {name: msgspec.json.decode(part) for name, part in parts.items()}
    return {**rest, "partitions": [_of_partition(partition) for partition in partitions]}


def _of_partition(parts: _Parts) -> dict[str, Any]:
    services = msgspec.json.decode(parts.pop("services"), type=_Parts)
    rest = {name: msgspec.json.decode(part) for name, part in parts.items()}
    kept = {name: msgspec.json.decode(part) for name, part in services.items() if name == "s3"}
    return {**rest, "services": kept}


def _plain(raw: msgspec.Raw) -> Any:  # noqa: ANN401 - JSON
    return _without_documentation(msgspec.json.decode(raw))


def _without_documentation(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return {
            key: _without_documentation(inner)
            for key, inner in value.items()
            if key != _DOCUMENTATION or not isinstance(inner, str)
        }
    if isinstance(value, list):
        return [_without_documentation(inner) for inner in value]
    return value


def _shapes_of(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    """Yield the names of the shapes that a description refers to."""
    if isinstance(value, dict):
        shape = value.get("shape")
        if isinstance(shape, str):
            yield shape
        for inner in value.values():
            yield from _shapes_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _shapes_of(inner)


_REDUCED: dict[str, Callable[[bytes], Any]] = {
    "service-2": _of_service,
    "endpoints": _of_endpoints,
    # Decoded without keeping track of the order, which dictionaries do by themselves.
    "endpoint-rule-set-1": msgspec.json.decode,
}
