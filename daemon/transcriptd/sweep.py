"""Removing tail segments that have been folded: the only thing that is ever removed.

A segment goes when what took it in stands proven. A credential that may not remove anything is a
good credential: it is said once, and the segments stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transcriptd.digest import Digester
from transcriptd.errors import AccessDenied, ConditionFailed, NotFound, RangeInvalid
from transcriptd.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transcriptd.decision import Garbage
    from transcriptd.stores import Store
    from transcriptd.tail import Segment

log = get_logger("transcriptd.sweep")


class Sweeper:
    """Removes from one archive."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_refused = False

    async def sweep(self, segments: Iterable[Segment]) -> None:
        """Remove segments that provably stand elsewhere. Raises `StoreError`."""
        keys = [segment.key for segment in segments]
        if not keys or self._is_refused:
            return
        try:
            await self._store.delete(*keys)
        except AccessDenied:
            self._is_refused = True
            log.info(
                "tail.kept",
                hint="these credentials may not remove folded segments below .tail/;"
                " nothing is wrong, they only take room",
            )

    async def sweep_garbage(self, garbage: Iterable[Garbage]) -> None:
        """Remove what a crash left behind, each once it has been compared with what holds it."""
        if not self._is_refused:
            await self.sweep([each.segment for each in garbage if await self._is_held(each)])

    async def _is_held(self, garbage: Garbage) -> bool:
        segment = garbage.segment
        try:
            left = await self._digest(segment.key, 0, segment.end - segment.start)
            return left == await self._digest(garbage.holder, segment.start, segment.end)
        except (NotFound, RangeInvalid, ConditionFailed):
            return False

    async def _digest(self, key: str, start: int, end: int) -> str:
        digester = Digester()
        async with self._store.read(key, start, end) as reading:
            async for chunk in reading.chunks:
                digester.update(chunk)
        return digester.hexdigest()
