"""What stands where a session is to be restored, and whether it may give way to the archive.

What the archive also has may go. What it does not have, what is newer and what cannot be read may
not. Reads both and writes nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from transcriptd.archive import Span, open_stream
from transcriptd.content import Held
from transcriptd.digest import digests
from transcriptd.errors import Unreadable, Vanished
from transcriptd.landing import stands
from transcriptd.snapshot import read
from transcriptd.wanted import asked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from transcriptd.budget import Budget
    from transcriptd.content import Content
    from transcriptd.model import Session, Stat
    from transcriptd.remap import Mapper
    from transcriptd.sources import Documents
    from transcriptd.stores import Store
    from transcriptd.wanted import Wanted
    from transcriptd.whereabouts import Whereabouts


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands where a session goes. `keep`: it may go only if it is kept beside.

    `gives_way`: it may go so without being told to.
    """

    stat: Stat | None
    reason: str = ""
    message: str = ""
    is_equal: bool = False
    gives_way: bool = False

    @property
    def keep(self) -> bool:
        return bool(self.reason)


class Judge:
    """Judges documents of one source by one archive; `max_document` in bytes."""

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


@dataclass(frozen=True, slots=True)
class Mirror:
    """What a file is compared with. `stat` is what stood there; `mapper` makes a new one."""

    key: str
    stat: Stat
    mapper: Callable[[], Mapper | None]


class MirrorJudge:
    """Judges mirrored files by one archive. Holds a piece of each, however long they are."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def look(
        self, mirror: Mirror, opened: Callable[[], tuple[Content, Stat]], found: Whereabouts
    ) -> Standing:
        """Compare a file, which `opened` opens, with the archive. Raises `TranscriptdError`."""
        try:
            content, stat = await asyncio.to_thread(opened)
        except Vanished:
            return Standing(None)
        except Unreadable as error:
            return Standing(mirror.stat, error.reason, f"what stands there is no file: {error}")
        if not content.size:
            return Standing(stat, is_equal=not found.length)
        equal, archived = await self._common(mirror, content, found)
        if equal < min(content.size, archived):
            reason, message = "differs", "it holds other bytes than the archive"
        elif content.size > equal:
            return Standing(stat, "longer", "it holds more than the archive")
        elif equal == archived:
            return Standing(stat, is_equal=True)
        else:
            reason, message = "", "it holds less than the archive"
        changed_at = await self._changed_at(found)
        if stat.mtime_ns / 1e9 > changed_at:
            return Standing(stat, "newer", f"{message}, and was changed later")
        return Standing(stat, reason, message, gives_way=True)

    async def _common(
        self, mirror: Mirror, content: Content, found: Whereabouts
    ) -> tuple[int, int]:
        """Return how many bytes both begin with, and how many the archive has, as they are mapped.

        Where they differ, the second is no more than larger than the first.
        """
        mapper = mirror.mapper()
        equal, meta = 0, found.meta
        if mapper is None and meta and content.size >= meta.length:
            if await asyncio.to_thread(digests, content, [meta.length]) == [meta.digest]:
                equal = meta.length
            if equal == found.length:
                return equal, equal
        at = equal
        span = Span(mirror.key, equal, generation=found.generation)
        async with open_stream(self._store, self._prefix, span) as stream:
            async for piece in pieces(stream.chunks, mapper):
                end = min(at + len(piece), content.size)
                here = await asyncio.to_thread(content.read, at, end)
                if piece[: len(here)] != here:
                    return at, at + 1
                at += len(here)
                if len(here) < len(piece):
                    return at, at + 1
        return at, at

    async def _changed_at(self, found: Whereabouts) -> float:
        """Return when the archive last changed, in Unix seconds."""
        heads = [await asked(partial(self._store.head, part.key)) for part in found.parts[-1:]]
        return max((head.modified for head in heads if head), default=0.0)


async def pieces(chunks: AsyncIterator[bytes], mapper: Mapper | None) -> AsyncIterator[bytes]:
    """Give a stream's bytes as they are to stand in the file."""
    async for chunk in chunks:
        piece = await asyncio.to_thread(mapper.feed, chunk) if mapper else chunk
        if piece:
            yield piece
    if mapper and (rest := mapper.end()):
        yield rest
