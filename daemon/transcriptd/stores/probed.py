"""Keeps what is known of one place, and lets it be found out once for all who ask."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import msgspec

from transcriptd.errors import ServerError
from transcriptd.stores.capabilities import VERSION, Capabilities, Parts, guarantees
from transcriptd.stores.probe import probe, probe_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path
    from typing import Any

    from transcriptd.stores.probe import Raw

T = TypeVar("T")

REMEMBERED_S = 30 * 24 * 3600.0
SCRATCH_KEYS = 256


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
        self._probing: dict[str, asyncio.Task[Any]] = {}

    @property
    def guarantees(self) -> Mapping[str, str]:
        return guarantees(self._known)

    async def get(self) -> Capabilities:
        """Return what is known; probe where nothing is. Raises what stopped the probe."""
        if self._known and self._is_fresh(self._known):
            return self._known
        return await self._once("store.probe", self._find)

    async def parts(self) -> Parts:
        """Return what is known of multipart uploads, likewise.

        Where the server fails at one, nothing is proven and nothing remembered.
        """
        if (known := await self.get()).parts is not None:
            return known.parts
        try:
            return await self._once("store.probe_parts", self._find_parts)
        except ServerError:
            return Parts()

    def forget(self) -> None:
        """Probe again at the next write: the place does not do what was proven."""
        self._known = None
        with suppress(OSError):
            self._save(None)

    async def close(self) -> None:
        if probing := set(self._probing.values()):
            for task in probing:
                task.cancel()
            await asyncio.wait(probing)

    async def _once(self, name: str, find: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait for what is under way already, or begin it. Who gives up does not end it."""
        if name not in self._probing:
            task = asyncio.create_task(find(), name=name)
            self._probing[name] = task
            task.add_done_callback(self._done)
        found: T = await asyncio.shield(self._probing[name])
        return found

    def _done(self, probing: asyncio.Task[Any]) -> None:
        del self._probing[probing.get_name()]
        if not probing.cancelled():
            probing.exception()  # whoever waits has it; without anybody it is not worth a warning

    async def _find(self) -> Capabilities:
        found = self._load().get(self._place)
        if found is None or not self._is_fresh(found):
            found = await probe(self._raw, self._scratch, self._clock())
            await self._remember(found)
        self._known = found
        return found

    async def _find_parts(self) -> Parts:
        found = await probe_parts(self._raw, self._scratch)
        known = self._known = replace(await self.get(), parts=found)
        await self._remember(known)
        return found

    async def _remember(self, found: Capabilities) -> None:
        with suppress(OSError):  # a full disk costs a probe at the next start, no more
            await asyncio.to_thread(self._save, found)

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


def _machine() -> int:
    return int.from_bytes(hashlib.sha256(os.uname().nodename.encode()).digest()[:4])
