"""Objects of one directory: written durably and under a condition, continued in place, listed.

Bytes behind the recorded length are not archived. An object that only grows is therefore continued
where it stands: its bytes first, then the record that says so. Anything else is staged as a new
file. Everything blocks; it raises `OSError`, `StoreError`, `ContentFailed` and `GivenUp`.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from transcriptd.errors import ConditionFailed, Damaged, NotFound, StoreError, Unreachable
from transcriptd.stores import Absent, Condition, Entry, Head, Matches, Stored
from transcriptd.stores.local_directory import LOCK, META, REDO, STAGING, Directory, Record
from transcriptd.stores.local_files import hold
from transcriptd.stores.local_pieces import PieceWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from transcriptd.stores import Piece
    from transcriptd.stores.local_files import Folder
    from transcriptd.stores.local_pieces import Opened


class Objects:
    """The objects of one directory."""

    def __init__(self, root: Path, *, lock_wait_s: float) -> None:
        self._here = Directory(root, lock_wait_s=lock_wait_s)
        self._tree = self._here.tree

    def open(self, key: str) -> Opened:
        """Open an object. Raises `NotFound`."""
        try:
            with self._here.still(writing=False):
                return self._here.open(key)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound("get: there is no such object") from None

    def head(self, key: str) -> Head | None:
        try:
            opened = self.open(key)
        except NotFound:
            return None
        opened.close()
        return opened.head

    def settle(self) -> None:
        """Finish interrupted writes or remove what they left, as every access does."""
        with suppress(FileNotFoundError), self._here.still(writing=False):
            pass

    def write(
        self,
        key: str,
        pieces: Sequence[Piece],
        metadata: dict[str, str],
        condition: Condition,
        given_up: Callable[[], bool],
    ) -> Head:
        """Write an object, durably, if the condition holds.

        Where its first piece is the whole object that stands there, only the others are written.
        """
        writer = PieceWriter(self.open, given_up)
        record = Record(key, 0, secrets.token_hex(16), metadata, secrets.token_hex(16))
        first = pieces[0] if pieces else None
        if isinstance(first, Stored) and first.key == key:
            descriptor = self._continued(first, condition)
            if descriptor is not None:
                try:
                    return self._append(descriptor, first, pieces[1:], record, writer)
                finally:
                    os.close(descriptor)
        with self._tree.create(STAGING, record.staged) as descriptor:
            try:
                length = writer.write(descriptor, 0, pieces)
                os.fsync(descriptor)
            except BaseException:
                self._here.forget(record)
                raise
            return self._commit(descriptor, replace(record, length=length), condition, writer)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; absent is done. Raises the first error after having tried them all."""
        failed: OSError | StoreError | None = None
        for key in keys:
            try:
                self._delete(key)
            except (OSError, StoreError) as error:
                failed = failed or error
        if failed:
            raise failed

    def folder_of(self, prefix: str) -> Folder:
        """Return the deepest directory that holds everything with this prefix."""
        return tuple(self._here.name(segment) for segment in prefix.split("/")[:-1])

    def rows(self, folder: Folder, prefix: str) -> list[Folder | Entry]:
        """List one directory in the order of keys: objects, and directories to go on with.

        Where a name does not say its key, everything below is given at once: only then it can be
        sorted.
        """
        found: list[tuple[bytes, Folder | Entry]] = []
        base = self._here.key(folder)
        for name, is_folder in self._listed(folder):
            key = self._here.key((*folder, name))
            if base is None or key is None:
                entries = [e for e in self._everything(folder) if e.key.startswith(prefix)]
                return [*sorted(entries, key=lambda entry: entry.key.encode())]
            if is_folder and (f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/")):
                found.append((f"{key}/".encode(), (*folder, name)))
            elif not is_folder and key.startswith(prefix) and (entry := self._entry(folder, name)):
                found.append((key.encode(), entry))
        return [row for _, row in sorted(found, key=lambda pair: pair[0])]

    def _commit(
        self, descriptor: int, record: Record, condition: Condition, writer: PieceWriter
    ) -> Head:
        name = f"{record.staged}{REDO}"
        with self._here.still(writing=True):
            try:
                writer.must_go_on()
                _must_stand(descriptor)
                _must_hold(condition, self._here.head(record.key))
                folder, target = self._here.where(record.key)
                self._tree.prepare(folder, target)
                self._tree.prepare((META, *folder), f"{target}.json")
                self._tree.write(STAGING, name, msgspec.json.encode(record))
                self._tree.sync(STAGING)
            except BaseException:
                self._here.forget(record)
                raise
            self._here.redo(name)  # from here on the next access does it, if this one cannot
            return self._proven(record)

    def _continued(self, whole: Stored, condition: Condition) -> int | None:
        """Open an object's file to append to it, and hold it: whoever else would, waits.

        `None` where `whole` is not all of it, or this store did not write it.
        """
        until = time.monotonic() + self._here.lock_wait_s
        while True:
            with self._here.still(writing=True):
                if not self._goes_on(whole, condition):
                    return None
                descriptor = self._tree.open(*self._here.where(whole.key), writing=True)
                if hold(descriptor):
                    return descriptor
            free = hold(descriptor, until - time.monotonic())
            os.close(descriptor)  # the other has written: look again
            if not free:
                raise Unreachable("another writer holds the object")

    def _goes_on(self, whole: Stored, condition: Condition) -> bool:
        try:
            opened = self._here.open(whole.key)
        except (FileNotFoundError, NotADirectoryError):
            raise ConditionFailed("the object is gone") from None
        opened.close()
        _must_hold(condition, opened.head)
        _must_hold(Matches(whole.etag), opened.head)
        everything = (0, opened.length) == (whole.start, whole.end)
        return everything and opened.recorded and opened.head.size == opened.length

    def _append(
        self,
        descriptor: int,
        whole: Stored,
        pieces: Sequence[Piece],
        record: Record,
        writer: PieceWriter,
    ) -> Head:
        """Write behind the recorded length, then the record that says so."""
        written = False
        try:
            end = writer.write(descriptor, whole.end, pieces)
            if os.fstat(descriptor).st_size > end:
                os.ftruncate(descriptor, end)  # what a crash left there
            os.fsync(descriptor)
            record = replace(record, length=end)
            with self._here.still(writing=True):
                writer.must_go_on()
                _must_hold(Matches(whole.etag), self._here.head(record.key))
                self._tree.write(STAGING, record.staged, msgspec.json.encode(record))
                written = True
                folder, name = self._here.where(record.key)
                self._tree.move(STAGING, record.staged, (META, *folder), f"{name}.json")
                return self._proven(record)
        except BaseException:
            if not written:
                with suppress(OSError):
                    os.ftruncate(descriptor, whole.end)
            self._here.forget(record)
            raise

    def _proven(self, record: Record) -> Head:
        head = self._here.head(record.key)
        if head is None or (head.etag, head.size) != (record.etag, record.length):
            raise Damaged("the file is not what was written")
        return head

    def _delete(self, key: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError), self._here.still(writing=True):
            folder, name = self._here.where(key)
            self._tree.remove(folder, name)
            self._tree.remove((META, *folder), f"{name}.json")
            self._tree.prune(folder)
            self._tree.prune((META, *folder))

    def _everything(self, folder: Folder) -> Iterator[Entry]:
        for name, is_folder in self._listed(folder):
            if is_folder:
                yield from self._everything((*folder, name))
            elif entry := self._entry(folder, name):
                yield entry

    def _listed(self, folder: Folder) -> list[tuple[str, bool]]:
        names = self._tree.names(folder)
        return names if folder else [row for row in names if row[0] not in {META, LOCK}]

    def _entry(self, folder: Folder, name: str) -> Entry | None:
        record = self._here.record(folder, name)
        key = record.key if record else self._here.key((*folder, name))
        head = self._here.head(key) if key else None
        return Entry(key, head.size, head.etag, head.modified) if key and head else None


def _must_stand(descriptor: int) -> None:
    if not os.fstat(descriptor).st_nlink:
        raise Damaged("what was staged is gone")


def _must_hold(condition: Condition, head: Head | None) -> None:
    match condition:
        case Absent() if head is not None:
            raise ConditionFailed("something stands there")
        case Matches(etag) if head is None or head.etag != etag:
            raise ConditionFailed("the object is not what it was")
