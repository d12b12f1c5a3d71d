"""Objects made of pieces: copied by the server, sent in parts, and proven either way."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.contract.s3 import KEY, PREFIX, SMALL, all_of, asked, fresh, opened, read, unfinished
from tests.proxy import (
    ACCESS_DENIED,
    Answer,
    FaultProxy,
    Hold,
)
from tests.servers import Missing, create_bucket
from transcriptd.content import Held
from transcriptd.errors import (
    ConditionFailed,
)
from transcriptd.stores import Absent, Fresh, Matches, Stored
from transcriptd.stores.s3_hashes import etag_of_parts, md5_of
from transcriptd.stores.s3_parts import KIB, MIB, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.servers import Pool, Server
    from transcriptd.stores import Piece

PLAIN = ("swift-http", "ministack-http", "moto-http", "ceph-http", "minio-http", "versitygw-http")
COPYING = (*PLAIN, "swift-https", "minio-https")
META = {"td-format": "1", "td-generation": "0"}
OTHER = {"td-format": "1", "td-generation": "1"}
REPO = Path(__file__).parents[2]


@pytest.fixture
def reached(servers: Pool) -> Callable[[str], Server]:
    def reach(name: str) -> Server:
        kind, _, scheme = name.partition("-")
        try:
            return create_bucket(servers.get(kind, tls=scheme == "https"))
        except Missing as missing:
            pytest.skip(str(missing))

    return reach


@pytest.mark.parametrize("name", COPYING)
async def test_what_is_stored_is_copied_and_the_rest_is_sent(
    reached: Callable[[str], Server], tmp_path: Path, name: str
) -> None:
    base, tail = random.Random(1).randbytes(6 * MIB), b'{"n":1}\n'
    async with opened(reached(name), tmp_path) as store:
        assert await store.copies()
        first = await store.put(KEY, base, META)
        sent, received = store.traffic.sent_bytes, store.traffic.received_bytes
        head = await store.compose(KEY, [all_of(first), fresh(tail)], OTHER, Matches(first.etag))
        assert (head.size, head.metadata) == (len(base) + len(tail), OTHER)
        assert store.traffic.sent_bytes - sent == len(tail)
        assert store.traffic.received_bytes == received
        assert await store.head(KEY) == head
        again = await store.compose(KEY, [all_of(head), fresh(tail)], OTHER, Matches(head.etag))
        assert await read(store) == base + tail + tail
        assert again.etag != head.etag
        assert await unfinished(store) == 0


async def test_where_copies_are_a_lie_the_bytes_come_here_and_go_back(
    reached: Callable[[str], Server], tmp_path: Path
) -> None:
    base, tail = random.Random(1).randbytes(6 * MIB), b'{"n":1}\n'
    async with (
        FaultProxy(reached("rclone-http")) as proxy,
        opened(proxy.server, tmp_path, limits=replace(Limits(), whole=MIB)) as store,
    ):
        await store.put(f"{PREFIX}bystander", b"stays", {})
        assert not await store.copies()
        assert store.guarantees["copy_parts"] == "not honoured"
        first = await store.put(KEY, base, META)
        copied = asked(store, "copy_part")
        await store.compose(KEY, [all_of(first), fresh(tail)], OTHER, Matches(first.etag))
        assert await read(store) == base + tail
        assert asked(store, "copy_part") == copied
        with pytest.raises(ConditionFailed):
            await store.compose(KEY, [fresh(base)], META, Matches(first.etag))
        with pytest.raises(ConditionFailed):
            await store.compose(KEY, [fresh(base)], META, Absent())
        await store.discard_uploads(KEY)
        await store.delete(f"{PREFIX}.tail/a", f"{PREFIX}.tail/b")
        assert await read(store, f"{PREFIX}bystander") == b"stays"
        assert all(seen.key for seen in proxy.seen("DELETE")), "a bucket itself is never deleted"
        assert all(seen.key or "delete" in seen.query for seen in proxy.seen("POST|PUT"))


@pytest.mark.parametrize("name", ["ministack-http", "ministack-https", "rclone-http"])
@pytest.mark.parametrize("seed", range(3))
async def test_pieces_of_any_kind_become_one_object_in_their_order(
    reached: Callable[[str], Server], tmp_path: Path, name: str, seed: int
) -> None:
    chance = random.Random(seed)
    async with opened(reached(name), tmp_path, limits=SMALL) as store:
        objects = {}
        for key in (f"{PREFIX}a/history.jsonl", f"{PREFIX}b/history.jsonl", KEY):
            body = chance.randbytes(chance.randrange(100 * KIB, 300 * KIB))
            objects[key] = body, (await store.put(key, body, META)).etag
        pieces: list[Piece] = []
        whole = b""
        for _ in range(12):
            key, (body, etag) = chance.choice(list(objects.items()))
            start = chance.choice((0, chance.randrange(len(body))))
            end = chance.choice((len(body), start + chance.randrange(9 * KIB), start))
            end = max(start, min(end, len(body)))
            content = Held(body)
            kinds = (Stored(key, start, end, etag), Fresh(content, start, end))
            pieces.append(chance.choice(kinds))
            whole += body[start:end]
        head = await store.compose(KEY, pieces, OTHER, Matches(objects[KEY][1]))
        assert (head.size, head.metadata) == (len(whole), OTHER)
        assert await read(store) == whole
        assert (asked(store, "list_parts") > 0) == await store.copies()


@pytest.mark.parametrize("name", PLAIN)
async def test_a_part_of_an_object_is_copied_alone(
    reached: Callable[[str], Server], tmp_path: Path, name: str
) -> None:
    base = random.Random(2).randbytes(12 * MIB)
    async with opened(reached(name), tmp_path) as store:
        first = await store.put(KEY, base, META)
        middle = Stored(KEY, 100, 100 + 5 * MIB, first.etag)
        sent = store.traffic.sent_bytes
        await store.compose(f"{KEY}.copy", [middle, fresh(b"end")], META, Absent())
        assert await read(store, f"{KEY}.copy") == base[100 : 100 + 5 * MIB] + b"end"
        assert asked(store, "copy_part") == 2
        assert store.traffic.sent_bytes - sent < KIB


@asynccontextmanager
async def ignoring(server: Server, header: bytes) -> AsyncIterator[Server]:
    """A server that does not know a header: it gets one of another name."""
    address = urlsplit(server.endpoint)
    other = header.replace(b"range", b"bytes")

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up = await asyncio.open_connection(address.hostname, address.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(1 << 20):
                    sink.write(data.replace(header, other))
                    await sink.drain()
            except OSError:
                pass  # one of the two left
            finally:
                sink.close()

        await asyncio.gather(pump(reader, up[1]), pump(up[0], writer))

    listening = await asyncio.start_server(forward, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        yield replace(server, endpoint=f"http://127.0.0.1:{port}")


async def test_a_server_that_copies_more_than_was_asked_for_replaces_nothing(
    reached: Callable[[str], Server], tmp_path: Path
) -> None:
    base = random.Random(3).randbytes(30 * KIB)
    async with (
        ignoring(reached("ministack-http"), b"x-amz-copy-source-range") as server,
        opened(server, tmp_path, limits=SMALL) as store,
    ):
        first = await store.put(KEY, base, META)
        part = Stored(KEY, 0, 20 * KIB, first.etag)
        await store.compose(KEY, [part, fresh(b"end")], OTHER, Matches(first.etag))
        assert asked(store, "list_parts") == 1
        assert asked(store, "copy_part") == 2, "the probe's and this one"
        assert await read(store) == base[: 20 * KIB] + b"end"


async def test_what_may_not_be_looked_at_before_it_counts_is_not_copied(
    reached: Callable[[str], Server], tmp_path: Path
) -> None:
    base = random.Random(3).randbytes(30 * KIB)
    async with (
        FaultProxy(reached("ministack-http")) as proxy,
        opened(proxy.server, tmp_path, limits=SMALL) as store,
    ):
        first = await store.put(KEY, base, META)
        proxy.add(ACCESS_DENIED, method="GET", key=KEY, times=1)
        part = Stored(KEY, 0, 20 * KIB, first.etag)
        await store.compose(KEY, [part, fresh(b"end")], OTHER)
        assert asked(store, "copy_part") == 2
        assert await read(store) == base[: 20 * KIB] + b"end"


async def test_a_copy_that_the_server_refuses_in_the_end_is_sent_from_here(
    reached: Callable[[str], Server], tmp_path: Path
) -> None:
    base = random.Random(3).randbytes(30 * KIB)
    async with (
        FaultProxy(reached("ministack-http")) as proxy,
        opened(proxy.server, tmp_path, limits=SMALL) as store,
    ):
        first = await store.put(KEY, base, META)
        assert await store.copies()
        proxy.add(Answer(400, "InvalidPart"), method="PUT", key=KEY, times=1)
        await store.compose(KEY, [all_of(first), fresh(b"end")], OTHER, Matches(first.etag))
        assert await read(store) == base + b"end"
        assert await unfinished(store) == 0


async def test_what_is_small_is_one_put(proxy: FaultProxy, tmp_path: Path) -> None:
    async with opened(proxy.server, tmp_path) as store:
        first = await store.put(KEY, b"base\n", META)
        store.traffic.requests.clear()
        head = await store.compose(KEY, [all_of(first), fresh(b"tail\n")], OTHER)
        assert store.traffic.requests == {("get", "ok"): 1, ("put", "ok"): 1}
        assert (head.etag, head.metadata) == (md5_of(b"base\ntail\n"), OTHER)
        nothing = await store.compose(f"{KEY}.empty", [], META, Absent(), apart=True)
        assert nothing.size == 0


async def test_requests_and_bytes_of_uploads_are_counted(proxy: FaultProxy, tmp_path: Path) -> None:
    async with opened(proxy.server, tmp_path, limits=SMALL) as store:
        first = await store.put(KEY, b"x" * 20_000, META)
        await store.copies()
        store.traffic.requests.clear()
        sent = store.traffic.sent_bytes
        tail = fresh(b"y" * 10_000)
        await store.compose(KEY, [all_of(first), tail], META, Matches(first.etag))
        assert store.traffic.sent_bytes - sent == 10_000
        assert store.traffic.requests == {
            ("head", "ok"): 3,
            ("create_upload", "ok"): 1,
            ("copy_part", "ok"): 1,
            ("upload_part", "ok"): 2,
            ("complete_upload", "ok"): 1,
        }
        await store.discard_uploads(KEY)
        assert store.traffic.requests["list_uploads", "ok"] == 1


@pytest.mark.parametrize("name", ["swift-http", "ministack-http", "minio-http"])
async def test_what_is_to_be_apart_has_another_etag_than_the_same_bytes_put(
    reached: Callable[[str], Server], tmp_path: Path, name: str
) -> None:
    async with opened(reached(name), tmp_path) as store:
        put = await store.put(KEY, b"same\n", META)
        apart = await store.compose(KEY, [fresh(b"same\n")], OTHER, Matches(put.etag), apart=True)
        assert apart.etag == etag_of_parts([md5_of(b"same\n")]) != put.etag
        with pytest.raises(ConditionFailed):
            await store.put(KEY, b"late\n", META, Matches(put.etag))
        assert await read(store) == b"same\n"


@pytest.mark.parametrize("name", ["swift-http", "ministack-http", "ceph-http", "minio-http"])
async def test_a_condition_that_does_not_hold_costs_no_upload(
    reached: Callable[[str], Server], tmp_path: Path, name: str
) -> None:
    async with opened(reached(name), tmp_path) as store:
        await store.put(KEY, b"stands", META)
        await store.copies()
        store.traffic.requests.clear()
        for condition in (Absent(), Matches("0" * 32)):
            with pytest.raises(ConditionFailed):
                await store.compose(KEY, [fresh(b"new")], OTHER, condition, apart=True)
        with pytest.raises(ConditionFailed):
            await store.compose(f"{KEY}.2", [fresh(b"new")], OTHER, Matches("x"), apart=True)
        assert asked(store, "create_upload") == 0
        assert await read(store) == b"stands"


@pytest.mark.parametrize("name", ["swift-http", "ministack-http", "ceph-http", "minio-http"])
@pytest.mark.parametrize("expected", ["absent", "matches"])
async def test_a_condition_that_breaks_during_the_upload_fails_it(
    reached: Callable[[str], Server], tmp_path: Path, name: str, expected: str
) -> None:
    release = asyncio.Event()
    async with (
        FaultProxy(reached(name)) as proxy,
        opened(proxy.server, tmp_path) as store,
    ):
        await store.copies()
        condition: Absent | Matches = Absent()
        if expected == "matches":
            condition = Matches((await store.put(KEY, b"old", META)).etag)
        sent = proxy.count("PUT", KEY)
        rule = proxy.add(Hold(release, answer=True), method="PUT", key=KEY)
        making = asyncio.create_task(
            store.compose(KEY, [fresh(b"ours")], OTHER, condition, apart=True)
        )
        await proxy.until(lambda: proxy.count("PUT", KEY) > sent)
        proxy.rules.remove(rule)
        await store.put(KEY, b"theirs", META)
        release.set()
        with pytest.raises(ConditionFailed):
            await making
        assert await read(store) == b"theirs"
        assert await unfinished(store) == 0


@pytest.mark.parametrize("least", [5 * KIB, 90 * KIB])  # copied, or fetched
async def test_a_stored_piece_that_is_not_what_it_was_fails_the_condition(
    reached: Callable[[str], Server], tmp_path: Path, least: int
) -> None:
    source = f"{PREFIX}source/history.jsonl"
    limits = replace(SMALL, least=least, most=200 * KIB)
    async with opened(reached("ministack-http"), tmp_path, limits=limits) as store:
        await store.put(KEY, b"old", META)
        first = all_of(await store.put(source, b"x" * 80 * KIB, META), source)
        for piece in (
            replace(first, etag="0" * 32),
            replace(first, end=81 * KIB),
            replace(first, start=80 * KIB, end=81 * KIB),
            replace(first, key=f"{source}.none"),
        ):
            with pytest.raises(ConditionFailed):
                await store.compose(KEY, [fresh(b"y" * 90 * KIB), first, piece], META)
        assert await read(store) == b"old"
        assert await unfinished(store) == 0


async def test_a_stored_piece_that_changes_during_the_upload_fails_the_condition(
    reached: Callable[[str], Server], tmp_path: Path
) -> None:
    source = f"{PREFIX}source/history.jsonl"
    release = asyncio.Event()
    async with (
        FaultProxy(reached("ministack-http")) as proxy,  # it ignores conditions on copied parts
        opened(proxy.server, tmp_path, limits=SMALL) as store,
    ):
        await store.copies()
        first = await store.put(source, b"x" * 20 * KIB, META)
        rule = proxy.add(Hold(release), method="PUT", key=KEY)
        making = asyncio.create_task(store.compose(KEY, [all_of(first, source)], META, Absent()))
        await proxy.until(lambda: proxy.count("PUT", KEY))
        proxy.rules.remove(rule)
        await store.put(source, b"y" * 20 * KIB, META)
        release.set()
        with pytest.raises(ConditionFailed):
            await making
        assert await store.head(KEY) is None
        assert await unfinished(store) == 0
