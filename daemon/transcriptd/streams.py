"""Which stream a session's is: under which key, and alone.

A second file of one key is a copy (a workspace that was copied, a second home of the agent): while
the first one stands, it has a stream of its own beside that of the first. A file that was moved has
a new stream, which begins with all of the one under its former name.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from transcriptd.digest import digests
from transcriptd.layout import conflict_key, copy_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from transcriptd.journal import Journal
    from transcriptd.layout import Names
    from transcriptd.model import Cursor, Session, Snapshot, Stat
    from transcriptd.sources import Source


class Streams:
    """The streams of all sessions here."""

    def __init__(self, sources: Mapping[str, Source], journal: Journal, names: Names) -> None:
        self._sources = sources
        self._journal = journal
        self._names = names
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, session: Session) -> AsyncIterator[str]:
        """Hold a session's stream alone and give its base key."""
        key = self._key(session)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            for record in self._journal.records(session.source, session.id):
                owns = record.session != session and record.cursor and record.cursor.key == key
                stands = owns and await self.stat(record.session) is not None
                if stands and not await asyncio.to_thread(_share_a_root, record.session, session):
                    yield self._copy_key(session, key)
                    return
            yield key

    def changes(self, session: Session, cursor: Cursor, key: str) -> bool:
        """Whether a session goes from one of its keys to another: the first file went, or came."""
        first = self._key(session)
        return cursor.key != key and cursor.key in {first, self._copy_key(session, first)}

    def is_aside(self, session: Session, cursor: Cursor) -> bool:
        """Whether a session is archived under another key than its own."""
        return cursor.key != self._key(session)

    def has_document(self, session: Session) -> bool:
        """Whether there is more of a session than its lines."""
        return self._sources[session.source].document_key(self._names.prefix, session) is not None

    def is_held_whole(self, session: Session) -> bool:
        """Whether all of a session is in memory while it is worked on: it is made into lines."""
        source = self._sources[session.source]
        return self.has_document(session) or source.is_store(session.name)

    def document_key(self, session: Session, cursor: Cursor) -> str | None:
        """Return where the rest of a session goes, beside its lines; `None`: there is none."""
        where = self._sources[session.source].document_key(self._names.prefix, session)
        first = self._key(session)
        if where is None or cursor.key == first:
            return where
        if cursor.key == self._copy_key(session, first):
            return self._copy_key(session, where)
        return conflict_key(self._names.prefix, where, self._names.writer)

    async def former(self, snapshot: Snapshot, key: str) -> tuple[Session, Cursor] | None:
        """Return what a session was archived as before its file was moved, if all of it is here."""
        session, content = snapshot.session, snapshot.content
        for record in self._journal.records(session.source, session.id):
            cursor = record.cursor
            if cursor is None or cursor.key == key or not 0 < cursor.length <= content.size:
                continue
            if await self.stat(record.session) is None:
                found = await asyncio.to_thread(digests, content, [cursor.length])
                if found == [cursor.digest]:
                    return record.session, cursor
        return None

    async def stat(self, session: Session) -> Stat | None:
        """Return what stands of a session at this moment; `None` where it is gone."""
        return await asyncio.to_thread(self._sources[session.source].stat, session)

    def _key(self, session: Session) -> str:
        return self._sources[session.source].key(self._names, session)

    def _copy_key(self, session: Session, key: str) -> str:
        return copy_key(self._names.prefix, key, self._names.writer, session.root)


def _share_a_root(one: Session, other: Session) -> bool:
    """Whether two files stand below one root, which may have two names.

    With one key they are one file: by its other name, or as it was before it was compressed.
    """
    try:
        return Path(one.root).samefile(other.root)
    except OSError:
        return False
