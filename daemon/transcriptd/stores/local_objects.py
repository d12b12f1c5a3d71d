"""Objects as pairs of files: the bytes under the key, what is said of them in `.meta/<key>.json`.

Both change together: a redo record in `.meta/.staging/` says what is about to happen, and the next
access finishes what a crash interrupted. Bytes behind the recorded length are not archived.
Everything blocks; it raises `OSError` and `StoreError`.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from transcriptd.errors import ConditionFailed, Damaged, NotFound, Unreachable
from transcriptd.stores import Absent, Condition, Entry, Head, Matches
from transcriptd.stores.local_files import Lock, Tree, file_name, segment_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from transcriptd.stores.local_files import Folder

META = ".meta"
STAGING = (META, ".staging")
LOCK = ".lock"
CHUNK = 1 << 20
ORPHANED_S = 24 * 3600.0
DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
NO_PLACE = frozenset({errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR})


@dataclass(frozen=True, slots=True)
class Record:
    """What is said of one object. `staged` names its bytes until they stand under the key."""

    key: str
    length: int
    etag: str
    metadata: dict[str, str] = field(default_factory=dict)
    staged: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """An object's bytes, open for reading: no later write changes them.

    `length` is what should stand there; `head.size` is less where the file was cut.
    """

    descriptor: int
    head: Head
    length: int

    def close(self) -> None:
        os.close(self.descriptor)

    def chunk(self, start: int, size: int) -> bytes:
        return os.pread(self.descriptor, size, start)


class Objects:
    """The objects of one directory."""

    def __init__(self, root: Path, *, lock_wait_s: float) -> None:
        self._tree = Tree(root)
        self._lock = Lock(root / LOCK)
        self._lock_wait_s = lock_wait_s
        self._folds: bool | None = None

    def open(self, key: str) -> Opened:
        """Open an object. Raises `NotFound`."""
        try:
            with self._still(writing=False):
                return self._open(key)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound("get: there is no such object") from None

    def head(self, key: str) -> Head | None:
        try:
            opened = self.open(key)
        except NotFound:
            return None
        opened.close()
        return opened.head

    def put(
        self, key: str, body: Iterable[bytes], metadata: dict[str, str], condition: Condition
    ) -> Head:
        """Write an object, durably, if the condition holds."""
        etag, staged = secrets.token_hex(16), secrets.token_hex(16)
        record = Record(key, 0, etag, metadata, staged)
        try:
            length = self._tree.write(STAGING, staged, body)
        except BaseException:
            self._forget(record)
            raise
        return self._commit(replace(record, length=length), condition)

    def copy(self, source: str, target: str, etag: str) -> Head:
        """Copy an object that still has this ETag, if nothing stands at the target."""
        opened = self.open(source)
        try:
            if opened.head.etag != etag:
                raise ConditionFailed("copy: the source is not what it was")
            if opened.head.size < opened.length:
                raise Damaged("copy: the source is shorter than it should be")
            starts = range(0, opened.length, CHUNK)
            body = (opened.chunk(at, min(CHUNK, opened.length - at)) for at in starts)
            return self.put(target, body, dict(opened.head.metadata), Absent())
        finally:
            opened.close()

    def delete(self, key: str) -> None:
        """Remove an object; absent is done."""
        with suppress(FileNotFoundError, NotADirectoryError), self._still(writing=True):
            folder, name = self._where(key)
            self._tree.remove(folder, name)
            self._tree.remove((META, *folder), f"{name}.json")
            self._tree.prune(folder)
            self._tree.prune((META, *folder))

    def settle(self) -> None:
        """Finish interrupted writes, as every access does."""
        with suppress(FileNotFoundError), self._still(writing=False):
            pass

    def folder_of(self, prefix: str) -> Folder:
        """Return the deepest directory that holds everything with this prefix."""
        return tuple(self._name(segment) for segment in prefix.split("/")[:-1])

    def rows(self, folder: Folder, prefix: str) -> list[Folder | Entry]:
        """List one directory in the order of keys: objects, and directories to go on with.

        Where a name does not say its key, everything below is given at once: only then it can be
        sorted.
        """
        found: list[tuple[bytes, Folder | Entry]] = []
        base = self._key(folder)
        for name, is_folder in self._listed(folder):
            key = self._key((*folder, name))
            if base is None or key is None:
                entries = [e for e in self._everything(folder) if e.key.startswith(prefix)]
                return [*sorted(entries, key=lambda entry: entry.key.encode())]
            if is_folder and (f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/")):
                found.append((f"{key}/".encode(), (*folder, name)))
            elif not is_folder and key.startswith(prefix) and (entry := self._entry(folder, name)):
                found.append((key.encode(), entry))
        return [row for _, row in sorted(found, key=lambda pair: pair[0])]

    @contextmanager
    def _still(self, *, writing: bool) -> Iterator[None]:
        """Hold the archive still, with every interrupted write finished.

        To read from a medium that cannot be written needs no lock: nobody writes there.
        """
        if not writing and not self._tree.root.is_dir():
            raise FileNotFoundError  # an archive that is not there is not made by looking
        with ExitStack() as stack:
            try:
                with self._tree.folder(STAGING, create=True):
                    stack.enter_context(self._lock.held(self._lock_wait_s))
                if self._folds is None:
                    self._folds = self._tree.folds_case(STAGING)
                self._settle()
            except TimeoutError:
                raise Unreachable(
                    "another process holds the archive", hint=f"find out who has {LOCK} open"
                ) from None
            except OSError as error:
                if writing or error.errno not in DENIED:
                    raise
            yield

    def _settle(self) -> None:
        for name, _ in self._tree.names(STAGING):
            if name.endswith(".redo"):
                try:
                    self._redo(name)
                except OSError as error:
                    if error.errno not in NO_PLACE:
                        raise
            elif self._tree.age_s(STAGING, name) > ORPHANED_S:
                self._tree.remove(STAGING, name)

    def _redo(self, name: str) -> None:
        """Do what a redo record says, whatever part of it has been done already."""
        try:
            record = msgspec.json.decode(self._tree.read(STAGING, name), type=Record)
        except msgspec.MsgspecError:
            self._tree.remove(STAGING, name)  # torn while it was written: nothing had begun
            return
        folder, target = self._where(record.key)
        try:
            with suppress(FileNotFoundError):  # it stands there already
                self._tree.move(STAGING, record.staged, folder, target)
            self._tree.move(STAGING, name, (META, *folder), f"{target}.json")
        except OSError as error:
            if error.errno in NO_PLACE:  # it will never be done, and must not block what follows
                self._forget(record)
            raise

    def _commit(self, record: Record, condition: Condition) -> Head:
        name = f"{record.staged}.redo"
        with self._still(writing=True):
            try:
                _must_hold(condition, self._head(record.key))
                folder, target = self._where(record.key)
                self._tree.prepare(folder, target)
                self._tree.prepare((META, *folder), f"{target}.json")
                self._tree.write(STAGING, name, [msgspec.json.encode(record)])
                self._tree.sync(STAGING)
            except BaseException:
                self._forget(record)
                raise
            self._redo(name)  # from here on the next access does it, if this one cannot
            head = self._head(record.key)
        if head is None or (head.etag, head.size) != (record.etag, record.length):
            raise Damaged("put: the file is not what was written")
        return head

    def _forget(self, record: Record) -> None:
        """Drop a write that is not to be; the record first: without it the bytes are nothing."""
        with suppress(OSError):
            self._tree.remove(STAGING, f"{record.staged}.redo")
            self._tree.remove(STAGING, record.staged)

    def _open(self, key: str) -> Opened:
        folder, name = self._where(key)
        descriptor = self._tree.open(folder, name)
        record = self._record(folder, name)
        found = os.fstat(descriptor)
        if record is None:  # somebody else wrote it
            etag = f"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}"
            return Opened(descriptor, Head(etag, found.st_size, found.st_mtime), found.st_size)
        size = min(found.st_size, record.length)
        head = Head(record.etag, size, found.st_mtime, record.metadata)
        return Opened(descriptor, head, record.length)

    def _head(self, key: str) -> Head | None:
        try:
            opened = self._open(key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        opened.close()
        return opened.head

    def _record(self, folder: Folder, name: str) -> Record | None:
        try:
            said = self._tree.read((META, *folder), f"{name}.json")
            return msgspec.json.decode(said, type=Record)
        except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
            return None

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
        record = self._record(folder, name)
        key = record.key if record else self._key((*folder, name))
        head = self._head(key) if key else None
        return Entry(key, head.size, head.etag, head.modified) if key and head else None

    def _where(self, key: str) -> tuple[Folder, str]:
        *folder, name = (self._name(segment) for segment in key.split("/"))
        return tuple(folder), name

    def _name(self, segment: str) -> str:
        return file_name(segment, folds=bool(self._folds))

    def _key(self, path: Folder) -> str | None:
        segments = [segment_of(name, folds=bool(self._folds)) for name in path]
        known = [segment for segment in segments if segment is not None]
        return "/".join(known) if len(known) == len(segments) else None


def _must_hold(condition: Condition, head: Head | None) -> None:
    match condition:
        case Absent() if head is not None:
            raise ConditionFailed("put: something stands there")
        case Matches(etag) if head is None or head.etag != etag:
            raise ConditionFailed("put: the object is not what it was")
