"""Finds out on scratch objects what an endpoint and a bucket really do.

A 200 proves nothing: many servers answer it and ignore the condition, and rclone answers it to a
copied part and stores an empty one. What is not proven here is not used. This module knows
neither the SDK nor how requests are sent.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Protocol

from transcriptd.errors import AccessDenied, ConditionFailed, Damaged, NotFound, Unsupported
from transcriptd.stores import Stored
from transcriptd.stores.capabilities import WRITINGS, Capabilities, Parts, Quoting
from transcriptd.stores.s3_hashes import etag_of_parts, md5_of

if TYPE_CHECKING:
    from transcriptd.stores import Head

SCRATCH_BYTES = 24
WRONG_TAG = "0" * 32


class Write(Protocol):
    """Writes an object without proof; returns the ETag of the answer."""

    async def __call__(
        self, key: str, body: bytes, *, if_none_match: str = "", if_match: str = ""
    ) -> str: ...


class Raw(Protocol):
    """The requests a probe makes, without any of the care that builds on its result."""

    async def send_put(
        self, key: str, body: bytes, *, if_none_match: str = "", if_match: str = ""
    ) -> str:
        """Write; return the ETag of the answer."""

    async def send_upload(
        self, key: str, body: bytes, *, if_none_match: str = "", if_match: str = ""
    ) -> str:
        """Write as an upload of one part, conditions at its end; return the part's ETag."""

    async def send_copy(self, key: str, source: Stored) -> None:
        """Write as an upload of one part that the server copies. Raises `Damaged` if it did not."""

    async def send_get(self, key: str) -> bytes: ...

    async def send_delete(self, key: str) -> None: ...

    async def head(self, key: str) -> Head | None: ...


async def probe(raw: Raw, key: str, now: float) -> Capabilities:
    """Try the conditions on a scratch object. Raises what keeps it from finding out."""
    body = _scratch()
    tag = await raw.send_put(key, body)
    stands = await raw.head(key)
    is_md5 = stands is not None and {tag, stands.etag} == {md5_of(body)}
    if_none_match, if_match = await _conditions(raw, raw.send_put, key)
    return Capabilities(if_none_match, if_match, etag_is_md5=is_md5, probed_at=now)


async def probe_parts(raw: Raw, key: str) -> Parts:
    """Try uploads in parts on two scratch objects. Raises what keeps it from finding out."""
    source, target, body = f"{key}-source", f"{key}-target", _scratch()
    copies = await _copies(raw, source, target)
    try:
        tag = await raw.send_upload(target, body)
    except Unsupported:
        return Parts()
    stands = await raw.head(target)
    are_sums = tag == md5_of(body) and stands is not None and stands.etag == etag_of_parts([tag])
    if_none_match, if_match = await _conditions(raw, raw.send_upload, target)
    return Parts(copies, if_none_match, if_match, etags_are_sums=are_sums)


async def _conditions(raw: Raw, write: Write, key: str) -> tuple[bool, Quoting]:
    """Say how the server compares what stands under the key, which is removed at last."""
    if_none_match = not await _passes(write, key, if_none_match="*")
    stands = await raw.head(key)
    tag = stands.etag if stands else ""
    if_match: Quoting = "ignored"
    for quoting, writing in WRITINGS.items():
        refused = not await _passes(write, key, if_match=writing(WRONG_TAG))
        if refused and await _passes(write, key, if_match=writing(tag)):
            if_match = quoting
            break
    if not await _removes(raw, key):
        return if_none_match, if_match  # what needs an absent key stays untried
    if if_match != "ignored" and await _passes(write, key, if_match=WRITINGS[if_match](tag)):
        if_match = "ignored"
        await raw.send_delete(key)
    if if_none_match:
        if_none_match = await _passes(write, key, if_none_match="*")
        await raw.send_delete(key)
    return if_none_match, if_match


async def _copies(raw: Raw, source: str, target: str) -> bool:
    """Say whether a copied part has the bytes of its source."""
    body = _scratch()
    tag = await raw.send_put(source, body)
    try:
        await raw.send_copy(target, Stored(source, 0, len(body), tag))
        stands = await raw.head(target)
        return (
            stands is not None and stands.size == len(body) and await raw.send_get(target) == body
        )
    except (AccessDenied, ConditionFailed, Damaged, NotFound, Unsupported):
        return False
    finally:
        await _removes(raw, source)


async def _passes(write: Write, key: str, *, if_none_match: str = "", if_match: str = "") -> bool:
    try:
        await write(key, _scratch(), if_none_match=if_none_match, if_match=if_match)
    except (ConditionFailed, Unsupported):
        return False
    return True


async def _removes(raw: Raw, key: str) -> bool:
    """Remove a scratch object, or say that one of a few bytes stays behind."""
    try:
        await raw.send_delete(key)
    except AccessDenied:
        return False
    return True


def _scratch() -> bytes:
    return secrets.token_bytes(SCRATCH_BYTES)
