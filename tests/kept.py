"""What an archive holds, read without the code under test: a local directory, or a bucket.

A second reader of archive format 1, as plain as the format allows: a base, and what continues it.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.servers.request import send

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server

_KEY = re.compile(rb"<Key>([^<]*)</Key>")
_SEGMENT = re.compile(r"/(\d{6})-(\d{20})\.jsonl$")
_FINISHED = re.compile(r"/(\d{6})\.jsonl$")
_BLOCK = 1 << 20
_LOOKS = 20  # at an archive that changes meanwhile
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Object:
    """One object, and what is said of it."""

    body: bytes
    said: dict[str, str]


class Kept(Protocol):
    """An archive with the default prefix."""

    def look(self, key: str) -> Object | None: ...

    def listing(self, prefix: str = "") -> list[str]: ...


@dataclass(frozen=True, slots=True)
class KeptInBucket:
    """At most 1,000 objects."""

    server: Server

    def look(self, key: str) -> Object | None:
        server = self.server
        request = AWSRequest("GET", f"{server.endpoint}/{server.bucket}/{quote(key)}")
        credentials = Credentials(server.access_key, server.secret_key)
        S3SigV4QueryAuth(credentials, "s3", server.region).add_auth(request)
        context = ssl.create_default_context(cafile=server.ca_bundle) if server.over_tls else None
        try:
            with urlopen(str(request.url), timeout=10, context=context) as answer:
                said = {name.lower(): value for name, value in answer.headers.items()}
                names = (name for name in said if name.startswith("x-amz-meta-"))
                return Object(
                    answer.read(), {n.removeprefix("x-amz-meta-"): said[n] for n in names}
                )
        except HTTPError as error:
            error.close()
            if error.code != _NOT_FOUND:
                raise
            return None

    def listing(self, prefix: str = "") -> list[str]:
        query = f"list-type=2&prefix={quote(prefix, safe='')}"
        _, body = send(self.server, "GET", f"/{self.server.bucket}?{query}")
        return sorted(key.decode() for key in _KEY.findall(body))


@dataclass(frozen=True, slots=True)
class KeptInDirectory:
    """Objects and, apart from them, what is said about them."""

    path: Path

    def look(self, key: str) -> Object | None:
        try:
            record = json.loads((self.path / ".meta" / f"{key}.json").read_bytes())
            # What lies behind the length is not archived.
            body = (self.path / key).read_bytes()[: record["length"]]
        except FileNotFoundError:
            return None
        return Object(body, record["metadata"])

    def listing(self, prefix: str = "") -> list[str]:
        files = (path for path in self.path.rglob("*") if path.is_file())
        names = (path.relative_to(self.path).as_posix() for path in files)
        return sorted(n for n in names if n.startswith("history/") and n.startswith(prefix))


def base_of(kept: Kept, session_id: str) -> bytes | None:
    """Return what a reader who knows nothing of generations and tails gets."""
    found = kept.look(_base_key(session_id))
    return found.body if found else None


def history_of(kept: Kept, session_id: str) -> bytes | None:
    """Return the current generation of a session, its tail included."""
    return stream_of(kept, _base_key(session_id))


def stream_of(kept: Kept, key: str) -> bytes | None:
    """Return the current generation of the stream under a base key, its tail included."""
    for _ in range(_LOOKS):
        segments = kept.listing(_below("tail", key))  # before the base
        base = kept.look(key)
        if base is None:
            return None
        content = _joined(kept, base, segments, _next(kept, key))
        if content is not None:
            return content
    raise AssertionError(f"the tail of {key} does not continue its base")


def segments_of(kept: Kept, session_id: str) -> list[str]:
    """Return the keys of the tail segments that hold something, of any generation."""
    keys = kept.listing(_below("tail", _base_key(session_id)))
    found = ((key, kept.look(key)) for key in keys if _SEGMENT.search(key))
    return [key for key, segment in found if segment and segment.body]


def finished(kept: Kept, session_id: str) -> list[bytes]:
    """Return a session's finished generations, the first one first."""
    keys = kept.listing(_below("generations", _base_key(session_id)))
    return [found.body for found in map(kept.look, keys) if found]


def aside(kept: Kept, session_id: str) -> dict[str, bytes]:
    """Return what second writers and strangers have of a session, by the name of its object."""
    prefix = _below("conflicts", _base_key(session_id))
    found = {key.removeprefix(prefix): stream_of(kept, key) for key in kept.listing(prefix)}
    return {name: body for name, body in found.items() if body is not None}


def _joined(kept: Kept, base: Object, segments: list[str], following: int) -> bytes | None:
    """Return a base with what continues it; `None` where something moved meanwhile."""
    content, generation = base.body, int(base.said.get("td-generation", following))
    for key in segments:
        place = _SEGMENT.search(key)
        if place is None or int(place[1]) != generation:
            continue
        start, segment = int(place[2]), kept.look(key)
        if segment is None or start > len(content):
            return None
        if start + len(segment.body) <= len(content):
            continue
        if start < len(content) or segment.said["td-pre"] != _digest(content):
            return content
        content += segment.body
    return content


def _next(kept: Kept, key: str) -> int:
    """Return the number behind that of the last finished generation."""
    numbers = map(_FINISHED.search, kept.listing(_below("generations", key)))
    return max((int(number[1]) + 1 for number in numbers if number), default=0)


def _digest(content: bytes) -> str:
    digest = bytes(32)
    for start in range(0, len(content), _BLOCK):
        block = hashlib.sha256(content[start : start + _BLOCK]).digest()
        digest = hashlib.sha256(digest + block).digest()
    return digest.hex()


def _base_key(session_id: str) -> str:
    return f"history/{session_id}/history.jsonl"


def _below(folder: str, key: str) -> str:
    return f"history/.{folder}/{key.removeprefix('history/')}/"
