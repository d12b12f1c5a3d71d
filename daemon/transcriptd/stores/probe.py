"""What an endpoint and a bucket really do, found out on a scratch object and remembered.

A 200 proves nothing: many servers answer it and ignore the condition. What is not proven here is
not used. This module knows neither the SDK nor how requests are sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from transcriptd.errors import AccessDenied, ConditionFailed, Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from transcriptd.stores import Head

REMEMBERED_S = 30 * 24 * 3600.0
VERSION = 1
SCRATCH_KEYS = 256
WRONG_TAG = "0" * 32

Quoting = Literal["quoted", "unquoted", "ignored"]
_WORD = {True: "honoured", False: "not honoured"}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What was proven. `if_match` is how the tag must be written for the server to compare it."""

    if_none_match: bool
    if_match: Quoting
    etag_is_md5: bool
    probed_at: float
    version: int = VERSION

    def guarantees(self) -> dict[str, str]:
        return {
            "if_none_match": _WORD[self.if_none_match],
            "if_match": _WORD[self.if_match != "ignored"],
            "etag_is_md5": _WORD[self.etag_is_md5],
        }


UNKNOWN = {"if_none_match": "unknown", "if_match": "unknown", "etag_is_md5": "unknown"}


class Raw(Protocol):
    """The requests a probe makes, without any of the care that builds on its result."""

    async def send_put(
        self,
        key: str,
        body: bytes,
        metadata: Mapping[str, str],
        *,
        if_none_match: str = "",
        if_match: str = "",
    ) -> str:
        """Write; return the ETag of the answer."""

    async def head(self, key: str) -> Head | None: ...

    async def send_delete(self, key: str) -> None: ...


class Probed:
    """The capabilities of one place: from the file, or probed once for all who ask."""

    def __init__(
        self,
        raw: Raw,
        *,
        place: str,
        scratch: str,
        state_dir: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._raw = raw
        self._place = place
        number = int.from_bytes(hashlib.sha256(str(state_dir.absolute()).encode()).digest()[:4])
        self._scratch = f"{scratch}{(number ^ _machine()) % SCRATCH_KEYS:03}"
        self._file = state_dir / "capabilities.json"
        self._clock = clock
        self._known: Capabilities | None = None
        self._probing: asyncio.Task[Capabilities] | None = None

    @property
    def guarantees(self) -> Mapping[str, str]:
        return self._known.guarantees() if self._known else UNKNOWN

    async def get(self) -> Capabilities:
        """Return what is known; probe where nothing is. Raises what stopped the probe."""
        if self._known and self._is_fresh(self._known):
            return self._known
        if self._probing is None:
            self._probing = asyncio.create_task(self._find(), name="store.probe")
            self._probing.add_done_callback(self._done)
        return await asyncio.shield(self._probing)

    def forget(self) -> None:
        """Probe again at the next write: the place does not do what was proven."""
        self._known = None
        with suppress(OSError):
            self._save(None)

    async def close(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})

    def _done(self, probing: asyncio.Task[Capabilities]) -> None:
        self._probing = None
        if not probing.cancelled():
            probing.exception()  # whoever waits has it; without anybody it is not worth a warning

    async def _find(self) -> Capabilities:
        found = self._load().get(self._place)
        if found is None or not self._is_fresh(found):
            found = await probe(self._raw, self._scratch, self._clock())
            with suppress(OSError):  # a full disk costs a probe at the next start, no more
                await asyncio.to_thread(self._save, found)
        self._known = found
        return found

    def _is_fresh(self, found: Capabilities) -> bool:
        return 0 <= self._clock() - found.probed_at < REMEMBERED_S and found.version == VERSION

    def _load(self) -> dict[str, Capabilities]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, Capabilities])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return {}

    def _save(self, found: Capabilities | None) -> None:
        everything = self._load()
        everything.pop(self._place, None)
        if found is not None:
            everything[self._place] = found
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".json.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor has no path
            file.write(msgspec.json.encode(everything))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._file)
        directory = os.open(self._file.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


async def probe(raw: Raw, key: str, now: float) -> Capabilities:
    """Try the conditions on a scratch object. Raises what keeps it from finding out."""
    first, second, third = (secrets.token_bytes(24) for _ in range(3))
    tag = await raw.send_put(key, first, {})
    stands = await raw.head(key)
    is_md5 = stands is not None and {tag, stands.etag} == {_md5(first)}
    if_none_match = not await _passes(raw, key, second, if_none_match="*")
    stands = await raw.head(key)
    tag = stands.etag if stands else tag
    if_match: Quoting = "ignored"
    for quoting, write in _WRITINGS.items():
        refused = not await _passes(raw, key, third, if_match=write(WRONG_TAG))
        if refused and await _passes(raw, key, third, if_match=write(tag)):
            if_match = quoting
            break
    try:
        await raw.send_delete(key)
    except AccessDenied:
        pass  # what needs an absent key stays untried; one object of 24 bytes stays behind
    else:
        if if_match != "ignored":
            write = _WRITINGS[if_match]
            if await _passes(raw, key, third, if_match=write(tag)):
                if_match = "ignored"
                await raw.send_delete(key)
        if if_none_match:
            if_none_match = await _passes(raw, key, first, if_none_match="*")
            await raw.send_delete(key)
    return Capabilities(if_none_match, if_match, etag_is_md5=is_md5, probed_at=now)


def quote(tag: str) -> str:
    return f'"{tag}"'


_WRITINGS: dict[Quoting, Callable[[str], str]] = {"quoted": quote, "unquoted": str}


async def _passes(
    raw: Raw, key: str, body: bytes, *, if_none_match: str = "", if_match: str = ""
) -> bool:
    try:
        await raw.send_put(key, body, {}, if_none_match=if_none_match, if_match=if_match)
    except (ConditionFailed, Unsupported):
        return False
    return True


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def _machine() -> int:
    return int.from_bytes(hashlib.sha256(os.uname().nodename.encode()).digest()[:4])
