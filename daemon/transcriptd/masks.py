"""A stream with some of its bytes masked, and the digest that says so without telling them.

A mask is as long as what it replaces, so that offsets are those of the source. What was masked once
stays masked as it was, whatever the rules say since: masks are kept, not found again.
"""

from __future__ import annotations

import hmac
import re
from bisect import bisect_right
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from transcriptd.model import Mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transcriptd.content import Content

_KEY_ID = 8
_SEPARATOR = "."
_MASKS = re.compile(rb"\*+|\[[a-z0-9][a-z0-9-]{0,39}\]")
_UNFINISHED = re.compile(rb"\[(?:[a-z0-9][a-z0-9-]{0,39})?\Z")


class Masked:
    """The bytes of `plain`, but for what is masked. `masks` ascend and do not overlap."""

    def __init__(self, plain: Content, masks: Sequence[Mask]) -> None:
        self._plain = plain
        self._masks = masks
        self._starts = [mask.start for mask in masks]

    @property
    def size(self) -> int:
        return self._plain.size

    def read(self, start: int, end: int) -> bytes:
        data = self._plain.read(start, end)
        first = max(0, bisect_right(self._starts, start) - 1)
        last = bisect_right(self._starts, end - 1)
        if start >= end or first == last:
            return data
        masked = bytearray(data)
        for mask in self._masks[first:last]:
            text = mask.text.encode("ascii")
            begins, ends = max(mask.start, start), min(mask.start + len(text), end)
            if begins < ends:
                masked[begins - start : ends - start] = text[
                    begins - mask.start : ends - mask.start
                ]
        return bytes(masked)


def within(masks: Iterable[Mask], length: int) -> tuple[Mask, ...]:
    """Return what of some masks is within the first `length` bytes."""
    return tuple(
        mask._replace(text=mask.text[: length - mask.start])
        for mask in masks
        if mask.start < length
    )


def beyond(masks: Iterable[Mask], length: int) -> tuple[Mask, ...]:
    """Return what of some masks is behind the first `length` bytes; a cut one has no name."""
    return tuple(
        mask if mask.start >= length else Mask(length, "*" * (end - length))
        for mask in masks
        if (end := mask.start + len(mask.text)) > length
    )


@dataclass(frozen=True, slots=True)
class Secret:
    """What the digest of a source is keyed with, so that the archive does not give it away.

    Whoever has only the archive could otherwise try what might stand behind a mask.
    """

    key: bytes

    def says(self, plain: str) -> str:
        """Return what the archive may know of a digest: `id of the key.keyed digest`, in hex."""
        return f"{self._id}{_SEPARATOR}{self._keyed(plain)}"

    def knows(self, said: str) -> bool:
        """Whether a keyed digest was made with this key."""
        return said.partition(_SEPARATOR)[0] == self._id

    def proves(self, said: str, plain: str) -> bool:
        """Whether a keyed digest is that of a source with this digest."""
        return hmac.compare_digest(said.encode(), self.says(plain).encode())

    @property
    def _id(self) -> str:
        return self._keyed("id")[:_KEY_ID]

    def _keyed(self, text: str) -> str:
        return hmac.new(self.key, text.encode(), sha256).hexdigest()


class Likeness:
    """Whether a file is what an archive holds, but for what stands there masked.

    Both come in pieces. Where they differ the archive has asterisks, or the whole name of a rule in
    brackets; what masks leave alone, the ends of lines, is the same. `hides`: they did differ so.
    Without `masks` in the archive both are the same, or not.
    """

    def __init__(self, *, masks: bool = True) -> None:
        self.hides = False
        self._has_masks = masks
        self._ours = self._archived = b""

    def goes_on(self, ours: bytes, archived: bytes) -> bool:
        """Take what comes next of both; `ours` is shorter only where the file ends."""
        if not self._ours and ours == archived[: len(ours)]:
            return True
        if not self._has_masks:
            return False
        ours, archived = self._ours + ours, self._archived + archived
        self._ours = self._archived = b""
        open_name = _UNFINISHED.search(archived)
        if open_name and _is_replaced(ours, archived, open_name.start()):
            at = open_name.start()  # the next piece tells whether it is a name
            self._ours, self._archived = ours[at:], archived[at:]
            ours, archived = ours[:at], archived[:at]
        shown = bytearray(archived[: len(ours)])
        for mask in _MASKS.finditer(archived):
            start, end = mask.start(), min(mask.end(), len(ours))
            stands_for = ours[start:end]
            is_mask = mask[0].startswith(b"*") or _is_replaced(ours, archived, start)
            if is_mask and not _has_an_end(stands_for):
                shown[start:end] = stands_for
        alike = len(ours)
        if shown != ours:
            alike = next(at for at, byte in enumerate(ours) if byte != shown[at])
        self.hides = self.hides or ours[:alike] != archived[:alike]
        return alike == len(ours)

    def ends(self) -> bool:
        """Say whether all was the same to the archive's end."""
        return not self._ours


def _is_replaced(ours: bytes, archived: bytes, at: int) -> bool:
    return ours[at : at + 1] not in {b"", archived[at : at + 1]}


def _has_an_end(text: bytes) -> bool:
    return b"\n" in text or b"\r" in text
