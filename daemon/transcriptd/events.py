"""File events: which paths changed, as the system tells of them. The only module that knows how.

Asks watchfiles' backend itself instead of `awatch`, which waits for two steps before it tells of
anything, and wakes up as often whether anything happens or not.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Self

from watchfiles import Change
from watchfiles._rust_notify import RustNotify

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Change", "Events"]

_REST_S = 0.25
_AWAKE_S = 60.0
_LOOK_MS = 1
_TAKES_NO_PART = 0  # of what only matters for polling


class Events:
    """What happens in some directories, not below them. Use as `with`; one task calls `next`.

    Looks every `step_s` seconds while anything happens, and seldom where nothing has for a minute.
    Raises `FileNotFoundError` for a directory that is gone, other `OSError` where the system has no
    events to give, and `RuntimeError` from then on where a name is not UTF-8.
    """

    def __init__(self, directories: Iterable[Path], *, step_s: float) -> None:
        self._source = RustNotify(
            [str(each) for each in directories],
            debug=False,
            force_polling=False,
            poll_delay_ms=_TAKES_NO_PART,
            recursive=False,  # else links would be followed, to wherever they lead
            ignore_permission_denied=False,  # would ignore the watch limit as well
        )
        self._step_s = step_s
        self._last = -_AWAKE_S
        self._ended = Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="events")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._thread.shutdown()
        self._source.close()

    def end(self) -> None:
        """Let `next` return."""
        self._ended.set()

    async def next(self) -> list[tuple[Change, str]]:
        """Wait for something to happen, and return what did; nothing after the end."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._thread, self._until_something)
        return [(Change(kind), path) for kind, path in found]

    def _until_something(self) -> set[tuple[int, str]]:
        while not self._ended.wait(self._pause_s()):
            found = self._source.watch(_LOOK_MS, _LOOK_MS, _LOOK_MS, None)
            if isinstance(found, set):
                self._last = monotonic()
                return found
        return set()

    def _pause_s(self) -> float:
        is_awake = monotonic() - self._last < _AWAKE_S
        return self._step_s if is_awake else max(self._step_s, _REST_S)
