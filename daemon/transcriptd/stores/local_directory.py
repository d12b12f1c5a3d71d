"""One directory of objects: where each lies, what is said of it, and one writer at a time.

An object is a pair of files: its bytes under the key, what is said of them in `.meta/<key>.json`.
Both change together: a redo record in `.meta/.staging/` says what is about to happen, and the next
access finishes what a crash interrupted. Everything blocks; it raises `OSError` and `StoreError`.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from transcriptd.errors import Unreachable
from transcriptd.stores import Head
from transcriptd.stores.local_files import Lock, Tree, file_name, segment_of
from transcriptd.stores.local_pieces import Opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transcriptd.stores.local_files import Folder

META = ".meta"
STAGING = (META, ".staging")
LOCK = ".lock"
REDO = ".redo"
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


class Directory:
    """A directory of objects. Whoever looks or writes holds it `still`.

    `folds`: its file system ignores the case of names, `None` while that is not known.
    """

    def __init__(self, root: Path, *, lock_wait_s: float) -> None:
        self.tree = Tree(root)
        self.lock_wait_s = lock_wait_s
        self.folds: bool | None = None
        self._lock = Lock(root / LOCK)

    @contextmanager
    def still(self, *, writing: bool) -> Iterator[None]:
        """Hold the archive still, with every interrupted write finished.

        To read from a medium that cannot be written needs no lock: nobody writes there.
        """
        if not writing and not self.tree.root.is_dir():
            raise FileNotFoundError  # an archive that is not there is not made by looking
        with ExitStack() as stack:
            try:
                with self.tree.folder(STAGING, create=True):
                    stack.enter_context(self._lock.held(self.lock_wait_s))
                if self.folds is None:
                    self.folds = self.tree.folds_case(STAGING)
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
        staged = [name for name, _ in self.tree.names(STAGING)]
        for name in staged:
            if name.endswith(REDO):
                try:
                    self.redo(name)
                except OSError as error:
                    if error.errno not in NO_PLACE:
                        raise
        for name in staged:  # what a redo record named stands in its place by now
            self.tree.remove_orphan(STAGING, name)

    def redo(self, name: str) -> None:
        """Do what a redo record says, whatever part of it has been done already."""
        try:
            record = msgspec.json.decode(self.tree.read(STAGING, name), type=Record)
        except msgspec.MsgspecError:
            self.tree.remove(STAGING, name)  # torn while it was written: nothing had begun
            return
        folder, target = self.where(record.key)
        try:
            with suppress(FileNotFoundError):  # it stands there already
                self.tree.move(STAGING, record.staged, folder, target)
            self.tree.move(STAGING, name, (META, *folder), f"{target}.json")
        except OSError as error:
            if error.errno in NO_PLACE:  # it will never be done, and must not block what follows
                self.forget(record)
            raise

    def forget(self, record: Record) -> None:
        """Drop a write that is not to be; the record first: without it the bytes are nothing."""
        with suppress(OSError):
            self.tree.remove(STAGING, f"{record.staged}{REDO}")
            self.tree.remove(STAGING, record.staged)

    def open(self, key: str) -> Opened:
        """Open an object. Raises `FileNotFoundError` or `NotADirectoryError` where none is."""
        folder, name = self.where(key)
        descriptor = self.tree.open(folder, name)
        record = self.record(folder, name)
        found = os.fstat(descriptor)
        if record is None:  # somebody else wrote it
            etag = f"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}"
            head = Head(etag, found.st_size, found.st_mtime)
            return Opened(descriptor, head, found.st_size, recorded=False)
        size = min(found.st_size, record.length)
        head = Head(record.etag, size, found.st_mtime, record.metadata)
        return Opened(descriptor, head, record.length, recorded=True)

    def head(self, key: str) -> Head | None:
        """Say what stands under a key."""
        try:
            opened = self.open(key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        opened.close()
        return opened.head

    def record(self, folder: Folder, name: str) -> Record | None:
        """Return what is said of a file; `None` where this store did not write it."""
        try:
            said = self.tree.read((META, *folder), f"{name}.json")
            return msgspec.json.decode(said, type=Record)
        except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
            return None

    def where(self, key: str) -> tuple[Folder, str]:
        """Return the directory and the name of an object's file."""
        *folder, name = (self.name(segment) for segment in key.split("/"))
        return tuple(folder), name

    def name(self, segment: str) -> str:
        """Return the name of a key's segment here."""
        return file_name(segment, folds=bool(self.folds))

    def key(self, path: Folder) -> str | None:
        """Return the key that a path stands for; `None` where it does not say it."""
        segments = [segment_of(name, folds=bool(self.folds)) for name in path]
        known = [segment for segment in segments if segment is not None]
        return "/".join(known) if len(known) == len(segments) else None
