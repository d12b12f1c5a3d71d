"""What the tests of the S3 store share: a store on a server, and a server that answers anything.

Run as a program, it writes a large object, to be killed or weighed.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tests.servers import Server
from transcriptd.config.settings import S3Credentials, S3Settings
from transcriptd.content import Held
from transcriptd.stores import Fresh, Stored
from transcriptd.stores.patience import Patience
from transcriptd.stores.s3 import S3Store
from transcriptd.stores.s3_parts import KIB, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from transcriptd.stores import Head

BLOCK = 64 * KIB
PREFIX = "history/"
KEY = f"{PREFIX}s/history.jsonl"
PROBE = r"^history/\.tail/\.probe/"
NOT_PROBE = rf"^(?!{PROBE[1:]})"
# For servers that do not enforce the least size of a part.
SMALL = Limits(whole=16 * KIB, least=5 * KIB, most=64 * KIB, usual=8 * KIB)
SHORT = Patience(base_s=1.5, rate=1 << 20)


@asynccontextmanager
async def opened(
    server: Server,
    state_dir: Path,
    *,
    patience: Patience | None = None,
    credentials: Callable[[], S3Credentials | None] | None = None,
    limits: Limits | None = None,
    **other: str,
) -> AsyncIterator[S3Store]:
    store = S3Store(
        _settings(server, **other),
        prefix=PREFIX,
        state_dir=state_dir,
        patience=patience,
        credentials=credentials,
        limits=limits,
    )
    try:
        yield store
    finally:
        await store.close()


async def read(store: S3Store, key: str = KEY) -> bytes:
    async with store.read(key) as reading:
        return b"".join([chunk async for chunk in reading.chunks])


def fresh(data: bytes) -> Fresh:
    return Fresh(Held(data), 0, len(data))


def all_of(head: Head, key: str = KEY) -> Stored:
    return Stored(key, 0, head.size, head.etag)


async def unfinished(store: S3Store, key: str = KEY) -> int:
    return len([upload async for upload in store._uploads.list(key)])


def asked(store: S3Store, operation: str) -> int:
    return sum(n for (name, _), n in store.traffic.requests.items() if name == operation)


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


@dataclass(frozen=True, slots=True)
class Generated:
    """A content of any size that is nowhere held: block *n* is made of *n* alone."""

    size: int

    def read(self, start: int, end: int) -> bytes:
        first = start // BLOCK
        blocks = (hashlib.sha256(b"%d" % n).digest() for n in range(first, -(-end // BLOCK)))
        made = b"".join(block * (BLOCK // len(block)) for block in blocks)
        return made[start - first * BLOCK : end - first * BLOCK]


async def _compose(server: Server, state_dir: Path, key: str, size: int) -> int:
    """Write a generated content; return by how many bytes the process grew meanwhile."""
    async with opened(server, state_dir) as store:
        await store.compose(key, [Fresh(Generated(1), 0, 1)], {}, apart=True)
        before = _resident_peak()
        await store.compose(key, [Fresh(Generated(size), 0, size)], {"td-format": "1"})
        return _resident_peak() - before


def _resident_peak() -> int:
    # What `resource` says of a process includes its parent, until it was executed.
    said = Path("/proc/self/status").read_text()
    return int(said.partition("VmHWM:")[2].split()[0]) * KIB


def program(server: Server, state_dir: Path, key: str, size: int) -> tuple[str, ...]:
    """Return the command of a process that composes a generated content, and says its growth."""
    said = msgspec.json.encode(server).decode()
    return sys.executable, "-m", "tests.contract.s3", said, str(state_dir), key, str(size)


if __name__ == "__main__":
    told, home, at, length = sys.argv[1:]
    grown = _compose(msgspec.json.decode(told, type=Server), Path(home), at, int(length))
    sys.stdout.write(str(asyncio.run(grown)))
