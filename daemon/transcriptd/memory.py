"""What a daemon that mostly waits need not hold: memory that is free.

The C library keeps what was freed for later, in as many heaps as there are threads at work at once.
Only glibc can be told otherwise; elsewhere nothing happens.
"""

from __future__ import annotations

import asyncio
import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_ARENA_MAX = -8  # glibc's M_ARENA_MAX
_EACH_S = 30.0
_QUIET_S = 600.0


async def keep_small(
    done: Callable[[], int],
    rest: Callable[[], None],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Give back, for ever, what work needed.

    `done` counts what was done. After ten minutes in which nothing was, `rest` lets go of what
    more work would need again.
    """
    before, quiet_s = -1, 0.0
    while True:
        quiet_s += _EACH_S
        if before != (before := done()):
            quiet_s = 0.0
        if quiet_s == _QUIET_S:
            rest()
        if quiet_s in {0.0, _QUIET_S}:
            await asyncio.to_thread(give_back)
        await sleep(_EACH_S)


def use_one_heap() -> None:
    """Have all threads share one heap. Call it before there are any."""
    _ask_glibc("mallopt", ctypes.c_int(_ARENA_MAX), ctypes.c_int(1))


def give_back() -> None:
    """Give the system back what is free. Blocks for milliseconds, in which other threads run."""
    _ask_glibc("malloc_trim", ctypes.c_size_t(0))


def _ask_glibc(function: str, *arguments: ctypes.c_int | ctypes.c_size_t) -> None:
    try:
        asked = ctypes.CDLL(None)[function]
    except (AttributeError, OSError):
        return
    asked(*arguments)
