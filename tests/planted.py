"""Objects of archive format 1, put straight into a store: an archive as some daemon left it.

Knows the format and nothing of who writes it.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.documents import compact
from transcriptd.config.settings import S3Settings
from transcriptd.digest import digest
from transcriptd.layout import (
    Meta,
    SegmentMeta,
    conflict_key,
    document_key,
    generation_key,
    history_key,
    segment_key,
)
from transcriptd.stores.local import LocalStore
from transcriptd.stores.s3 import S3Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.home import Home
    from tests.servers import Server
    from transcriptd.stores import Store

PREFIX = "history/"


@dataclass(frozen=True, slots=True)
class Planted:
    """An archive to put things into, by session id or by key."""

    store: Store

    async def base(self, what: str, content: bytes, generation: int = 0) -> None:
        await self.store.put(_key(what), content, said_of(content, generation))

    async def segment(
        self, what: str, content: bytes, start: int, end: int, *, pre: str = ""
    ) -> str:
        """Put what a segment of generation 0 holds of a content; returns its key."""
        key = segment_key(PREFIX, _key(what), 0, start)
        said = SegmentMeta("m1.0", pre or digest(content[:start]))
        await self.store.put(key, content[start:end], said.encode())
        return key

    async def closed(self, what: str, content: bytes, generation: int) -> None:
        key = generation_key(PREFIX, _key(what), generation)
        await self.store.put(key, content, said_of(content, generation))

    async def conflict(self, what: str, writer: str, content: bytes) -> str:
        """Put a second writer's stream; returns its key."""
        key = conflict_key(PREFIX, _key(what), writer)
        await self.store.put(key, content, said_of(content))
        return key

    async def document(self, session_id: str, directory: str) -> None:
        said = compact({"id": session_id, "metadata": {"directory": directory}})
        await self.store.put(document_key(PREFIX, session_id), said, {})


@asynccontextmanager
async def planted(home: Home, server: Server | None = None) -> AsyncIterator[Planted]:
    """Open the archive that `home` uses: on a server, or a directory of its own."""
    store: Store = LocalStore(home.archive, prefix=PREFIX)
    if server:
        settings = S3Settings(
            endpoint=server.endpoint,
            bucket=server.bucket,
            region=server.region,
            access_key=server.access_key,
            secret_key=server.secret_key,
            path_style=True,
            ca_bundle=server.ca_bundle or "",
        )
        store = S3Store(settings, prefix=PREFIX, state_dir=home.path)
    try:
        yield Planted(store)
    finally:
        await store.close()


def said_of(content: bytes, generation: int = 0) -> dict[str, str]:
    """Return what a base of this content says of itself."""
    records = content.count(b"\n")
    return Meta(generation, records, len(content), digest(content), "m1.0", "codetether").encode()


def _key(what: str) -> str:
    return what if "/" in what else history_key(PREFIX, what)
