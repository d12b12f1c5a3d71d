"""What stands where a session is to be restored, and whether it may give way to the archive.

What the archive also has may go. What it does not have, what it has only masked, what is newer and
what cannot be read may not. Reads both and writes nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from transcriptd.archive import Span, open_stream
from transcriptd.digest import digests
from transcriptd.errors import Unreadable, Vanished
from transcriptd.landing import stands
from transcriptd.layout import MASKED, SegmentMeta
from transcriptd.masks import Likeness
from transcriptd.snapshot import read
from transcriptd.wanted import asked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from transcriptd.budget import Budget
    from transcriptd.content import Content
    from transcriptd.model import Session, Stat
    from transcriptd.remap import Mapper
    from transcriptd.sources import Documents
    from transcriptd.stores import Store
    from transcriptd.wanted import Wanted
    from transcriptd.whereabouts import Whereabouts

_HIDDEN = "masked"


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands where a session goes. `keep`: it may go only if it is kept beside.

    `gives_way`: it may go so without being told to. `is_equal`: it holds all that the archive has,
    and nothing more but, where `hides` says so, what the archive masks.
    """

    stat: Stat | None
    reason: str = ""
    message: str = ""
    is_equal: bool = False
    gives_way: bool = False
    hides: bool = False

    @property
    def keep(self) -> bool:
        return bool(self.reason)


class Judge:
    """Judges documents of one source by one archive; `max_document` in bytes."""

    def __init__(
        self, store: Store, prefix: str, source: Documents, budget: Budget, max_document: int
    ) -> None:
        self._archive = _Archive(store, prefix)
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
            compared = await self._archive.compare(each.key, lines.content, found)
            if compared.word != "shorter" or compared.hides:
                return _standing(stat, compared, _MESSAGES)
            ours, archived = map(self._source.saved_at, (data, document or b""))
            if ours and archived and ours > archived:
                return Standing(stat, "newer", "it has fewer messages, and was saved later")
            if await self._archive.may_mask(found):
                message = "what it says beside its messages may be masked in the archive"
                return Standing(stat, _HIDDEN, message, gives_way=True)
            return Standing(stat)


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
        self._archive = _Archive(store, prefix)

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
        mapper = mirror.mapper()
        compared = await self._archive.compare(mirror.key, content, found, mapper)
        judged = _standing(stat, compared, _BYTES)
        if compared.word in {"", "longer"} or compared.hides:
            return judged
        if stat.mtime_ns / 1e9 > await self._changed_at(found):
            return Standing(stat, "newer", f"{judged.message}, and was changed later")
        return replace(judged, gives_way=True)

    async def _changed_at(self, found: Whereabouts) -> float:
        """Return when the archive last changed, in Unix seconds."""
        heads = [await asked(partial(self._store.head, part.key)) for part in found.parts[-1:]]
        return max((head.modified for head in heads if head), default=0.0)


@dataclass(frozen=True, slots=True)
class _Compared:
    """What a file is beside the archive, as far as both were read: `""` is equal.

    `hides`: it has what the archive masks.
    """

    word: Literal["", "differs", "longer", "shorter"]
    hides: bool = False


_MESSAGES = {"differs": "other messages", "longer": "more messages", "shorter": "fewer messages"}
_BYTES = {"differs": "other bytes", "longer": "more", "shorter": "less"}


def _standing(stat: Stat | None, compared: _Compared, words: Mapping[str, str]) -> Standing:
    """Say how a file stands that may not give way, unless it is said besides that it may."""
    word, hides = compared.word, compared.hides
    if not word:
        message = "it holds what the archive masks" if hides else ""
        return Standing(stat, _HIDDEN if hides else "", message, is_equal=True, hides=hides)
    message = f"it holds {words[word]} than the archive"
    if hides:
        message += ", and what that masks"
    if word == "shorter":
        return Standing(stat, _HIDDEN if hides else "", message, hides=hides)
    return Standing(stat, word, message, hides=hides)


class _Archive:
    """What files are compared with."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def compare(
        self, key: str, content: Content, found: Whereabouts, mapper: Mapper | None = None
    ) -> _Compared:
        """Compare a file with a stream, as it is mapped, and read there what no digest proves."""
        at, meta = 0, found.meta
        if mapper is None and meta and content.size >= meta.length:
            if await asyncio.to_thread(digests, content, [meta.length]) == [meta.digest]:
                at = meta.length
            if at == found.length:
                return _Compared("longer" if content.size > at else "")
        like = Likeness(masks=await self.may_mask(found))
        span = Span(key, at, generation=found.generation)
        async with open_stream(self._store, self._prefix, span) as stream:
            async for piece in pieces(stream.chunks, mapper):
                here = await asyncio.to_thread(content.read, at, min(at + len(piece), content.size))
                if not await asyncio.to_thread(like.goes_on, here, piece):
                    return _Compared("differs", like.hides)
                at += len(here)
                if len(here) < len(piece):
                    return _Compared("shorter", like.hides)
        if not like.ends():
            return _Compared("differs", like.hides)
        return _Compared("longer" if content.size > at else "", like.hides)

    async def may_mask(self, found: Whereabouts) -> bool:
        """Say whether something of a generation may be masked, by what its base and its end say."""
        last = found.parts[-1]
        said = [found.meta.redaction] if found.meta else []
        if last.is_segment and (head := await asked(partial(self._store.head, last.key))):
            end = SegmentMeta.decode(head.metadata)
            said += [end.redaction] if end else []
        return any(each.plain or each.mode == MASKED for each in said)


async def pieces(chunks: AsyncIterator[bytes], mapper: Mapper | None) -> AsyncIterator[bytes]:
    """Give a stream's bytes as they are to stand in the file."""
    async for chunk in chunks:
        piece = await asyncio.to_thread(mapper.feed, chunk) if mapper else chunk
        if piece:
            yield piece
    if mapper and (rest := mapper.end()):
        yield rest
