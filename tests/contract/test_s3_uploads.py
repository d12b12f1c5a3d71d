"""Uploads that go wrong: what stands stays, nothing is left behind, memory is bounded."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.s3 import (
    KEY,
    SHORT,
    SMALL,
    Generated,
    all_of,
    asked,
    fresh,
    opened,
    program,
    read,
    unfinished,
)
from tests.proxy import (
    ACCESS_DENIED,
    SERVER_ERROR,
    Answer,
    BlackHole,
    FaultProxy,
    FlipByte,
    Hold,
    LoseAnswer,
)
from tests.servers import Missing
from transcriptd.errors import (
    Changing,
    ConditionFailed,
    Corrupted,
    Damaged,
    ServerError,
    StoreError,
    Unreachable,
    Unsupported,
)
from transcriptd.stores import Fresh, Matches
from transcriptd.stores.s3_parts import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.servers import Pool, Server
    from transcriptd.stores import Piece
    from transcriptd.stores.s3 import S3Store

META = {"td-format": "1"}
OLD, NEW = b"old" * 9_000, b"new" * 9_000
REPO = Path(__file__).parents[2]


@pytest.fixture
async def small(proxy: FaultProxy, tmp_path: Path) -> AsyncIterator[S3Store]:
    """A store with small parts, whose server is known already, and an object in it."""
    async with opened(proxy.server, tmp_path, limits=SMALL, patience=SHORT) as store:
        await store.copies()
        await store.put(KEY, OLD, META)
        proxy.requests.clear()
        store.traffic.requests.clear()
        yield store


async def left(store: S3Store) -> tuple[bytes, int]:
    return await read(store), await unfinished(store)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (SERVER_ERROR, ServerError),
        (Answer(200, "InternalError"), ServerError),
        (Answer(400, "EntityTooLarge"), Unsupported),
        (Answer(404, "NoSuchUpload"), ConditionFailed),
        (ACCESS_DENIED, StoreError),
        (BlackHole(), Unreachable),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_an_upload_that_is_refused_leaves_all_as_it_was(
    proxy: FaultProxy, small: S3Store, fault: Answer, kind: type[StoreError], method: str
) -> None:
    release = asyncio.Event()
    proxy.add(Hold(release), method="PUT", key=KEY, times=1)
    making = asyncio.create_task(small.compose(KEY, [fresh(NEW)], META))
    await proxy.until(lambda: proxy.count("PUT", KEY) == 4)
    rule = proxy.add(fault, method=method, key=KEY)
    if method == "PUT":
        proxy.rules.reverse()
    release.set()
    await asyncio.wait({making})
    proxy.rules.remove(rule)
    with pytest.raises(kind):
        await making
    assert await left(small) == (OLD, 0)
