"""What is sent along with a body so that a change on the way is noticed."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

INLINE = 1 << 20


@dataclass(frozen=True, slots=True)
class Hashes:
    """MD5 for `Content-MD5`, and SHA-256 where requests are signed with it, else empty."""

    md5: bytes
    sha256: str


async def hashes_of(body: bytes | memoryview, *, signed: bool) -> Hashes:
    """Hash a body; a large one without holding up the event loop."""
    if len(body) <= INLINE:
        return _hashes_of(body, signed=signed)
    return await asyncio.to_thread(_hashes_of, body, signed=signed)


def md5_of(body: bytes) -> str:
    """Return the ETag that most servers give an object written at once, or a part."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def etag_of_parts(tags: Sequence[str]) -> str:
    """Return the ETag that most servers give an object made of parts with these MD5 sums."""
    joined = b"".join(map(bytes.fromhex, tags))
    return f"{md5_of(joined)}-{len(tags)}"


def _hashes_of(body: bytes | memoryview, *, signed: bool) -> Hashes:
    return Hashes(
        md5=hashlib.md5(body, usedforsecurity=False).digest(),
        sha256=hashlib.sha256(body).hexdigest() if signed else "",
    )
