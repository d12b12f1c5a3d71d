"""One process at a time: a lock file that the kernel releases when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Self

from transcriptd.errors import LockHeld

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_MAX_PID = 32


class Lock:
    """Holds `path` locked inside a `with` block. It says the holder's pid and is never removed.

    Entering raises `LockHeld`, and `OSError` where the file cannot be made or locked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> Self:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _pid(fd)
            os.close(fd)
            raise _held(self._path, pid) from None
        except BaseException:
            os.close(fd)
            raise
        with contextlib.suppress(OSError):  # a full disk: locked all the same, without a name
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
        os.close(fd)


def _pid(fd: int) -> int | None:
    text = os.pread(fd, _MAX_PID, 0).strip()
    return int(text) if text.isdigit() else None


def _held(path: Path, pid: int | None) -> LockHeld:
    who = f"process {pid}" if pid else "another process"
    return LockHeld(
        f"{who} holds {path}",
        pid=pid,
        hint="`transcriptd status` asks the daemon that runs; stop it, or use another state_dir.",
    )
