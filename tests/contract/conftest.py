"""Servers for the tests of one store's behaviour, with faults on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.proxy import FaultProxy
from tests.servers import Missing, Server, create_bucket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.servers import Pool


@pytest.fixture
def served(servers: Pool) -> Callable[[str], Server]:
    def serve(name: str) -> Server:
        try:
            return create_bucket(servers.get(name))
        except Missing as missing:
            pytest.skip(str(missing))

    return serve


@pytest.fixture
async def proxy(served: Callable[[str], Server]) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(served("ministack")) as proxy:
        yield proxy


@pytest.fixture
async def strict(served: Callable[[str], Server]) -> AsyncIterator[FaultProxy]:
    """A server that checks signatures, clocks and checksums."""
    async with FaultProxy(served("swift")) as proxy:
        yield proxy
