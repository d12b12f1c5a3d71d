"""The local store: a directory of plain files that grep and DuckDB can read.

Conditions hold among all who use this directory on this machine. How objects lie on disk is known
by `local_objects`; this module keeps it off the event loop, bounded, counted and translated.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from transcriptd.content import Held
from transcriptd.errors import (
    AccessDenied,
    ConditionFailed,
    Damaged,
    RangeInvalid,
    ServerError,
    StoreError,
    Unreachable,
    Unsupported,
)
from transcriptd.stores import Condition, Entry, Fresh, Head, Reading, Stored, Traffic
from transcriptd.stores.keys import check_key, check_range, check_removable
from transcriptd.stores.local_directory import DENIED, LOCK, META, NO_PLACE
from transcriptd.stores.local_objects import Objects
from transcriptd.stores.local_pieces import CHUNK, ContentFailed
from transcriptd.stores.outcome import CANCELLED, OK, outcome_of
from transcriptd.stores.patience import Patience

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from transcriptd.config import Config
    from transcriptd.stores import Piece, Store
    from transcriptd.stores.local_pieces import Opened

T = TypeVar("T")

GUARANTEES = {"if_none_match": "honoured", "if_match": "honoured", "etag_is_md5": "not honoured"}
UNREAD = "content_failed"

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class LocalStore:
    """An archive in a directory. `Store` says what each method promises."""

    def __init__(self, path: Path, *, prefix: str, patience: Patience | None = None) -> None:
        self.traffic = Traffic()
        self._path = path
        self._prefix = prefix
        self._patience = patience or Patience()
        self._objects = Objects(path, lock_wait_s=self._patience.base_s)

    @property
    def place(self) -> str:
        return str(self._path)

    @property
    def bucket(self) -> str:
        return str(self._path)

    @property
    def guarantees(self) -> Mapping[str, str]:
        return GUARANTEES

    async def head(self, key: str) -> Head | None:
        _check(key)
        return await self._run("head", lambda: self._objects.head(key))

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, end: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator[Reading]:
        _check(key)
        check_range(start, end)
        opened = await self._run("get", lambda: self._objects.open(key))
        try:
            size = opened.head.size
            if etag is not None and opened.head.etag != etag:
                raise ConditionFailed("get: the object is not what it was")
            if size < opened.length:
                raise Damaged(f"get: {size} bytes stand there where {opened.length} should")
            if start > size or (start == size and start not in {0, end}):
                raise RangeInvalid("get: the range starts behind the end")
            last = size if end is None else min(end, size)
            yield Reading(opened.head, self._chunks(opened, start, last))
        finally:
            opened.close()

    async def put(
        self, key: str, body: bytes, metadata: Mapping[str, str], condition: Condition = None
    ) -> Head:
        pieces = [Fresh(Held(body), 0, len(body))]
        return await self._write("put", key, pieces, metadata, condition)

    @property
    def appends(self) -> bool:
        return True

    async def copies(self) -> bool:
        return True

    async def compose(
        self,
        key: str,
        pieces: Sequence[Piece],
        metadata: Mapping[str, str],
        condition: Condition = None,
        *,
        apart: bool = False,  # noqa: ARG002 - every write has an ETag of its own
    ) -> Head:
        return await self._write("compose", key, pieces, metadata, condition)

    async def discard_uploads(self, key: str) -> None:
        _check(key)
        await self._run("discard", self._objects.settle)

    async def list(self, prefix: str) -> AsyncIterator[Entry]:
        await self._run("list", self._objects.settle)
        waiting: list[tuple[str, ...] | Entry] = [self._objects.folder_of(prefix)]
        while waiting:
            row = waiting.pop()
            if isinstance(row, Entry):
                yield row
            else:
                rows = await self._run("list", partial(self._objects.rows, row, prefix))
                waiting.extend(reversed(rows))

    async def delete(self, *keys: str) -> None:
        for key in keys:
            _check(key)
            check_removable(key, self._prefix)
        if keys:
            await self._run("delete", lambda: self._objects.delete(keys))

    async def close(self) -> None:
        """Do nothing: no file stays open between two calls."""

    async def _write(
        self,
        operation: str,
        key: str,
        pieces: Sequence[Piece],
        metadata: Mapping[str, str],
        condition: Condition,
    ) -> Head:
        for name in (key, *(piece.key for piece in pieces if isinstance(piece, Stored))):
            _check(name)
        said = {name.lower(): value for name, value in metadata.items()}
        given_up = threading.Event()
        self.traffic.sent_bytes += sum(p.end - p.start for p in pieces if isinstance(p, Fresh))
        try:
            return await self._run(
                operation,
                lambda: self._objects.write(key, pieces, said, condition, given_up.is_set),
                size=sum(piece.end - piece.start for piece in pieces),
            )
        except BaseException:
            given_up.set()  # the thread may still be at it, and must not read on
            raise

    async def _run(self, operation: str, work: Callable[[], T], *, size: int = 0) -> T:
        try:
            async with asyncio.timeout(self._patience.deadline(size)):
                result = await asyncio.to_thread(work)
        except asyncio.CancelledError:
            self.traffic.count(operation, CANCELLED)
            raise
        except ContentFailed as failed:
            self.traffic.count(operation, UNREAD)
            raise failed.reason from None
        except (OSError, StoreError) as raw:
            error = raw if isinstance(raw, StoreError) else _translate(raw, operation)
            self.traffic.count(operation, outcome_of(error))
            raise error from None
        self.traffic.count(operation, OK)
        return result

    async def _chunks(self, opened: Opened, start: int, end: int) -> AsyncIterator[bytes]:
        at = start
        while at < end:
            size = min(CHUNK, end - at)
            try:
                chunk = await asyncio.to_thread(opened.chunk, at, size)
            except OSError as raw:
                raise _translate(raw, "get") from None
            if not chunk:
                raise Damaged(f"get: {at - start} bytes came where {end - start} were promised")
            at += len(chunk)
            self.traffic.received_bytes += len(chunk)
            yield chunk


def open_store(config: Config) -> Store:
    """Open the directory that the configuration names."""
    return LocalStore(config.local.path, prefix=config.prefix)


def _check(key: str) -> None:
    check_key(key)
    if key.partition("/")[0] in {META, LOCK}:
        raise ValueError(f"kept for the archive itself: {key!r}")


def _translate(error: OSError, operation: str) -> StoreError:
    said = f"{operation}: {error.strerror or type(error).__name__}"
    if isinstance(error, TimeoutError):
        return Unreachable(f"{operation}: the disk did not answer in time")
    if error.errno in _FULL:
        return ServerError(said, hint="the disk is full or over its quota")
    if error.errno in DENIED:
        return AccessDenied(said, hint="make the archive's directory writable for this user")
    if error.errno in NO_PLACE:
        return Unsupported(said, hint="there is a link or a file where a directory belongs")
    return ServerError(said)
