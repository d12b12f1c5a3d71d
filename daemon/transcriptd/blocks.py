"""The bytes of a file held to what they were when they were digested, block by block.

A file may be written to at any moment, and what is uploaded is read later than what was compared.
Each block of 1 MiB is hashed once more when it is handed out: a byte that is not the one whose
digest the archive is told never leaves. Blocks that a guard vouched for are read before the first
of them is handed out. Costs 32 bytes of memory for each MiB.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from transcriptd.content import BLOCK
from transcriptd.digest import EMPTY
from transcriptd.errors import Changing, Rewritten

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transcriptd.content import Content
    from transcriptd.damage import Damage


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known of the first so many bytes.

    `chain` is the digest up to the last block boundary, `rest` the SHA-256 of what is behind it.
    `feeds` counts line feeds, `damaged` the lines that are no JSON.
    """

    length: int
    digest: str
    chain: bytes
    rest: bytes
    feeds: int
    damaged: int
    ends_a_line: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """One pass from a block boundary on: `marks` by length, and a hash for each whole block."""

    marks: dict[int, Mark]
    hashes: list[bytes]


def measure(
    raw: Content,
    lengths: Iterable[int],
    damage: Damage,
    *,
    start: int = 0,
    chain: bytes = EMPTY,
    known: int = 0,
) -> Measured:
    """Digest a content from `start`, a block boundary, and note each of the lengths (none before).

    `chain` is the digest up to `start`. Up to `known`, one of the lengths or 0, no line is looked
    at for damage. Line feeds are counted from `start` on. Blocks for as long as that takes.
    """
    marks: dict[int, Mark] = {}
    hashes: list[bytes] = []
    todo = sorted(set(lengths))
    at, feeds = start, 0
    last_byte = raw.read(start - 1, start) if start else b"\n"
    while todo:
        block = memoryview(raw.read(at, min(at + BLOCK, todo[-1])))
        begins_a_line = last_byte == b"\n"
        done = 0
        while todo and todo[0] <= at + len(block):
            length = todo.pop(0)
            piece, done = block[done : length - at], length - at
            last_byte = bytes(piece[-1:]) or last_byte
            feeds += bytes(piece).count(b"\n")
            if length > known:
                damage.feed(piece)
            elif length == known:
                damage.goes_on(bytes(block[:done]), begins_a_line=begins_a_line)
            rest = sha256(block[:done]).digest()
            digest = sha256(chain + rest).digest() if done else chain
            is_whole = done == BLOCK
            marks[length] = Mark(
                length=length,
                digest=digest.hex(),
                chain=digest if is_whole else chain,
                rest=b"" if is_whole else rest,
                feeds=feeds,
                damaged=damage.lines,
                ends_a_line=last_byte == b"\n",
            )
        piece = block[done:]
        feeds += bytes(piece).count(b"\n")
        if at + len(block) > known:
            damage.feed(piece)
        if len(block) == BLOCK:
            last_byte = bytes(block[-1:])
            hashes.append(sha256(block).digest())
            chain = sha256(chain + hashes[-1]).digest()
        at += len(block)
    return Measured(marks, hashes)


class Blocks:
    """The first bytes of `raw` up to a mark.

    `hashes` are those of the whole blocks from `start` on; the first `start` bytes, whose digest
    is `chain`, are read when they are asked for.
    """

    def __init__(
        self, raw: Content, mark: Mark, hashes: Sequence[bytes], *, start: int, chain: bytes
    ) -> None:
        self._raw = raw
        self._size = mark.length
        whole = (mark.length - start) // BLOCK
        # One value, so that who reads meanwhile has a number and the hashes that belong to it.
        self._known = (start // BLOCK, [*hashes[:whole], mark.rest])
        self._chain = chain
        self._reading = threading.Lock()

    @property
    def size(self) -> int:
        return self._size

    def read(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        if start // BLOCK < self._known[0]:
            self._verify_the_rest()
        first, hashes = self._known
        lowest = start - start % BLOCK
        data = self._raw.read(lowest, min(end + -end % BLOCK, self._size))
        view = memoryview(data)
        for at in range(0, len(data), BLOCK):
            known = hashes[(lowest + at) // BLOCK - first]
            if sha256(view[at : at + BLOCK]).digest() != known:
                raise Changing("it was rewritten while it was read")
        whole = (lowest, lowest + len(data)) == (start, end)
        return data if whole else data[start - lowest : end - lowest]

    def _verify_the_rest(self) -> None:
        with self._reading:
            first, known = self._known
            hashes: list[bytes] = []
            chain = EMPTY
            for at in range(0, first * BLOCK, BLOCK):
                hashes.append(sha256(self._raw.read(at, at + BLOCK)).digest())
                chain = sha256(chain + hashes[-1]).digest()
            if first and chain != self._chain:
                raise Rewritten("what was archived of it is not what stands there now")
            self._known = (0, [*hashes, *known])
