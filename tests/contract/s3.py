"""What the tests of the S3 store share: a store on a server, and a server that answers anything."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from tests.servers import Server
from transcriptd.config.settings import S3Credentials, S3Settings
from transcriptd.stores.patience import Patience
from transcriptd.stores.s3 import S3Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

PREFIX = "history/"
KEY = f"{PREFIX}s/history.jsonl"
PROBE = r"^history/\.tail/\.probe/"
NOT_PROBE = rf"^(?!{PROBE[1:]})"
SHORT = Patience(base_s=0.4, rate=1 << 20)


@asynccontextmanager
async def opened(
    server: Server,
    state_dir: Path,
    *,
    patience: Patience | None = None,
    credentials: Callable[[], S3Credentials | None] | None = None,
    **other: str,
) -> AsyncIterator[S3Store]:
    store = S3Store(
        _settings(server, **other),
        prefix=PREFIX,
        state_dir=state_dir,
        patience=patience,
        credentials=credentials,
    )
    try:
        yield store
    finally:
        await store.close()


async def read(store: S3Store, key: str = KEY) -> bytes:
    async with store.read(key) as reading:
        return b"".join([chunk async for chunk in reading.chunks])


@asynccontextmanager
async def answering(answer: bytes, *, dripping: bytes = b"") -> AsyncIterator[Server]:
    """A server that says the same to everything, the last of it byte by byte, and then leaves."""

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            for byte in dripping:
                await writer.drain()
                await asyncio.sleep(0.05)
                writer.write(bytes([byte]))
            await writer.drain()
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        port = listening.sockets[0].getsockname()[1]
        yield Server("answering", f"http://127.0.0.1:{port}", "b", "key", "secret")
    finally:
        listening.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def _settings(server: Server, **other: str) -> S3Settings:
    said = {
        "endpoint": server.endpoint,
        "bucket": server.bucket,
        "region": server.region,
        "access_key": server.access_key,
        "secret_key": server.secret_key,
        "ca_bundle": server.ca_bundle or "",
    }
    return msgspec.convert(said | {"path_style": True} | other, S3Settings)
