"""Claims that a restore makes: this machine goes on with the stream.

Without permission to write, sessions are restored without; it is said once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transcriptd.claim import put_claim
from transcriptd.errors import StoreError
from transcriptd.layout import SegmentMeta
from transcriptd.survey import Survey, survey
from transcriptd.wanted import asked

if TYPE_CHECKING:
    from transcriptd.layout import Names
    from transcriptd.stores import Store


class Claims:
    """Claims streams under `names`; none where there are none. `refused` is what went wrong."""

    def __init__(self, store: Store, names: Names | None) -> None:
        self._store = store
        self._names = None if store.appends else names
        self.refused = ""

    async def put(self, key: str) -> None:
        """Claim the stream under a base key, from whoever wrote it."""
        if self._names is None:
            return
        names = self._names

        async def attempt() -> None:
            found = await survey(self._store, names.prefix, key)
            others = await self._writers(found) - {names.writer}
            await put_claim(self._store, names, key, takes_over=dict.fromkeys(others, found.used))

        try:
            await asked(attempt)
        except StoreError as error:
            self._names = None
            self.refused = str(error)

    async def _writers(self, found: Survey) -> frozenset[str]:
        """Return who wrote the base, and who wrote the end of the tail."""
        writers = {found.meta.writer} if found.meta else set()
        if found.chain.content:
            head = await self._store.head(found.chain.content[-1].key)
            said = SegmentMeta.decode(head.metadata) if head else None
            writers |= {said.writer} if said else set()
        return frozenset(writers)
