"""What every fault needs: a home, and one server that conditions work on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fault.archives import Archive
from tests.home import Home
from tests.kept import KeptInBucket, KeptInDirectory
from tests.proxy import FaultProxy
from tests.servers import Missing, create_bucket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.servers import Pool, Server


@pytest.fixture
def home() -> Iterator[Home]:
    """A home whose path is short, because that of the socket below it may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="td-") as path:
        yield Home.make(Path(path, "home"))


@pytest.fixture
def server(servers: Pool) -> Server:
    """MiniStack: it honours conditions, and is quick."""
    return create_bucket(servers.get("ministack"))


@pytest.fixture
async def proxy(server: Server, home: Home) -> AsyncIterator[FaultProxy]:
    """A proxy before the server, which the daemon at `home` is pointed at."""
    async with FaultProxy(server) as proxy:
        home.use(proxy.server)
        yield proxy


@pytest.fixture
async def swift(servers: Pool, home: Home) -> AsyncIterator[FaultProxy]:
    """A proxy before Swift, which checks what it is sent."""
    async with FaultProxy(create_bucket(servers.get("swift"))) as proxy:
        home.use(proxy.server)
        yield proxy


@pytest.fixture
async def archive(
    request: pytest.FixtureRequest, servers: Pool, home: Home
) -> AsyncIterator[Archive]:
    """The archive that is named by the parameter: `local`, or that of a server."""
    home.environ["TRANSCRIPTD_MACHINE"] = "m1"
    if request.param == "local":
        yield Archive(KeptInDirectory(home.archive))
        return
    try:
        server = create_bucket(servers.get(request.param))
    except Missing as missing:
        pytest.skip(str(missing))
    async with FaultProxy(server) as proxy:
        home.use(proxy.server)
        yield Archive(KeptInBucket(server), proxy)
