"""How objects are removed: one by one, or many in a request where the server can."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from transcriptd.errors import NotFound, StoreError, Unreachable, Unsupported
from transcriptd.stores.s3_errors import translate_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transcriptd.stores.s3_requests import Requests

MANY = 1000
AT_ONCE = 8


class Deletes:
    """Removes objects, whichever they are; absent is done."""

    def __init__(self, requests: Requests, bucket: str) -> None:
        self._requests = requests
        self._bucket = bucket
        self._many = True

    async def one(self, key: str) -> None:
        with suppress(NotFound):
            await self._requests.call(
                "delete", lambda client: client.delete_object(Bucket=self._bucket, Key=key)
            )

    async def all(self, keys: Sequence[str]) -> None:
        """Try every key, then raise what the first of those failed of that did."""
        failures: list[StoreError] = []
        for start in range(0, len(keys), MANY):
            batch = keys[start : start + MANY]
            try:
                failures += await self._batch(batch)
            except StoreError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def _batch(self, keys: Sequence[str]) -> list[StoreError]:
        if len(keys) > 1 and self._many:
            try:
                return await self._together(keys)
            except (NotFound, Unsupported):
                self._many = False  # for as long as this process lives
        return await self._singly(keys)

    async def _together(self, keys: Sequence[str]) -> list[StoreError]:
        named: Any = [{"Key": key} for key in keys]
        answer = await self._requests.call(
            "delete_many",
            lambda client: client.delete_objects(
                Bucket=self._bucket, Delete={"Objects": named, "Quiet": True}
            ),
        )
        failed = [
            translate_code(row.get("Code", ""), "delete_many") for row in answer.get("Errors", ())
        ]
        return [error for error in failed if not isinstance(error, NotFound)]

    async def _singly(self, keys: Sequence[str]) -> list[StoreError]:
        slots = asyncio.Semaphore(AT_ONCE)
        failed: list[StoreError] = []

        async def remove(key: str) -> None:
            async with slots:
                if any(isinstance(error, Unreachable) for error in failed):
                    return  # who is not there once is not asked a thousand times
                try:
                    await self.one(key)
                except StoreError as error:
                    failed.append(error)

        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(remove(key), name="store.delete")
        return failed
