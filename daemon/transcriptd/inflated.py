"""The content of a zstd file, decompressed while it is read.

The decompressed bytes may be larger than memory, or than any disk: at no time is more held than the
decoder's window, two blocks, and what one small piece of input can become. The file is opened for
each piece of it and held open for none.
"""

from __future__ import annotations

import os
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, Self

from transcriptd.content import BLOCK
from transcriptd.errors import Changing, Unreadable
from transcriptd.files import stat_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from transcriptd.content import Content
    from transcriptd.model import Stat

    Opener = Callable[[], int]

_WINDOW = 128 << 20  # what the zstd command grants, too, unless it is told otherwise
# Four bytes of input can become 128 KiB, and the decoder returns all that one call gives: 32 MiB
# at most this way, at a tenth of its speed less.
_FEED = 1 << 10


class Inflated:
    """The decompressed bytes of a file that holds still; a `Content`.

    Reading on is cheap, and so is a step back into the block before; a step further back starts
    again from the beginning. Raises `Changing` once the file is not what it was when it was
    measured, and whatever the function that opens it raises.
    """

    def __init__(self, open_file: Opener, stat: Stat, size: int) -> None:
        """Use `measure`. `stat` is that of the compressed file, `size` of what is in it."""
        self.stat = stat
        self._open_file = open_file
        self._size = size
        self._lock = Lock()
        self._start_again()

    @classmethod
    def measure(cls, open_file: Opener, max_size: int) -> Self:
        """Decompress a file once, to know its size. Blocks for as long as that takes.

        `open_file` returns a descriptor, which is closed here; any thread may call it. Raises
        `Unreadable` for a file that is damaged or larger than `max_size` bytes, or `Changing`.
        """
        descriptor = open_file()
        try:
            stat = stat_of(os.fstat(descriptor))
        except OSError as error:
            raise Changing(f"could not be read: {error.strerror}") from None
        finally:
            os.close(descriptor)
        size = 0
        for block in _blocks(open_file, stat):
            size += len(block)
            if size > max_size:
                raise Unreadable("too_large", f"more than {max_size} bytes when decompressed")
        return cls(open_file, stat, size)

    @property
    def size(self) -> int:
        return self._size

    def read(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        blocks = range(start // BLOCK, -(-end // BLOCK))
        with self._lock:
            pieces = [self._block(n)[max(start - n * BLOCK, 0) : end - n * BLOCK] for n in blocks]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _block(self, number: int) -> bytes:
        if number < self._reached - len(self._kept):
            self._start_again()
        try:
            while self._reached <= number:
                self._kept.append(next(self._ahead))
                self._reached += 1
        except StopIteration:
            raise Changing("it ended before its end") from None
        except BaseException:
            self._start_again()  # a generator that raised gives nothing more
            raise
        if self._reached * BLOCK >= self._size:
            self._ahead.close()  # it holds the decoder's memory
        return self._kept[number - self._reached]

    def _start_again(self) -> None:
        self._ahead = _blocks(self._open_file, self.stat)
        self._reached = 0  # blocks
        # Two: who compares a beginning reads up to its end, and then that block again as a whole.
        self._kept: deque[bytes] = deque(maxlen=2)


def _blocks(open_file: Opener, stat: Stat) -> Generator[bytes, None, None]:
    block = bytearray()
    for piece in _decompressed(open_file, stat):
        block += piece
        while len(block) >= BLOCK:
            yield bytes(block[:BLOCK])
            del block[:BLOCK]
    if block:
        yield bytes(block)


def _decompressed(open_file: Opener, stat: Stat) -> Iterator[bytes]:
    from zstandard import ZstdDecompressor, ZstdError  # few machines have such files

    decompressor = ZstdDecompressor(max_window_size=_WINDOW)
    if not stat.size:
        raise Unreadable("damaged_zst", "the file is empty")
    frame = None
    for piece in _fed(open_file, stat):
        rest = piece
        while rest:
            frame = frame or decompressor.decompressobj()
            try:
                yield frame.decompress(rest)
            except ZstdError as error:
                raise Unreadable("damaged_zst", str(error)) from None
            rest = frame.unused_data
            if frame.eof:
                frame = None  # another may follow
    if frame is not None:
        raise Unreadable("damaged_zst", "the file ends before its last frame does")


def _fed(open_file: Opener, stat: Stat) -> Iterator[bytes]:
    for start in range(0, stat.size, BLOCK):
        piece = _compressed(open_file, stat, start)
        yield from (piece[at : at + _FEED] for at in range(0, len(piece), _FEED))


def _compressed(open_file: Opener, stat: Stat, start: int) -> bytes:
    descriptor = open_file()
    try:
        piece = os.pread(descriptor, BLOCK, start)
        now = stat_of(os.fstat(descriptor))
    except OSError as error:
        raise Changing(f"could not be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if now != stat or len(piece) != min(BLOCK, now.size - start):
        raise Changing("it changed while it was read")
    return piece


def _conforms(content: Inflated) -> Content:
    return content
