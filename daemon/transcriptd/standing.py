"""What stands where a session is to be restored, and whether it may give way to the archive.

What the archive also has may go. What it does not have, what is newer and what cannot be read may
not. Reads both and writes nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transcriptd.archive import Span, open_stream
from transcriptd.content import Held
from transcriptd.digest import digests
from transcriptd.errors import Unreadable, Vanished
from transcriptd.landing import stands
from transcriptd.snapshot import read

if TYPE_CHECKING:
    from transcriptd.budget import Budget
    from transcriptd.model import Session, Stat
    from transcriptd.sources import Documents
    from transcriptd.stores import Store
    from transcriptd.wanted import Wanted
    from transcriptd.whereabouts import Whereabouts


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands where a session goes. `keep`: it may go only if it is kept beside."""

    stat: Stat | None
    reason: str = ""
    message: str = ""
    is_equal: bool = False

    @property
    def keep(self) -> bool:
        return bool(self.reason)


class Judge:
    """Judges files of one source by one archive; `max_document` in bytes."""

    def __init__(
        self, store: Store, prefix: str, source: Documents, budget: Budget, max_document: int
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._source = source
        self._budget = budget
        self._max_document = max_document

    async def look(
        self, each: Wanted, session: Session, found: Whereabouts, document: bytes | None
    ) -> Standing:
        """Compare what stands where a session goes with the archive. Raises `TranscriptdError`."""
        stat = stands(session.path)
        if stat is None:
            return Standing(None)
        async with self._budget.borrow(min(stat.size, self._max_document)):
            try:
                data, stat = await asyncio.to_thread(read, session, self._max_document)
                lines = await asyncio.to_thread(self._source.lines, session, data)
            except Vanished:
                return Standing(None)
            except Unreadable as error:
                if error.reason in {"empty", "blank"}:
                    return Standing(stat)
                message = f"what stands there cannot be compared: {error}"
                return Standing(stat, error.reason, message)
            reason, message = await self._compare(each, lines.content, found)
            if reason == "shorter":
                ours, archived = map(self._source.saved_at, (data, document or b""))
                if ours and archived and ours > archived:
                    return Standing(stat, "newer", "it has fewer messages, and was saved later")
                return Standing(stat)
            return Standing(stat, reason, message, is_equal=not reason)

    async def _compare(self, each: Wanted, content: bytes, found: Whereabouts) -> tuple[str, str]:
        """Compare a file's lines with the archive's, and read there only what no digest proves."""
        equal = 0
        if (meta := found.meta) and len(content) >= meta.length:
            held = Held(content)
            if await asyncio.to_thread(digests, held, [meta.length]) == [meta.digest]:
                equal = meta.length
        shared = min(len(content), found.length)
        if equal < shared:
            span = Span(each.key, equal, shared, found.generation)
            async with open_stream(self._store, self._prefix, span) as stream:
                async for chunk in stream.chunks:
                    if content[equal : equal + len(chunk)] != chunk:
                        return "differs", "it holds other messages than the archive"
                    equal += len(chunk)
        if len(content) > equal:
            return "longer", "it holds more messages than the archive"
        return ("shorter", "") if equal < found.length else ("", "")
