"""What `stores.Store` promises, held against every store and every server there is."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.servers import NAMES, Missing
from transcriptd.config.settings import S3Settings
from transcriptd.errors import ConditionFailed, NotFound, RangeInvalid
from transcriptd.stores import Absent, Matches
from transcriptd.stores.local import LocalStore
from transcriptd.stores.s3 import S3Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.servers import Pool
    from transcriptd.stores import Store

LOCAL = "local"
PLACES = (LOCAL, *(f"{name}-http" for name in NAMES), "swift-https", "ministack-https")
META = {"td-format": "1", "td-generation": "0", "td-digest": "ab" * 32, "td-writer": "m.0f"}
ODD_KEYS = (
    "plain/history.jsonl",
    "with space/and+plus.jsonl",
    "percent%41%2Fescaped.jsonl",
    "ünïcödé/日本語.jsonl",
    "punctuation/!&$@=;:,?#[]'()*~.jsonl",
    "Upper/CASE.jsonl",
    "a.b/..c/d.",
    f"long/{'n' * 240}/history.jsonl",
)
CLIMBING = ("", "/absolute", "a//b", "a/", "../up", "a/../b", "a/./b", "a/..", "nul\0", "x" * 1025)
MANY = 1_005


@pytest.fixture(scope="session")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what is learnt of the servers is remembered: each is probed once."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def prefix() -> str:
    return f"history-{uuid.uuid4().hex[:12]}/"


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def store(
    place: str, servers: Pool, learnt: Path, tmp_path: Path, prefix: str
) -> AsyncIterator[Store]:
    opened: Store
    if place == LOCAL:
        opened = LocalStore(tmp_path / "archive", prefix=prefix)
    else:
        name, _, scheme = place.partition("-")
        try:
            server = servers.get(name, tls=scheme == "https")
        except Missing as missing:
            pytest.skip(str(missing))
        settings = S3Settings(
            endpoint=server.endpoint,
            bucket=server.bucket,
            region=server.region,
            access_key=server.access_key,
            secret_key=server.secret_key,
            path_style=True,
            ca_bundle=server.ca_bundle or "",
        )
        opened = S3Store(settings, prefix=prefix, state_dir=learnt)
    yield opened
    await opened.close()


async def _read(
    store: Store, key: str, start: int = 0, end: int | None = None, *, etag: str | None = None
) -> bytes:
    async with store.read(key, start, end, etag=etag) as reading:
        return b"".join([chunk async for chunk in reading.chunks])


async def _keys(store: Store, prefix: str) -> list[str]:
    return [entry.key async for entry in store.list(prefix)]


async def test_what_was_put_is_what_is_read(store: Store, prefix: str) -> None:
    for odd in ODD_KEYS:
        key, body = f"{prefix}{odd}", odd.encode() * 3
        written = await store.put(key, body, META)
        found = await store.head(key)
        assert found is not None
        assert (found.etag, found.size) == (written.etag, len(body)), odd
        assert META.items() <= found.metadata.items(), odd
        async with store.read(key) as reading:
            assert (reading.head.etag, reading.head.size) == (written.etag, len(body))
            assert META.items() <= reading.head.metadata.items()
            assert b"".join([chunk async for chunk in reading.chunks]) == body


async def test_a_listing_gives_every_key_below_the_prefix_in_order(
    store: Store, prefix: str
) -> None:
    keys = [f"{prefix}{odd}" for odd in (*ODD_KEYS, "a-b", "a.b0", "a/b")]
    for key in keys:
        await store.put(key, key.encode(), {})
    await store.put(f"other-{prefix}x", b"", {})
    listed = [entry async for entry in store.list(prefix)]
    assert [entry.key for entry in listed] == sorted(keys, key=str.encode)
    for entry in listed:
        head = await store.head(entry.key)
        assert head is not None
        assert (entry.size, entry.etag) == (head.size, head.etag)
        assert abs(entry.modified - head.modified) < 2


async def test_a_listing_of_a_part_of_a_name_gives_what_begins_with_it(
    store: Store, prefix: str
) -> None:
    for name in ("ab/1", "abc/2", "abd", "b/3"):
        await store.put(f"{prefix}{name}", b"", {})
    assert await _keys(store, f"{prefix}ab") == [f"{prefix}{k}" for k in ("ab/1", "abc/2", "abd")]
    assert await _keys(store, f"{prefix}abc/") == [f"{prefix}abc/2"]
    assert await _keys(store, f"{prefix}none/") == []


@pytest.mark.parametrize("place", [LOCAL, "moto-http", "ministack-http"])
async def test_a_listing_goes_on_behind_its_first_page(store: Store, prefix: str) -> None:
    keys = [f"{prefix}{number:05}" for number in range(MANY)]
    for start in range(0, MANY, 64):
        await asyncio.gather(*(store.put(key, b"", {}) for key in keys[start : start + 64]))
    assert await _keys(store, prefix) == keys


async def test_an_empty_object_can_be_written_and_read(store: Store, prefix: str) -> None:
    key = f"{prefix}empty"
    await store.put(key, b"", META)
    assert await _read(store, key) == b""
    assert await _read(store, key, 0, 9) == b""
    assert await _read(store, key, 0, 0) == b""
    with pytest.raises(RangeInvalid):
        await _read(store, key, 1)


async def test_a_range_gives_its_bytes_and_is_clamped_at_the_end(store: Store, prefix: str) -> None:
    key, body = f"{prefix}ten", b"0123456789"
    await store.put(key, body, {})
    ranges = ((0, None), (0, 1), (0, 10), (0, 99), (3, 7), (9, 10), (9, None), (5, 5), (10, 10))
    for start, end in ranges:
        assert await _read(store, key, start, end) == body[start:end], (start, end)
    async with store.read(key, 2, 4) as reading:
        assert reading.head.size == 10


async def test_a_range_behind_the_end_is_refused(store: Store, prefix: str) -> None:
    await store.put(f"{prefix}ten", b"0123456789", {})
    for start, end in ((10, None), (10, 12), (11, None), (11, 11)):
        with pytest.raises(RangeInvalid):
            await _read(store, f"{prefix}ten", start, end)
    for start, end in ((-1, None), (5, 4)):
        with pytest.raises(ValueError):
            await _read(store, f"{prefix}ten", start, end)


async def test_what_is_absent_is_said_to_be_absent(store: Store, prefix: str) -> None:
    assert await store.head(f"{prefix}absent") is None
    for start, end in ((0, None), (0, 1), (3, None), (0, 0)):
        with pytest.raises(NotFound):
            await _read(store, f"{prefix}absent", start, end)


async def test_a_reader_with_an_etag_never_gets_another_version(store: Store, prefix: str) -> None:
    key = f"{prefix}versions"
    first = await store.put(key, b"the first one", {})
    assert await _read(store, key, etag=first.etag) == b"the first one"
    second = await store.put(key, b"second", {})
    assert await _read(store, key, 0, 6, etag=second.etag) == b"second"
    for start, end in ((0, None), (0, 3), (8, None), (0, 0)):
        with pytest.raises(ConditionFailed):
            await _read(store, key, start, end, etag=first.etag)


async def test_an_object_that_must_be_absent_is_created_once(store: Store, prefix: str) -> None:
    key = f"{prefix}created"
    await store.put(key, b"first", META, Absent())
    with pytest.raises(ConditionFailed):
        await store.put(key, b"second", {}, Absent())
    assert await _read(store, key) == b"first"


async def test_an_object_is_replaced_only_while_it_has_the_etag(store: Store, prefix: str) -> None:
    key = f"{prefix}replaced"
    first = await store.put(key, b"first", META)
    second = await store.put(key, b"second", META, Matches(first.etag))
    assert second.etag != first.etag
    for stale in (first.etag, "0" * 32, "nonsense"):
        with pytest.raises(ConditionFailed):
            await store.put(key, b"third", META, Matches(stale))
    assert await _read(store, key) == b"second"
    with pytest.raises(ConditionFailed):
        await store.put(f"{prefix}absent", b"third", META, Matches(second.etag))
    assert await store.head(f"{prefix}absent") is None


async def test_an_etag_from_any_answer_fits_as_a_condition(store: Store, prefix: str) -> None:
    key = f"{prefix}tags"
    await store.put(key, b"0", {})
    head = await store.head(key)
    assert head is not None
    await store.put(key, b"1", {}, Matches(head.etag))
    async with store.read(key) as reading:
        etag = reading.head.etag
    await store.put(key, b"2", {}, Matches(etag))
    (etag,) = [entry.etag async for entry in store.list(key)]
    await store.put(key, b"3", {}, Matches(etag))


@pytest.mark.parametrize(
    "place", [LOCAL, "ministack-http", "ceph-http", "minio-http", "versitygw-http"]
)
async def test_of_those_who_race_to_create_an_object_one_wins(store: Store, prefix: str) -> None:
    key = f"{prefix}raced"
    attempts = [store.put(key, b"%d" % number, {}, Absent()) for number in range(12)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    winners = [number for number, result in enumerate(results) if not isinstance(result, Exception)]
    assert len(winners) == 1
    assert all(isinstance(r, ConditionFailed) for r in results if isinstance(r, Exception))
    assert await _read(store, key) == b"%d" % winners[0]


async def test_many_requests_at_once_do_not_disturb_each_other(store: Store, prefix: str) -> None:
    bodies = {f"{prefix}{n:02}": bytes([n]) * (n * 997) for n in range(40)}
    await asyncio.gather(*(store.put(key, body, META) for key, body in bodies.items()))
    read = await asyncio.gather(*(_read(store, key) for key in bodies))
    assert read == list(bodies.values())


async def test_a_large_body_is_given_in_pieces(store: Store, prefix: str) -> None:
    key, body = f"{prefix}large", bytes(range(256)) * (5 * 4096)
    await store.put(key, body, META)
    async with store.read(key) as reading:
        pieces = [len(chunk) async for chunk in reading.chunks]
    assert sum(pieces) == len(body)
    assert 0 < max(pieces) <= 1 << 20
    assert await _read(store, key, 1_000_000) == body[1_000_000:]


async def test_a_reader_may_leave_before_the_end(store: Store, prefix: str) -> None:
    key = f"{prefix}left"
    await store.put(key, b"x" * (3 << 20), {})
    for _ in range(40):
        async with store.read(key) as reading:
            async for _chunk in reading.chunks:
                break
    assert await _read(store, key, 0, 2) == b"xx"


async def test_a_copy_keeps_bytes_and_metadata(store: Store, prefix: str) -> None:
    source, target = f"{prefix}söurce +%41/a", f"{prefix}.generations/tärget/000000.jsonl"
    head = await store.put(source, b"content\n", META)
    copied = await store.copy(source, target, etag=head.etag)
    assert copied.size == len(b"content\n")
    assert META.items() <= copied.metadata.items()
    assert await _read(store, target, etag=copied.etag) == b"content\n"
    assert await _read(store, source, etag=head.etag) == b"content\n"


async def test_a_copy_replaces_nothing_and_takes_only_what_was_meant(
    store: Store, prefix: str
) -> None:
    source, target = f"{prefix}source", f"{prefix}target"
    head = await store.put(source, b"content", META)
    await store.put(target, b"stands", {})
    with pytest.raises(ConditionFailed):
        await store.copy(source, target, etag=head.etag)
    assert await _read(store, target) == b"stands"
    await store.put(source, b"changed", META)
    with pytest.raises(ConditionFailed):
        await store.copy(source, f"{prefix}free", etag=head.etag)
    with pytest.raises(ConditionFailed):
        await store.copy(f"{prefix}absent", f"{prefix}free", etag=head.etag)
    assert await store.head(f"{prefix}free") is None


async def test_only_what_lies_below_tail_is_removed(store: Store, prefix: str) -> None:
    tail, base = f"{prefix}.tail/s/000000-0.jsonl", f"{prefix}s/history.jsonl"
    await store.put(tail, b"x", {})
    await store.put(base, b"x", {})
    await store.delete(tail)
    await store.delete(tail)
    assert await store.head(tail) is None
    for key in (base, f"{prefix}.tail", "x/.tail/y", f"{prefix}.tail/../s/history.jsonl"):
        with pytest.raises(ValueError):
            await store.delete(key)
    assert await _keys(store, prefix) == [base]


async def test_a_key_that_could_climb_is_refused(store: Store) -> None:
    for key in CLIMBING:
        attempts: list[Callable[[], Awaitable[object]]] = [
            partial(store.head, key),
            partial(store.put, key, b"", {}),
            partial(_read, store, key),
            partial(store.copy, "a", key, etag="x"),
            partial(store.copy, key, "a", etag="x"),
            partial(store.delete, key),
        ]
        for attempt in attempts:
            with pytest.raises(ValueError):
                await attempt()
    assert store.traffic.requests == {}


async def test_a_closed_store_can_be_used_again(store: Store, prefix: str) -> None:
    await store.put(f"{prefix}a", b"1", {})
    await store.close()
    await store.close()
    assert await _read(store, f"{prefix}a") == b"1"


async def test_requests_and_bytes_are_counted(store: Store, prefix: str) -> None:
    await store.put(f"{prefix}warm", b"", {}, Absent())
    before = dict(store.traffic.requests)
    sent, received = store.traffic.sent_bytes, store.traffic.received_bytes
    await store.put(f"{prefix}counted", b"12345", {})
    await _read(store, f"{prefix}counted", 1)
    asked = {
        key: n - before.get(key, 0)
        for key, n in store.traffic.requests.items()
        if n != before.get(key, 0)
    }
    assert asked == {("put", "ok"): 1, ("get", "ok"): 1}
    assert (store.traffic.sent_bytes - sent, store.traffic.received_bytes - received) == (5, 4)


async def test_what_a_store_guarantees_is_said_in_fixed_words(store: Store, prefix: str) -> None:
    await store.put(f"{prefix}first", b"", {}, Absent())
    assert set(store.guarantees) == {"if_none_match", "if_match", "etag_is_md5"}
    assert set(store.guarantees.values()) <= {"honoured", "not honoured"}
