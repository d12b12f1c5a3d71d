"""A CodeTether session that grows, and how its agent saves it: whole, by a rename.

Knows nothing of who archives it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench import marker

if TYPE_CHECKING:
    from pathlib import Path

_HEAD = b'{"role":"assistant","content":[{"type":"text","text":"'
_PROSE = ' prose, code and \\"quotes\\", é '.encode()
_TAIL = b'"}]}\n'
_DOCUMENT = b'{"id":"%s","title":null,"metadata":{},"agent":"build","messages":[%s],"pages":[]}'


def history(document: bytes) -> bytes:
    """Return the messages of a document as lines."""
    messages = json.loads(document)["messages"]
    lines = (json.dumps(m, separators=(",", ":"), ensure_ascii=False) + "\n" for m in messages)
    return "".join(lines).encode()


@dataclass(frozen=True, slots=True)
class Save:
    """One save.

    `number` is that of the last message, by whose marker an archive tells that it has this save;
    0 where an earlier save had that message, too: nothing tells of this one.
    """

    session_id: str
    number: int
    at: float  # by time.monotonic, right after the rename
    length: int  # of the file, in bytes
    history_length: int  # of its messages as lines


@dataclass(frozen=True, slots=True)
class _Message:
    number: int
    line: bytes  # compact JSON and a line feed, as an archive of lines holds it


class Document:
    """A session's file. Each message of it holds one marker, at its end."""

    def __init__(self, directory: Path, session_id: str) -> None:
        self.id = session_id
        self.path = directory / f"{session_id}.json"
        self.saved: set[int] = set()  # numbers of all messages that were in some save
        self.new_bytes = 0  # of the lines of those messages
        self._temporary = directory / f"{session_id}.json.tmp"
        self._messages: list[_Message] = []
        self._last_number = 0

    def grow(self, size: int, pieces: int = 1) -> None:
        """Add `pieces` messages, of about `size` bytes together; one has at least 130 bytes."""
        for _ in range(pieces):
            self._messages.append(self._message(size // pieces))

    def undo(self, count: int) -> None:
        """Drop the last messages."""
        del self._messages[max(0, len(self._messages) - count) :]

    def compact(self) -> None:
        """Replace the older half by a short summary.

        Its marker is the highest one and stands first: the next message tells of the save.
        """
        half = len(self._messages) // 2
        self._messages[:half] = [self._message(500)]

    def save(self) -> Save:
        """Save as CodeTether does. Makes the file anew where it was deleted."""
        lines = b"".join(message.line for message in self._messages)
        # No line feed stands in a message, because it is escaped there.
        messages = lines[:-1].replace(b"\n", b",")
        document = (
            b'{"id":"%s","title":null,"metadata":{},"agent":"build","messages":[%s],"pages":[]}'
        )
        document %= (self.id.encode("ascii"), messages)
        self._temporary.write_bytes(document)
        self._temporary.replace(self.path)
        at = time.monotonic()
        last = self._messages[-1].number if self._messages else 0
        number = 0 if last in self.saved else last
        new = [message for message in self._messages if message.number not in self.saved]
        self.saved.update(message.number for message in new)
        self.new_bytes += sum(len(message.line) for message in new)
        return Save(self.id, number, at, len(document), len(lines))

    def delete(self) -> None:
        self.path.unlink()

    def _message(self, size: int) -> _Message:
        self._last_number += 1
        mark = marker.written(self.id, self._last_number)
        left = size - len(_HEAD) - len(_PROSE) - len(mark) - len(_TAIL)
        text = os.urandom(max(0, left) // 2).hex().encode("ascii")
        return _Message(self._last_number, _HEAD + text + _PROSE + mark + _TAIL)
