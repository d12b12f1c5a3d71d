"""The S3 servers that tests run against: each starts when first asked for, once per session."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.servers import NAMES as ALL
from tests.servers import Missing, Pool, Server, create_bucket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


# The external one is asked for by naming it: nothing is missing where it is not.
EXTERNAL = "TRANSCRIPTD_TEST_S3_ENDPOINT" in os.environ
NAMES = tuple(name for name in ALL if name != "external" or EXTERNAL)


# A shell gives its background jobs an ignored SIGINT, which the processes that tests start would
# inherit; a handler is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _over_both(*names: str) -> list[object]:
    schemes = ("http", "https")
    return [pytest.param((n, s == "https"), id=f"{n}-{s}") for n in names for s in schemes]


def _served(pool: Pool, param: tuple[str, bool]) -> Server:
    name, tls = param
    try:
        return pool.get(name, tls=tls)
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def servers() -> Iterator[Pool]:
    with Pool() as pool:
        yield pool


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(("swift", False), id="swift"),
        pytest.param(("ministack", True), id="tls"),
    ],
)
def s3_server(request: pytest.FixtureRequest, servers: Pool) -> Server:
    """The servers that pip installs: the strict one, and over TLS the one with conditions."""
    return _served(servers, request.param)


@pytest.fixture(scope="session", params=_over_both(*NAMES))
def any_server(request: pytest.FixtureRequest, servers: Pool) -> Server:
    """Every server there is, and the one that is named from outside."""
    return _served(servers, request.param)


@pytest.fixture
def bucket(s3_server: Server) -> Server:
    """A server of `s3_server` with a bucket of this test's own."""
    return create_bucket(s3_server)


@pytest.fixture
def any_bucket(any_server: Server) -> Server:
    """A server of `any_server` with a bucket of this test's own."""
    return create_bucket(any_server)


@pytest.fixture
async def _connections_closed() -> AsyncIterator[None]:
    """Let connections finish closing before the loop does.

    aiohttp does not wait for the end of TLS when a server has closed a connection early, and
    the loop would leave the socket to the garbage collector, which warns in some later test.
    """
    yield
    selector = getattr(asyncio.get_running_loop(), "_selector", None)
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            # One is the loop's own.
            while selector and len(selector.get_map()) > 1:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.002)


@pytest.fixture(autouse=True)
def _clean_loop(request: pytest.FixtureRequest) -> None:
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_connections_closed")
