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


def chain(before: bytes, block: Buffer) -> bytes:
    """Carry the digest on over one block of at most 1 MiB."""
    return sha256(before + sha256(block).digest()).digest()


def digest(data: bytes) -> str:
    """Return the digest of a whole stream, in hex."""
    return digests(Held(data), [len(data)])[0]


def digests(content: Content, lengths: Iterable[int]) -> list[str]:
    """Return the digests of the first `lengths` bytes (ascending, none behind the end).

    In one pass: every block is hashed once, and once more in part for a length that ends inside it.
    Blocks for as long as that takes.
    """
    return digests_from(content, EMPTY, 0, lengths)[0]


def digests_from(
    content: Content, value: bytes, boundary: int, lengths: Iterable[int]
) -> tuple[list[str], bytes]:
    """Carry a digest on from a block boundary, up to which it is `value`, as `digests` does.

    Returns with them what it is at the last boundary that was passed.
    """
    found: list[str] = []
    for length in lengths:
        while boundary + BLOCK <= length:
            value = chain(value, _piece(content, boundary, boundary + BLOCK))
            boundary += BLOCK
        rest = _piece(content, boundary, length)
        found.append((chain(value, rest) if rest else value).hex())
    return found, value


def _piece(content: Content, start: int, end: int) -> Buffer:
    if isinstance(content, Held):  # no copy of what is in memory
        return memoryview(content.data)[start:end]
    return content.read(start, end)


class Digester:
    """The digest of a stream that arrives in pieces of any size."""

    def __init__(self) -> None:
        self.length = 0
        self._value = EMPTY
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
                self._value = sha256(self._value + self._block.digest()).digest()
                self._block, self._room = sha256(), BLOCK

    def hexdigest(self) -> str:
        if self._room == BLOCK:
            return self._value.hex()
        return sha256(self._value + self._block.digest()).hexdigest()
