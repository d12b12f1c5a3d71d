"""What was masked in an archive, where no journal knows it any more.

The rules may have changed since: then what stands there is not what they would leave. That it came
from this source is proven by the keyed digest in its metadata; where the two differ, there is a
mask. It stays as it is, and the rules decide about what comes. Reads the archive, decides nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from transcriptd.compare import open_segment
from transcriptd.digest import digests
from transcriptd.masks import Likeness
from transcriptd.model import Mask
from transcriptd.screen import keeping

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from transcriptd.content import Content
    from transcriptd.layout import Redaction
    from transcriptd.masks import Secret
    from transcriptd.snapshot import Look
    from transcriptd.stores import Head, Store
    from transcriptd.survey import Survey


class Remask:
    """Looks at one archive. Without the `secret`, or with another, nothing can be proven."""

    def __init__(self, store: Store, secret: Secret | None) -> None:
        self._store = store
        self._secret = secret

    async def as_archived(self, look: Look, key: str, found: Survey) -> Look:
        """Return the look with the masks that stand in the archive, where they are not its own.

        Raises `StoreError`, `Superseded` where the archive changes meanwhile, and `Unreadable`
        where the rules cannot look at the rest.
        """
        head, meta, screened = found.head, found.meta, look.screened
        masks = screened.screening.masks if screened else ()
        may_mask = masks or meta is None or meta.redaction.plain or found.chain.content
        if head is None or meta is None or not may_mask:
            return look
        content = screened.plain if screened else look.snapshot.content
        if meta.length > content.size:
            return look
        ours, plain = await asyncio.to_thread(_both, look.snapshot.content, content, meta.length)
        if ours == meta.digest and not found.chain.content:
            return look
        if not self._proves(meta.redaction, plain, archived=meta.digest):
            said = meta.redaction.plain
            is_foreign = bool(said) and not (self._secret and self._secret.knows(said))
            return replace(look, begins_anew=is_foreign and ours != meta.digest)
        there = await self._differences(key, head, found, content)
        if there is None:
            return look
        return await asyncio.to_thread(keeping, look, there.end, there.masks)

    async def _differences(
        self, key: str, head: Head, found: Survey, content: Content
    ) -> _Differences | None:
        """Read what is archived, as far as it provably came from this source.

        `None` where the base differs by more than masks: it is damaged.
        """
        there = _Differences(content)
        async with self._store.read(key, etag=head.etag) as reading:
            if not await there.take(reading.chunks):
                return None
        segments = [each for each in found.chain.content if each.end <= content.size]
        ends = [segment.end for segment in segments]
        plain = await asyncio.to_thread(digests, content, ends)
        for segment, digest in zip(segments, plain, strict=True):
            masks = len(there.masks)
            async with open_segment(self._store, segment) as (meta, chunks):
                alike = await there.take(chunks)
            # Where nothing is said of what it was made of, it has to be that itself.
            proven = meta is not None and self._proves(meta.redaction, digest)
            if not alike or (not proven and len(there.masks) > masks):
                there.masks[masks:], there.end = [], segment.start
                break
        return there

    def _proves(self, said: Redaction, plain: str, *, archived: str = "") -> bool:
        """Whether what was written came from a source with this digest, or is that itself."""
        if plain == archived:
            return True
        return self._secret is not None and self._secret.proves(said.plain, plain)


class _Differences:
    """Where an archive differs from a source, byte by byte, from the start on."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self.end = 0
        self.masks: list[Mask] = []

    async def take(self, chunks: AsyncIterable[bytes]) -> bool:
        """Go on with what comes; returns whether it differs by masks alone."""
        likeness, alike = Likeness(), True
        async for chunk in chunks:  # to its end: it has to be whole
            ours = await asyncio.to_thread(self._content.read, self.end, self.end + len(chunk))
            alike = alike and await asyncio.to_thread(likeness.goes_on, ours, chunk)
            if alike and ours != chunk:
                self.masks += await asyncio.to_thread(_spans, self.end, ours, chunk)
            self.end += len(chunk)
        return alike and likeness.ends()


def _spans(at: int, ours: bytes, archived: bytes) -> list[Mask]:
    spans: list[Mask] = []
    start = None
    for index, (one, other) in enumerate(zip(ours, archived, strict=True)):
        if one != other and start is None:
            start = index
        elif one == other and start is not None:
            spans.append(_mask(at + start, archived[start:index]))
            start = None
    if start is not None:
        spans.append(_mask(at + start, archived[start:]))
    return spans


def _mask(start: int, text: bytes) -> Mask:
    return Mask(start, text.decode("ascii"))


def _both(content: Content, plain: Content, length: int) -> tuple[str, str]:
    ours = digests(content, [length])[0]
    return ours, ours if content is plain else digests(plain, [length])[0]
