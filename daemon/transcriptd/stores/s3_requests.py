"""The one way out to the server: every request is bounded in time, counted and translated here.

Nothing is tried again, but for one request that was refused because this machine's clock is wrong.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from transcriptd.errors import AuthFailed, Damaged, StoreError
from transcriptd.stores.outcome import CANCELLED, OK, outcome_of
from transcriptd.stores.s3_client import SLOTS
from transcriptd.stores.s3_errors import ClockSkewed, translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from types_aiobotocore_s3 import S3Client

    from transcriptd.stores import Traffic
    from transcriptd.stores.patience import Patience
    from transcriptd.stores.s3_client import Client

T = TypeVar("T")

CHUNK = 256 * 1024


class Requests:
    """Sends requests. `succeeded_at`: when the last one did, in monotonic seconds."""

    def __init__(self, client: Client, patience: Patience, traffic: Traffic) -> None:
        self.succeeded_at = float("-inf")
        self._client = client
        self._patience = patience
        self._traffic = traffic
        self._slots = asyncio.Semaphore(SLOTS)
        self.streams = asyncio.Semaphore(SLOTS)

    async def call(
        self,
        operation: str,
        send: Callable[[S3Client], Awaitable[T]],
        *,
        size: int = 0,
        conditional: bool = False,
    ) -> T:
        """Send one request. `size`: the bytes that have to move before the answer comes."""
        async with self._slots:
            offset = self._client.offset
            try:
                try:
                    return await self._attempt(operation, send, size, conditional=conditional)
                except ClockSkewed as skewed:
                    self._client.correct_clock(skewed.server_date)
                    if self._client.offset == offset:
                        raise
                    return await self._attempt(operation, send, size, conditional=conditional)
            except AuthFailed:
                self._client.renew_credentials()
                raise

    async def chunks(self, body: Any, size: int) -> AsyncIterator[bytes]:  # noqa: ANN401 - the SDK is untyped
        """Give the `size` bytes of a body as they come.

        What counts as time is the waiting for the server, not what the reader does in between.
        """
        received, spent = 0, 0.0
        while received <= size:
            started = time.monotonic()
            try:
                async with asyncio.timeout(self._patience.deadline(received) - spent):
                    chunk: bytes = await body.read(CHUNK)
            except Exception as raw:  # noqa: BLE001 - nothing of the SDK's gets past this point
                raise self._failed(raw, "get") from None
            spent += time.monotonic() - started
            received += len(chunk)
            self._traffic.received_bytes += len(chunk)
            if not chunk:
                break
            if received <= size:
                yield chunk
        if received != size:
            raise Damaged(f"get: {received} bytes came where {size} were promised")

    async def close(self) -> None:
        await self._client.close()
        # A semaphore that was waited for stays with its event loop.
        self._slots, self.streams = asyncio.Semaphore(SLOTS), asyncio.Semaphore(SLOTS)

    async def _attempt(
        self,
        operation: str,
        send: Callable[[S3Client], Awaitable[T]],
        size: int,
        *,
        conditional: bool,
    ) -> T:
        try:
            client = await self._client.get()
            async with asyncio.timeout(self._patience.deadline(size)):
                answer = await send(client)
        except asyncio.CancelledError:
            self._traffic.count(operation, CANCELLED)
            raise
        except Exception as raw:  # noqa: BLE001 - nothing of the SDK's gets past this point
            raise self._failed(raw, operation, conditional=conditional) from None
        self._traffic.count(operation, OK)
        self.succeeded_at = time.monotonic()
        return answer

    def _failed(self, raw: Exception, operation: str, *, conditional: bool = False) -> StoreError:
        error = translate(raw, operation, conditional=conditional)
        self._traffic.count(operation, outcome_of(error))
        return error
