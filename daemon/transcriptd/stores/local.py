"""The local store: a directory of plain files that grep and DuckDB can read.

Conditions hold among all who use this directory on this machine. How objects lie on disk is known
by `local_objects`; this module keeps it off the event loop, bounded, counted and translated.
"""

from __future__ import annotations

import asyncio
import errno
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

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
from transcriptd.stores import Condition, Entry, Head, Reading, Traffic
from transcriptd.stores.keys import check_key, check_range, check_removable
from transcriptd.stores.local_objects import CHUNK, DENIED, LOCK, META, NO_PLACE, Objects
from transcriptd.stores.outcome import CANCELLED, OK, outcome_of
from transcriptd.stores.patience import Patience

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from transcriptd.config import Config
    from transcriptd.stores import Store
    from transcriptd.stores.local_objects import Opened

T = TypeVar("T")

GUARANTEES = {"if_none_match": "honoured", "if_match": "honoured", "etag_is_md5": "not honoured"}

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
        _check(key)
        said = {name.lower(): value for name, value in metadata.items()}
        self.traffic.sent_bytes += len(body)
        return await self._run(
            "put", lambda: self._objects.put(key, [body], said, condition), size=len(body)
        )

    async def copy(self, source: str, target: str, *, etag: str) -> Head:
        _check(source)
        _check(target)
        original = await self.head(source)
        if original is None:
            raise ConditionFailed("copy: the source is not what it was")
        return await self._run(
            "copy", lambda: self._objects.copy(source, target, etag), size=original.size
        )

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

    async def delete(self, key: str) -> None:
        _check(key)
        check_removable(key, self._prefix)
        await self._run("delete", lambda: self._objects.delete(key))

    async def close(self) -> None:
        """Do nothing: no file stays open between two calls."""

    async def _run(self, operation: str, work: Callable[[], T], *, size: int = 0) -> T:
        try:
            async with asyncio.timeout(self._patience.deadline(size)):
                result = await asyncio.to_thread(work)
        except asyncio.CancelledError:
            self.traffic.count(operation, CANCELLED)
            raise
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
