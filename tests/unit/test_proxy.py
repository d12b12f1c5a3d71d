"""The fault proxy in front of a small web server that keeps what it is given."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.proxy import (
    SERVER_ERROR,
    SLOW_DOWN,
    BlackHole,
    Drip,
    FaultProxy,
    FlipByte,
    Hold,
    LoseAnswer,
    Reset,
    in_thread,
    too_many_requests,
)
from tests.servers.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BODY = bytes(range(256)) * 1000


@dataclass(slots=True)
class Origin:
    """A server that stores what is PUT."""

    port: int = 0
    stored: dict[str, bytes] = field(default_factory=dict)
    hosts: set[str] = field(default_factory=set)

    @property
    def server(self) -> Server:
        return Server("origin", f"http://127.0.0.1:{self.port}", "b", "", "")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.hosts.add(request.headers["Host"])
        if request.method == "PUT":
            self.stored[request.path] = await request.read()
            return web.Response(headers={"ETag": '"e"'})
        if request.query_string == "chunked":
            response = web.StreamResponse()
            response.enable_chunked_encoding()
            await response.prepare(request)
            for _ in range(3):
                await response.write(b"piece")
            return response
        return web.Response(body=self.stored.get(request.path, b""))


async def refuse_before_the_body(request: web.Request) -> None:
    if request.query_string == "refused":
        raise web.HTTPForbidden
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    app = web.Application(client_max_size=1 << 24)
    origin = Origin()
    app.router.add_route("*", "/{key:.*}", origin.handle, expect_handler=refuse_before_the_body)
    async with TestServer(app) as server:
        origin.port = server.port or 0
        yield origin


@asynccontextmanager
async def session(proxy: FaultProxy) -> AsyncIterator[aiohttp.ClientSession]:
    context = None
    if proxy.server.ca_bundle:
        context = ssl.create_default_context(cafile=proxy.server.ca_bundle)
    async with aiohttp.ClientSession(
        proxy.server.endpoint,
        connector=aiohttp.TCPConnector(ssl=context or True),
        timeout=aiohttp.ClientTimeout(total=10),
    ) as client:
        client._retry_connection = False  # aiohttp repeats a PUT by itself otherwise
        yield client


@asynccontextmanager
async def proxied(
    origin: Origin, *, tls: bool = False, seed: int = 0
) -> AsyncIterator[tuple[FaultProxy, aiohttp.ClientSession]]:
    async with FaultProxy(origin.server, tls=tls, seed=seed) as proxy, session(proxy) as client:
        yield proxy, client


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


async def put(client: aiohttp.ClientSession, path: str, body: bytes = b"body") -> int:
    async with client.put(path, data=body) as answer:
        await answer.read()
        return answer.status


@pytest.mark.parametrize("tls", [False, True])
async def test_requests_pass_unchanged_and_are_recorded(origin: Origin, tls: bool) -> None:  # noqa: FBT001 - pytest's
    async with proxied(origin, tls=tls) as (proxy, client):
        assert await put(client, "/b/dir/a%20b?x=1", BODY) == 200
        async with client.get("/b/dir/a%20b") as answer:
            assert await answer.read() == BODY
        [stored, read] = proxy.requests
        assert (stored.method, stored.path, stored.query) == ("PUT", "/b/dir/a b", "x=1")
        assert (stored.key, stored.status, stored.body_bytes) == ("dir/a b", 200, len(BODY))
        assert "content-length" in stored.headers
        assert (read.method, read.body_bytes) == ("GET", 0)
        assert proxy.count("PUT", "^dir/") == 1
        assert origin.hosts == {urlsplit(proxy.server.endpoint).netloc}


async def test_a_connection_serves_many_requests(origin: Origin) -> None:
    async with FaultProxy(origin.server) as proxy:
        address = urlsplit(proxy.server.endpoint)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for number in range(3):
            writer.write(
                f"PUT /b/{number} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()
    assert set(origin.stored) == {"/b/0", "/b/1", "/b/2"}


async def test_chunked_bodies_pass_both_ways(origin: Origin) -> None:
    async with proxied(origin) as (proxy, client):
        async with client.put("/b/k", data=in_pieces(BODY)) as answer:
            assert answer.status == 200
        async with client.get("/b/k?chunked") as answer:
            assert await answer.read() == b"piece" * 3
        assert origin.stored["/b/k"] == BODY
        assert proxy.requests[0].body_bytes == len(BODY)
        assert proxy.requests[0].headers["transfer-encoding"] == "chunked"


async def test_a_body_goes_when_the_server_asks_for_it(origin: Origin) -> None:
    async with proxied(origin) as (proxy, client):
        async with client.put("/b/k", data=BODY, expect100=True) as answer:
            assert answer.status == 200
        assert origin.stored["/b/k"] == BODY
        async with client.put("/b/k?refused", data=BODY, expect100=True) as answer:
            assert answer.status == 403
        assert proxy.requests[1].body_bytes == 0


async def test_a_fault_may_come_before_the_body_is_asked_for(origin: Origin) -> None:
    async with proxied(origin) as (proxy, client):
        proxy.add(SLOW_DOWN, times=1)
        async with client.put("/b/k", data=BODY, expect100=True) as answer:
            assert answer.status == 503
        async with client.put("/b/k", data=BODY, expect100=True) as answer:
            assert answer.status == 200


async def test_a_closed_port_refuses_and_opens_again_as_the_same(origin: Origin) -> None:
    async with proxied(origin) as (proxy, client):
        assert await put(client, "/b/k") == 200
        await proxy.refuse()
        with pytest.raises(aiohttp.ClientConnectorError):
            await put(client, "/b/k")
        await proxy.accept()
        assert await put(client, "/b/k") == 200
        assert proxy.count() == 2


async def test_a_black_hole_never_answers(origin: Origin) -> None:
    async with proxied(origin) as (proxy, client):
        rule = proxy.add(BlackHole())
        hanging = asyncio.create_task(put(client, "/b/k", BODY))
        await proxy.until(lambda: rule.hits)
        await proxy.until(lambda: proxy.requests[0].body_bytes == len(BODY))
        assert not hanging.done()
        hanging.cancel()
        await proxy.until(lambda: proxy.requests[0].ended)
        assert proxy.requests[0].status is None
        assert origin.stored == {}


async def test_leaving_the_proxy_ends_what_hangs(origin: Origin) -> None:
    async with proxied(origin) as (proxy, client):
        rule = proxy.add(BlackHole())
        hanging = asyncio.create_task(put(client, "/b/k"))
        await proxy.until(lambda: rule.hits)
        await proxy.close()
        with pytest.raises(aiohttp.ClientConnectionError):
            await hanging


async def test_a_dripping_answer_comes_byte_by_byte(origin: Origin) -> None:
    pause = 0.001
    origin.stored["/b/k"] = b"x" * 100
    async with proxied(origin) as (proxy, client):
        proxy.add(Drip(pause))
        async with client.get("/b/k") as answer:
            assert await answer.read() == b"x" * 100
        await proxy.until(lambda: proxy.requests[0].ended)
        took = (proxy.requests[0].ended or 0) - proxy.requests[0].started
        assert took > 100 * pause


async def test_a_fault_befalls_only_what_matches_and_only_so_often(origin: Origin) -> None:
    async with proxied(origin) as (proxy, client):
        rule = proxy.add(SLOW_DOWN, method="PUT", key=r"^tail/", times=2)
        async with client.get("/b/tail/1") as answer:
            assert answer.status == 200
        assert await put(client, "/b/base/1") == 200
        assert [await put(client, "/b/tail/1") for _ in range(3)] == [503, 503, 200]
        assert rule.hits == 2
        assert [seen.status for seen in proxy.seen("PUT", "tail")] == [503, 503, 200]
        assert [seen.server_status for seen in proxy.seen("PUT", "tail")] == [None, None, 200]


async def test_an_injected_answer_has_its_code_and_headers(origin: Origin) -> None:
    async with proxied(origin) as (proxy, client):
        proxy.add(too_many_requests("7"))
        async with client.put("/b/k", data=BODY) as answer:
            assert answer.status == 429
            assert answer.headers["Retry-After"] == "7"
            assert "<Code>TooManyRequests</Code>" in await answer.text()
        async with client.head("/b/k") as answer:
            assert answer.status == 429
        assert origin.stored == {}


async def test_chance_is_the_same_for_the_same_seed(origin: Origin) -> None:
    async def run(seed: int) -> list[int]:
        async with proxied(origin, seed=seed) as (proxy, client):
            proxy.add(SERVER_ERROR, probability=0.5)
            return [await put(client, "/b/k") for _ in range(20)]

    first, again, other = await run(1), await run(1), await run(2)
    assert first == again != other
    assert set(first) == {200, 500}


async def test_a_lost_answer_leaves_the_effect(origin: Origin) -> None:
    async with proxied(origin) as (proxy, client):
        proxy.add(LoseAnswer(), times=1)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await put(client, "/b/k", BODY)
        assert origin.stored["/b/k"] == BODY
        assert (proxy.requests[0].server_status, proxy.requests[0].status) == (200, None)


async def test_a_reset_leaves_no_effect(origin: Origin) -> None:
    async with proxied(origin) as (proxy, client):
        proxy.add(Reset(), times=1)
        with pytest.raises(aiohttp.ClientConnectionError):
            await put(client, "/b/k")
        assert origin.stored == {}


async def test_one_byte_of_the_payload_is_flipped(origin: Origin) -> None:
    async with proxied(origin) as (proxy, client):
        proxy.add(FlipByte())
        assert await put(client, "/b/k", BODY) == 200
        assert origin.stored["/b/k"] == bytes([BODY[0] ^ 1]) + BODY[1:]


async def test_a_flipped_byte_leaves_the_framing_of_aws_chunks(origin: Origin) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"4"
        yield b"\r\n"
        yield b"data\r\n0\r\n"
        yield b"x-amz-checksum-crc32:AAAA\r\n\r\n"

    async with proxied(origin) as (proxy, client):
        proxy.add(FlipByte())
        headers = {"Content-Encoding": "aws-chunked"}
        async with client.put("/b/k", data=pieces(), headers=headers) as answer:
            assert answer.status == 200
        sent = b"4\r\neata\r\n0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n"
        assert origin.stored["/b/k"] == sent


@pytest.mark.parametrize("answer", [False, True])
async def test_a_held_request_goes_on_when_released(origin: Origin, answer: bool) -> None:  # noqa: FBT001 - pytest's
    async with proxied(origin) as (proxy, client):
        release = asyncio.Event()
        proxy.add(Hold(release, answer=answer), key="^held$")
        held = asyncio.create_task(put(client, "/b/held"))
        await proxy.until(lambda: proxy.count(key="^held$"))
        if answer:
            await proxy.until(lambda: proxy.requests[0].server_status)
        assert await put(client, "/b/other") == 200
        assert ("/b/held" in origin.stored) == answer
        assert not held.done()
        release.set()
        assert await held == 200


async def test_waiting_for_what_never_comes_ends(origin: Origin) -> None:
    async with FaultProxy(origin.server) as proxy:
        with pytest.raises(TimeoutError):
            await proxy.until(proxy.count, within=0.01)


async def test_a_proxy_in_a_thread_serves_a_blocking_client(origin: Origin) -> None:
    def blocking() -> tuple[int, int]:
        with in_thread(origin.server) as proxy:
            address = urlsplit(proxy.server.endpoint)
            connection = http.client.HTTPConnection(address.netloc, timeout=10)
            connection.request("PUT", "/b/k", body=BODY)
            status = connection.getresponse().status
            connection.close()
            return status, proxy.count("PUT")

    assert await asyncio.to_thread(blocking) == (200, 1)
    assert origin.stored["/b/k"] == BODY
