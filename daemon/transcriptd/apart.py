"""Reading a database beside those who use it: through a connection of one's own, in any one thread.

Knows no table. Whatever is read is as of the first look, so that sums and rows agree.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Protocol


class Readable(Protocol):
    """What is read from: a `Database`, or `Apart` from it."""

    def read(self, query: str, values: tuple[object, ...] = ()) -> list[Any]: ...

    def connect(self) -> sqlite3.Connection: ...

    def doubt(self) -> None: ...


class Apart:
    """A connection of one's own to a database, until it is closed."""

    def __init__(self, database: Readable) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None

    def read(self, query: str, values: tuple[object, ...] = ()) -> list[Any]:
        """Return the rows of a query; none where the database cannot be read."""
        for text_factory in (str, any_text):
            try:
                if self._connection is None:
                    self._connection = self._database.connect()
                    self._connection.execute("BEGIN")
                self._connection.text_factory = text_factory
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error:
                self.doubt()
                self.close()  # the database may have moved to memory or back
        return []

    def connect(self) -> sqlite3.Connection:
        """Open one more connection for reading."""
        return self._database.connect()

    def doubt(self) -> None:
        """Have the file checked at the next start: something in it could not be read."""
        self._database.doubt()

    def close(self) -> None:
        """Let go of the connection; what is read after that is as of then."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def any_text(text: bytes) -> str:
    """Read text in which bytes are damaged."""
    return text.decode(errors="replace")
