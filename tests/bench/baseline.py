"""CodeTether's own strategy as a baseline: `python -m tests.bench.baseline DIRECTORY`.

At each save the whole history is put. A save while one of that session is being put is dropped;
what fails is not tried again; what was saved while nobody watched is not looked for. Says a line
once it watches, and repeats each line it is told once nothing is being put.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
import sys
from pathlib import Path
from typing import Any

import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

KEY = "history/{}/history.jsonl"
_MOVED_TO = 0x80  # IN_MOVED_TO of inotify
_EVENT = struct.Struct("iIII")


class _Document(msgspec.Struct):
    messages: list[msgspec.Raw]


class _Sink:
    """Puts histories, of each session one at a time."""

    def __init__(self, client: Any, directory: Path) -> None:  # noqa: ANN401 - of botocore's making
        self._client = client
        self._directory = directory
        self._running: dict[str, asyncio.Task[None]] = {}

    def saved(self, names: list[str]) -> None:
        for name in names:
            if name.endswith(".json") and name not in self._running:
                self._running[name] = asyncio.create_task(self._upload(name))

    async def settled(self) -> None:
        await asyncio.gather(*self._running.values())

    async def _upload(self, name: str) -> None:
        try:
            document = (self._directory / name).read_bytes()
            messages = msgspec.json.decode(document, type=_Document).messages
            await self._client.put_object(
                Bucket=os.environ["BUCKET"],
                Key=KEY.format(name.removesuffix(".json")),
                Body=b"".join(b"%b\n" % bytes(message) for message in messages),
            )
        except (OSError, BotoCoreError, ClientError) as error:
            print(f"not archived: {name}: {type(error).__name__}", file=sys.stderr)
        finally:
            del self._running[name]


async def _main(directory: Path) -> None:
    config = AioConfig(
        retries={"total_max_attempts": 1}, request_checksum_calculation="when_required"
    )
    async with get_session().create_client(
        "s3", endpoint_url=os.environ["ENDPOINT"], config=config
    ) as client:
        sink = _Sink(client, directory)
        loop = asyncio.get_running_loop()
        watch = _watched(directory)
        loop.add_reader(watch, lambda: sink.saved(_names(os.read(watch, 65536))))
        print("watching", flush=True)
        while told := await loop.run_in_executor(None, sys.stdin.readline):
            await asyncio.sleep(0)  # what was saved before is read first
            await sink.settled()
            print(told, end="", flush=True)


def _watched(directory: Path) -> int:
    """Return a descriptor that tells of each file renamed into a directory, at once.

    watchfiles would look each millisecond for that, and burn CPU that is not the strategy's.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0 or libc.inotify_add_watch(descriptor, os.fsencode(directory), _MOVED_TO) < 0:
        raise OSError(ctypes.get_errno(), "no watch")
    return descriptor


def _names(events: bytes) -> list[str]:
    names, at = [], 0
    while at < len(events):
        *_, length = _EVENT.unpack_from(events, at)
        at += _EVENT.size
        names.append(os.fsdecode(events[at : at + length].rstrip(b"\0")))
        at += length
    return names


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
