"""Files below one directory: names for keys, and writing that a power cut cannot undo.

No symbolic link below the directory is ever followed. Nothing here knows of objects or conditions;
everything blocks and raises `OSError`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import threading
import time
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Folder = tuple[str, ...]

MAX_NAME = 200  # file systems take 255 bytes; `.json` and more has to fit too
_KEPT_OF_A_LONG_NAME = 64
_SHORTENED = re.compile(r"~[0-9a-f]{32}$")
_FOLDED = re.compile(r"[A-Z%]|[^\x00-\x7f]")
_ESCAPED = re.compile(r"(?:%[0-9a-f]{2})+")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_MODE, _DIRECTORY_MODE = 0o600, 0o700
_LOCK_POLL_S = 0.01


def file_name(segment: str, *, folds: bool) -> str:
    """Return the name of a key's segment on disk; `folds`: the file system ignores case."""
    name = _FOLDED.sub(_escape, segment) if folds else segment
    raw = name.encode()
    if len(raw) <= MAX_NAME:
        return name
    kept = raw[:_KEPT_OF_A_LONG_NAME].decode(errors="ignore")
    return f"{kept}~{sha256(raw).hexdigest()[:32]}"


def segment_of(name: str, *, folds: bool) -> str | None:
    """Return the segment a name stands for; `None` where the name does not say it."""
    if _SHORTENED.search(name) or not _is_text(name):
        return None
    return _ESCAPED.sub(_unescape, name) if folds else name


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02x}" for byte in match[0].encode())


def _unescape(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("%", "")).decode(errors="replace")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8: no key of ours
        return False
    return True


class Tree:
    """The files below `root`, which may itself be a link."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def folder(self, path: Folder, *, create: bool = False) -> Iterator[int]:
        """Open a directory below the root; `create` makes what is missing, durably."""
        if create and not self.root.is_dir():
            self.root.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            _sync(self.root.parent)
        here = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in path:
                below = _open_below(here, name, create=create)
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)

    def open(self, folder: Folder, name: str, *, writing: bool = False) -> int:
        """Open a file that is there. Raises `FileNotFoundError` for all but a regular file."""
        with self.folder(folder) as here:
            # A pipe would block, a device would do something.
            mode = os.O_WRONLY if writing else os.O_RDONLY
            flags = mode | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            try:
                descriptor = os.open(name, flags, dir_fd=here)
            except OSError as error:
                if error.errno != errno.ENXIO:  # a pipe that nobody reads
                    raise
                raise FileNotFoundError(errno.ENOENT, "not a regular file") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "not a regular file")
        return descriptor

    def read(self, folder: Folder, name: str) -> bytes:
        descriptor = self.open(folder, name)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    @contextmanager
    def create(self, folder: Folder, name: str) -> Iterator[int]:
        """Open a new file for writing, and hold it meanwhile: its writer lives."""
        descriptor = self._create(folder, name)
        try:
            while True:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.fstat(descriptor).st_nlink:
                    break
                os.close(descriptor)  # taken for an orphan before it was held
                descriptor = self._create(folder, name)
            yield descriptor
        finally:
            os.close(descriptor)

    def _create(self, folder: Folder, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with self.folder(folder, create=True) as here:
            return os.open(name, flags, _FILE_MODE, dir_fd=here)

    def write(self, folder: Folder, name: str, content: bytes) -> None:
        """Write a new small file durably. Whether its name lasts is for `sync` to say."""
        with (
            self.create(folder, name) as descriptor,
            open(descriptor, "wb", closefd=False) as file,
        ):
            file.write(content)
            file.flush()
            os.fsync(descriptor)

    def remove_orphan(self, folder: Folder, name: str) -> None:
        """Remove a file, unless somebody who lives still writes it; absent is done."""
        with suppress(FileNotFoundError):
            descriptor = self.open(folder, name)
            try:
                if hold(descriptor):
                    self.remove(folder, name)
            finally:
                os.close(descriptor)

    def move(self, folder: Folder, name: str, to_folder: Folder, to_name: str) -> None:
        """Rename a file, replacing what stands there, durably."""
        with self.folder(folder) as here, self.folder(to_folder, create=True) as there:
            os.rename(name, to_name, src_dir_fd=here, dst_dir_fd=there)
            os.fsync(there)

    def sync(self, folder: Folder) -> None:
        with self.folder(folder) as here:
            os.fsync(here)

    def prepare(self, folder: Folder, name: str) -> None:
        """Make the directories for a file. Raises unless a file can take this name."""
        with self.folder(folder, create=True) as here:
            try:
                mode = os.stat(name, dir_fd=here, follow_symlinks=False).st_mode
            except FileNotFoundError:
                return
        if not stat.S_ISREG(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    def remove(self, folder: Folder, name: str) -> None:
        """Remove a file durably; absent is done."""
        with suppress(FileNotFoundError), self.folder(folder) as here:
            os.unlink(name, dir_fd=here)
            os.fsync(here)

    def prune(self, folder: Folder) -> None:
        """Remove a directory and those above it, as far as they are empty."""
        for depth in range(len(folder) - 1, 0, -1):
            with suppress(FileNotFoundError), self.folder(folder[:depth]) as here:
                try:
                    os.rmdir(folder[depth], dir_fd=here)
                except OSError:
                    return

    def names(self, folder: Folder) -> list[tuple[str, bool]]:
        """List a directory: names, and whether each is a directory. Absent is empty."""
        try:
            with self.folder(folder) as here, os.scandir(here) as rows:
                return [
                    (row.name, row.is_dir(follow_symlinks=False))
                    for row in rows
                    if not row.is_symlink()
                ]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def folds_case(self, folder: Folder) -> bool:
        """Find out whether the file system takes `a` and `A` for one name."""
        token = f"{os.getpid()}.{threading.get_ident()}"
        self.write(folder, f"Case.{token}", b"")
        try:
            os.close(self.open(folder, f"cASE.{token}"))
        except FileNotFoundError:
            return False
        else:
            return True
        finally:
            self.remove(folder, f"Case.{token}")


class Lock:
    """One at a time, among the threads of this process and among processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = threading.Lock()

    @contextmanager
    def held(self, within_s: float) -> Iterator[None]:
        """Hold the lock. Raises `TimeoutError` when others hold it for longer than that."""
        until = time.monotonic() + within_s
        if not self._threads.acquire(timeout=within_s):
            raise TimeoutError
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, _FILE_MODE)
            try:
                if not hold(descriptor, until - time.monotonic()):
                    raise TimeoutError
                yield
            finally:
                os.close(descriptor)
        finally:
            self._threads.release()


def hold(descriptor: int, within_s: float = 0.0) -> bool:
    """Lock an open file until it is closed; say whether that was possible within so many seconds.

    The kernel offers no wait with an end, so it polls.
    """
    until = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_LOCK_POLL_S)
        else:
            return True


def _open_below(here: int, name: str, *, create: bool) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=here)
    except FileNotFoundError:
        if not create:
            raise
    try:
        os.mkdir(name, _DIRECTORY_MODE, dir_fd=here)
        os.fsync(here)
    except FileExistsError:
        pass  # somebody else was faster
    return os.open(name, _DIRECTORY, dir_fd=here)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
