"""What `stores.Store` promises, held against every store and every server there is."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests.ledger import Ledger
from tests.memory_store import Bucket, MemoryStore
from tests.servers import NAMES, Missing
from transcriptd.config.settings import S3Settings
from transcriptd.content import Held
from transcriptd.errors import Changing, ConditionFailed, NotFound, RangeInvalid
from transcriptd.stores import Absent, Fresh, Matches, Stored
from transcriptd.stores.local import LocalStore
from transcriptd.stores.s3 import S3Store
from transcriptd.stores.s3_client import SLOTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.servers import Pool
    from transcriptd.stores import Condition, Head, Piece, Store

LOCAL, MEMORY = "local", "memory"
PLACES = (LOCAL, MEMORY, *(f"{name}-http" for name in NAMES), "swift-https")
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
MORE_THAN_CONNECTIONS = 2 * SLOTS + 1
MIB = 1 << 20


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
    elif place == MEMORY:
        bucket = Bucket(prefix)
        bucket.ledger = Ledger("nothing/")  # what is written here is no archive
        opened = MemoryStore(bucket)
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


class Odd(Held):
    """A content that is asked for no more than its place says."""

    def read(self, start: int, end: int) -> bytes:
        assert 0 <= start <= end <= self.size
        return self.data[start:end]


@dataclass(frozen=True, slots=True)
class Failing:
    """A content whose last byte cannot be read."""

    data: bytes
    error: Exception

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, end: int) -> bytes:
        if end == len(self.data):
            raise self.error
        return self.data[start:end]


def _bytes(size: int) -> bytes:
    return (b"%06d\n" * 1024 % tuple(range(1024)) * (size // 7168 + 1))[:size]


def _whole(key: str, head: Head) -> Stored:
    return Stored(key, 0, head.size, head.etag)


def _fresh(body: bytes) -> Fresh:
    return Fresh(Held(body), 0, len(body))


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
    for _ in range(MORE_THAN_CONNECTIONS):
        async with store.read(key) as reading:
            async for _chunk in reading.chunks:
                break
    assert await _read(store, key, 0, 2) == b"xx"


async def test_an_object_is_composed_of_fresh_bytes(store: Store, prefix: str) -> None:
    odd, key = Odd(b"0123456789"), f"{prefix}odd +%41/ünï.jsonl"
    head = await store.compose(key, [Fresh(odd, 2, 5), Fresh(Held(b"x"), 0, 1)], META)
    assert head.size == 4
    assert META.items() <= head.metadata.items()
    assert await _read(store, key, etag=head.etag) == b"234x"
    found = await store.head(key)
    assert found is not None
    assert (found.etag, found.size) == (head.etag, head.size)
    assert META.items() <= found.metadata.items()


async def test_an_object_may_be_composed_of_nothing(store: Store, prefix: str) -> None:
    head = await store.compose(f"{prefix}empty", [], META)
    assert (head.size, await _read(store, f"{prefix}empty")) == (0, b"")


# What is longer is copied like 5 MiB, in more parts: of the real servers, two are asked for it.
@pytest.mark.parametrize(
    ("place", "size"),
    [
        *product(PLACES, (10, 5 * MIB - 1, 5 * MIB)),
        *product((LOCAL, MEMORY, "swift-http", "minio-http"), (12 * MIB + 7,)),
    ],
)
async def test_an_object_is_continued_again_and_again(store: Store, prefix: str, size: int) -> None:
    key, expected = f"{prefix}s/history.jsonl", _bytes(size)
    head = await store.put(key, expected, META)
    for number, added in enumerate((b"a line\n", b"", _bytes(6 * MIB), b"the end\n")):
        said = {**META, "td-generation": str(number)}
        head = await store.compose(
            key, [_whole(key, head), _fresh(added)], said, Matches(head.etag)
        )
        expected += added
        assert head.size == len(expected)
        found = await store.head(key)
        assert found is not None
        assert (found.etag, found.size) == (head.etag, head.size)
        assert said.items() <= found.metadata.items()
    assert await _read(store, key, etag=head.etag) == expected


async def test_a_part_of_an_object_may_take_its_place(store: Store, prefix: str) -> None:
    key = f"{prefix}s/history.jsonl"
    head = await store.put(key, b"0123456789", META)
    pieces = (Stored(key, 0, 4, head.etag), _fresh(b"new"), Stored(key, 8, 10, head.etag))
    head = await store.compose(key, pieces, META, Matches(head.etag))
    assert await _read(store, key, etag=head.etag) == b"0123new89"


async def test_stored_objects_are_joined(store: Store, prefix: str) -> None:
    base, tail = f"{prefix}s/history.jsonl", f"{prefix}.tail/söurce +%41/{{}}"
    head = await store.put(base, _bytes(6 * MIB), META)
    pieces: list[Piece] = [_whole(base, head)]
    expected = _bytes(6 * MIB)
    for number in range(4):
        body = b"%d\n" % number * 100
        segment = await store.put(tail.format(number), body, {"td-pre": "x"})
        pieces.append(_whole(tail.format(number), segment))
        expected += body
    joined = f"{prefix}.generations/s/tärget/000000.jsonl"
    kept = await store.compose(joined, pieces, META, Absent())
    assert META.items() <= kept.metadata.items()
    assert "td-pre" not in kept.metadata
    assert await _read(store, joined, etag=kept.etag) == expected
    assert await _read(store, base, etag=head.etag) == _bytes(6 * MIB)


async def test_a_large_object_is_composed_of_ranges_of_others(store: Store, prefix: str) -> None:
    body = _bytes(14 * MIB)
    head = await store.put(f"{prefix}a", body, {})
    cuts = [(1, 6 * MIB), (6 * MIB, 6 * MIB + 9), (6 * MIB + 9, 13 * MIB)]
    pieces = [Stored(f"{prefix}a", start, end, head.etag) for start, end in cuts]
    await store.compose(f"{prefix}b", [_fresh(b"<"), *pieces, _fresh(b">")], META)
    assert await _read(store, f"{prefix}b") == b"<" + body[1 : 13 * MIB] + b">"


@pytest.mark.parametrize("size", [10, 6 * MIB])
async def test_what_is_composed_keeps_to_its_condition(
    store: Store, prefix: str, size: int
) -> None:
    key, body = f"{prefix}composed", _bytes(size)
    first = await store.compose(key, [_fresh(body)], META, Absent())
    second = await store.put(key, b"second", META, Matches(first.etag))
    stale: list[Condition] = [Absent(), Matches(first.etag), Matches("0" * 32)]
    for condition in stale:
        with pytest.raises(ConditionFailed):
            await store.compose(key, [_fresh(body)], META, condition)
        with pytest.raises(ConditionFailed):
            await store.compose(key, [_whole(key, second), _fresh(body)], META, condition)
    with pytest.raises(ConditionFailed):
        await store.compose(f"{prefix}absent", [_fresh(body)], META, Matches(second.etag))
    assert await store.head(f"{prefix}absent") is None
    assert await _read(store, key, etag=second.etag) == b"second"


@pytest.mark.parametrize("size", [10, 6 * MIB])
async def test_nothing_is_composed_of_what_has_changed(
    store: Store, prefix: str, size: int
) -> None:
    source, target = f"{prefix}source", f"{prefix}target"
    stood = await store.put(target, b"stands", META)
    old = await store.put(source, _bytes(size), META)
    await store.put(source, _bytes(size + 1), META)
    gone = Stored(f"{prefix}absent", 0, size, old.etag)
    for piece in (_whole(source, old), gone):
        ways: list[list[Piece]] = [[piece], [piece, _fresh(b"more")], [_fresh(b"some"), piece]]
        for pieces in ways:
            with pytest.raises(ConditionFailed):
                await store.compose(target, pieces, META, Matches(stood.etag))
            with pytest.raises(ConditionFailed):
                await store.compose(f"{prefix}free", pieces, META)
    with pytest.raises(ConditionFailed):  # itself has changed, and nothing else forbids it
        await store.compose(source, [_whole(source, old), _fresh(b"more")], META)
    assert await _read(store, target, etag=stood.etag) == b"stands"
    assert await _read(store, source) == _bytes(size + 1)
    assert await store.head(f"{prefix}free") is None


@pytest.mark.parametrize("size", [10, 6 * MIB])
async def test_what_is_composed_apart_has_an_etag_of_its_own(
    store: Store, place: str, prefix: str, size: int
) -> None:
    if place == "rclone-http":
        pytest.skip("its ETags are sums of the bytes, however those were sent")
    key, body = f"{prefix}apart", _bytes(size)
    put = await store.put(key, body, META)
    head = await store.compose(key, [_fresh(body)], META, Matches(put.etag), apart=True)
    assert head.etag != put.etag
    with pytest.raises(ConditionFailed):
        await store.put(key, b"late", META, Matches(put.etag))
    assert await _read(store, key, etag=head.etag) == body


@pytest.mark.parametrize("size", [10, 12 * MIB])
async def test_a_content_that_fails_leaves_what_was_there(
    store: Store, prefix: str, size: int
) -> None:
    key = f"{prefix}s/history.jsonl"
    stood = await store.put(key, _bytes(6 * MIB), META)
    for error in (Changing("it changed"), FileNotFoundError("of the source")):
        failing = Fresh(Failing(_bytes(size), error), 0, size)
        ways: list[list[Piece]] = [[failing], [_whole(key, stood), failing]]
        for pieces in ways:
            with pytest.raises(type(error)):
                await store.compose(key, pieces, META, Matches(stood.etag))
        with pytest.raises(type(error)):
            await store.compose(f"{prefix}free", [_fresh(b"x"), failing], META, Absent())
    assert await _read(store, key, etag=stood.etag) == _bytes(6 * MIB)
    assert await _keys(store, prefix) == [key]
    head = await store.compose(key, [_whole(key, stood), _fresh(b"on\n")], META)
    assert await _read(store, key, etag=head.etag) == _bytes(6 * MIB) + b"on\n"


async def test_what_is_copied_by_the_store_does_not_go_over_the_wire(
    store: Store, prefix: str
) -> None:
    if not await store.copies():
        pytest.skip("this server is not proven to copy")
    key, added = f"{prefix}s/history.jsonl", _bytes(6 * MIB)
    head = await store.put(key, _bytes(6 * MIB), META)
    sent, received = store.traffic.sent_bytes, store.traffic.received_bytes
    await store.compose(key, [_whole(key, head), _fresh(added)], META, Matches(head.etag))
    assert store.traffic.sent_bytes - sent == len(added)
    assert store.traffic.received_bytes - received == 0


async def test_uploads_may_be_discarded_where_there_are_none(store: Store, prefix: str) -> None:
    await store.discard_uploads(f"{prefix}absent")
    head = await store.put(f"{prefix}there", b"x", META)
    await store.discard_uploads(f"{prefix}there")
    assert await _read(store, f"{prefix}there", etag=head.etag) == b"x"


async def test_many_objects_are_removed_at_once(store: Store, prefix: str) -> None:
    keys = [f"{prefix}.tail/s ünï +%41&<>\"'/{number:06}.jsonl" for number in range(30)]
    await asyncio.gather(*(store.put(key, b"x", {}) for key in keys[::2]))
    await store.put(f"{prefix}s/history.jsonl", b"x", {})
    await store.delete(*keys)
    await store.delete(*keys)
    await store.delete()
    assert await _keys(store, prefix) == [f"{prefix}s/history.jsonl"]


@pytest.mark.parametrize("place", [LOCAL, MEMORY, "moto-http", "minio-http"])
async def test_more_objects_are_listed_and_removed_than_go_into_a_page_and_a_request(
    store: Store, prefix: str
) -> None:
    keys = [f"{prefix}.tail/s/{number:06}.jsonl" for number in range(MANY)]
    for start in range(0, MANY, 64):
        await asyncio.gather(*(store.put(key, b"", {}) for key in keys[start : start + 64]))
    assert await _keys(store, prefix) == keys
    await store.delete(*keys)
    assert await _keys(store, prefix) == []


async def test_of_many_keys_one_that_may_not_go_keeps_them_all(store: Store, prefix: str) -> None:
    tail, base = f"{prefix}.tail/s/000000-0.jsonl", f"{prefix}s/history.jsonl"
    await store.put(tail, b"x", {})
    await store.put(base, b"x", {})
    with pytest.raises(ValueError):
        await store.delete(tail, base)
    assert await _keys(store, prefix) == [tail, base]


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
            partial(store.compose, key, [], {}),
            partial(store.compose, "a", [Stored(key, 0, 1, "x")], {}),
            partial(store.discard_uploads, key),
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
    known = [store.guarantees[name] for name in ("if_none_match", "if_match", "etag_is_md5")]
    assert set(known) <= {"honoured", "not honoured"}
    assert set(store.guarantees.values()) <= {"honoured", "not honoured", "unknown"}
