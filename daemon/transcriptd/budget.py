"""How many bytes of documents may be in work at once. Knows nothing of what they are."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Budget:
    """Lends bytes in the order in which they were asked for; one that exceeds it runs alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.lent = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def borrow(self, size: int) -> AsyncIterator[None]:
        """Wait until `size` bytes are free, and hold them."""
        if self._waiting or not self._fits(size):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((size, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give_back(size)
                else:
                    if (size, turn) in self._waiting:  # `_admit` drops those that were cancelled
                        self._waiting.remove((size, turn))
                    self._admit()
                raise
        else:
            self.lent += size
        try:
            yield
        finally:
            self._give_back(size)

    def _fits(self, size: int) -> bool:
        return self.lent == 0 or self.lent + size <= self.limit

    def _give_back(self, size: int) -> None:
        self.lent -= size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self.lent += size
                turn.set_result(None)
