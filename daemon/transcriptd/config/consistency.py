"""Which values of the configuration make no sense, alone or beside each other.

Each check gets values of the right type and bounds, and says what was expected. Values that are
secret, or may hold one, are never repeated.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

LONGEST_SOCKET = 107
NOWHERE = Path("/nonexistent")
"""Stands for a directory below a home that the user does not have."""

_HIGHEST_PORT = 65535
_LONGEST_PREFIX = 256
_MACHINE = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,128}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNENCODABLE = re.compile(r"[\ud800-\udfff]")
_ONE_WORD = ("s3.bucket", "s3.region", "s3.access_key", "s3.secret_key", "s3.session_token")
_READ_LATE = frozenset({"GLACIER", "DEEP_ARCHIVE"})

Found: TypeAlias = "Iterator[tuple[str, str]]"


def problems(values: Mapping[str, Any], store: str, given: AbstractSet[str]) -> Found:
    """Yield key and message of each problem. `given` are the keys that are not at their default."""
    yield from _texts({key: values[key] for key in values if key in given})
    yield from _names(values)
    yield from _places(values, given)
    yield from _s3(values)
    if store == "local" and "local.path" not in given:
        yield from _forgotten_bucket(values)
    if values["debounce.quiet"] > values["debounce.max_wait"]:
        limit = values["debounce.max_wait"]
        yield "debounce.quiet", f"expected at most debounce.max_wait, which is {limit}"
    if (listen := values["health.listen"]) and not _is_address(listen):
        yield "health.listen", f"expected HOST:PORT such as 127.0.0.1:9464, got {listen!r}"


def _texts(values: Mapping[str, Any]) -> Found:
    for key, value in values.items():
        texts = value if isinstance(value, tuple) else (value,)
        if any(isinstance(text, str | Path) and _CONTROL.search(str(text)) for text in texts):
            yield key, "expected no line breaks or control characters"
        elif isinstance(value, str) and _UNENCODABLE.search(value):
            yield key, "expected UTF-8"
        elif key in _ONE_WORD and re.search(r"\s", value):
            yield key, "expected no white space"


def _names(values: Mapping[str, Any]) -> Found:
    machine, prefix = values["machine"], values["prefix"]
    if not _MACHINE.fullmatch(machine):
        yield (
            "machine",
            f"expected up to 128 of A-Z a-z 0-9 . _ - not beginning with a dot, got {machine!r}",
        )
    segments = prefix.removesuffix("/").split("/")
    if not {"", ".", ".."}.isdisjoint(segments) or "\\" in prefix:
        wanted = "expected segments such as 'history/', none empty, '.', '..' or with a backslash"
        yield "prefix", f"{wanted}, got {prefix!r}"
    elif len(prefix.encode(errors="replace")) > _LONGEST_PREFIX:
        yield "prefix", f"expected at most {_LONGEST_PREFIX} bytes"


def _places(values: Mapping[str, Any], given: AbstractSet[str]) -> Found:
    if values["state_dir"] == NOWHERE:
        yield "state_dir", "expected a path, because this user has no home directory"
    socket = os.fsencode(values["health.socket"])
    if "health.socket" in given and len(socket) > LONGEST_SOCKET:
        yield "health.socket", f"expected at most {LONGEST_SOCKET} bytes, got {len(socket)}"
    bundle = values["s3.ca_bundle"]
    if bundle and "\0" not in bundle and not Path(bundle).is_file():
        yield "s3.ca_bundle", f"expected a file, got {bundle!r}"


def _s3(values: Mapping[str, Any]) -> Found:
    endpoint, bucket = values["s3.endpoint"], values["s3.bucket"]
    if endpoint and not _is_endpoint(endpoint):
        yield "s3.endpoint", "expected http://HOST[:PORT] or https://…, without user name or query"
    if "/" in bucket and not bucket.startswith("arn:"):
        yield "s3.bucket", f"expected a name without '/', got {bucket!r}"
    key, secret, token = (
        values[f"s3.{name}"] for name in ("access_key", "secret_key", "session_token")
    )
    if key and not secret:
        yield "s3.secret_key", "expected one, because s3.access_key is given"
    if (secret or token) and not key:
        by = "s3.secret_key" if secret else "s3.session_token"
        yield "s3.access_key", f"expected one, because {by} is given"
    if values["s3.sse_kms_key_id"] and values["s3.sse"] != "aws:kms":
        yield "s3.sse_kms_key_id", "expected s3.sse to be 'aws:kms' beside it"
    if values["s3.storage_class"] in _READ_LATE:
        yield (
            "s3.storage_class",
            f"expected a class that can be read at once, got {values['s3.storage_class']!r}",
        )


def _forgotten_bucket(values: Mapping[str, Any]) -> Found:
    for name in ("endpoint", "access_key", "secret_key", "profile"):
        if values[f"s3.{name}"]:
            yield "s3.bucket", f"expected a name, because s3.{name} is given"
            return


def _is_endpoint(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    if parts.query or parts.fragment or "@" in parts.netloc or re.search(r"\s", text):
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or re.search(r"\s|/", host) or (":" in host and not bracketed):
        return False
    return port.isascii() and port.isdigit() and 0 < int(port) <= _HIGHEST_PORT
