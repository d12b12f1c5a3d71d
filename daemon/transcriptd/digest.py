"""The digest of a stream: a chain over blocks of 1 MiB (README, "Archive format").

`D(0) = 32 zero bytes`, `D(n) = SHA-256(D(n-1) ‖ SHA-256(block n))`; the last block may be partial.
A stream's digest can therefore be carried on from any block boundary without stored hash state.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from transcriptd.content import BLOCK, Held

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transcriptd.content import Content

Buffer = bytes | memoryview
EMPTY = bytes(32)


def digest(data: bytes) -> str:
    """Return the digest of a whole stream, in hex."""
    return digests(Held(data), [len(data)])[0]


def digests(content: Content, lengths: Iterable[int]) -> list[str]:
    """Return the digests of the first `lengths` bytes (ascending, none behind the end).

    In one pass: every byte is read and hashed once. Blocks for as long as that takes.
    """
    return digests_from(content, EMPTY, 0, lengths)[0]


def digests_from(
    content: Content, value: bytes, boundary: int, lengths: Iterable[int]
) -> tuple[list[str], bytes]:
    """Carry a digest on from a block boundary, up to which it is `value`, as `digests` does.

    Returns with them what it is at the last boundary that was passed.
    """
    found: list[str] = []
    digester, at = Digester(value), boundary
    for length in lengths:
        while at < length:
            end = min(at - at % BLOCK + BLOCK, length)
            digester.update(_piece(content, at, end))
            at = end
        found.append(digester.hexdigest())
    return found, digester.value


def _piece(content: Content, start: int, end: int) -> Buffer:
    if isinstance(content, Held):  # no copy of what is in memory
        return memoryview(content.data)[start:end]
    return content.read(start, end)


class Digester:
    """The digest of a stream that arrives in pieces of any size.

    `value` is what it is at the last block boundary that was passed, and at first at the one where
    the pieces begin.
    """

    def __init__(self, value: bytes = EMPTY) -> None:
        self.length = 0
        self.value = value
        self._block = sha256()
        self._room = BLOCK

    def update(self, piece: Buffer) -> None:
        view = memoryview(piece)
        self.length += len(view)
        while view:
            self._block.update(view[: self._room])
            taken = min(len(view), self._room)
            view = view[taken:]
            self._room -= taken
            if not self._room:
                self.value = sha256(self.value + self._block.digest()).digest()
                self._block, self._room = sha256(), BLOCK

    def hexdigest(self) -> str:
        if self._room == BLOCK:
            return self.value.hex()
        return sha256(self.value + self._block.digest()).hexdigest()
