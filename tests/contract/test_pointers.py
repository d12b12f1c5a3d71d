"""What the library promises of uploads and pointers, over a local archive and over real servers."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.proxy import ACCESS_DENIED, EXPIRED_TOKEN, SERVER_ERROR, SLOW_DOWN, FaultProxy
from tests.servers import Missing
from transcriptd import (
    Fault,
    HistorySinkConfig,
    PointerHandle,
    encode_jsonl_delta,
    resolve_pointer,
    upload_full_history,
)
from transcriptd.archive import Span, open_stream
from transcriptd.config.settings import S3Settings
from transcriptd.digest import digest
from transcriptd.errors import Behind, ConfigError, StoreError
from transcriptd.layout import Meta, SegmentMeta, generation_key, history_key, segment_key
from transcriptd.stores.local import LocalStore
from transcriptd.stores.s3 import S3Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.servers import Pool, Server
    from transcriptd.stores import Store

LOCAL = "local"
SERVERS = ("swift-http", "ministack-https")
OLD, NEW = b'{"n":1}\n{"n":2}\n', b'{"n":1}\n{"n":3}\n{"n":4}\n'


@dataclass(frozen=True, slots=True)
class Place:
    """An archive with a prefix of this test's own."""

    store: Store
    prefix: str

    def handle(
        self,
        byte_range: tuple[int, int] | None = None,
        generation: int | None = None,
        session: str = "s",
    ) -> PointerHandle:
        key = history_key(self.prefix, session)
        return PointerHandle(self.store.bucket, key, byte_range, generation)

    async def resolve(self, handle: PointerHandle) -> bytes:
        return await resolve_pointer(self.store, handle, prefix=self.prefix, attempts=1)

    async def put(self, content: bytes, generation: int = 0) -> None:
        lines = content.count(b"\n")
        meta = Meta(generation, lines, len(content), digest(content), "m.0", "codetether")
        await self.store.put(self.handle().key, content, meta.encode())

    async def put_segment(self, content: bytes, start: int, end: int) -> None:
        """Put what a tail segment of generation 0 holds of a content."""
        said = SegmentMeta("m.0", digest(content[:start])).encode()
        await self.store.put(self.segment_key(start), content[start:end], said)

    def segment_key(self, start: int) -> str:
        return segment_key(self.prefix, self.handle().key, 0, start)

    async def close_generation(self, content: bytes) -> None:
        lines = content.count(b"\n")
        meta = Meta(0, lines, len(content), digest(content), "m.0", "codetether")
        await self.store.put(
            generation_key(self.prefix, self.handle().key, 0), content, meta.encode()
        )


@pytest.fixture(scope="session")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what is learnt of the servers is remembered: each is probed once."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def prefix() -> str:
    return f"history-{uuid.uuid4().hex[:12]}/"


def served(servers: Pool, name: str) -> Server:
    kind, _, scheme = name.partition("-")
    try:
        return servers.get(kind, tls=scheme == "https")
    except Missing as missing:
        pytest.skip(str(missing))


def s3_store(server: Server, prefix: str, state_dir: Path, secret_key: str = "") -> S3Store:
    settings = S3Settings(
        endpoint=server.endpoint,
        bucket=server.bucket,
        region=server.region,
        access_key=server.access_key,
        secret_key=secret_key or server.secret_key,
        path_style=True,
        ca_bundle=server.ca_bundle or "",
    )
    return S3Store(settings, prefix=prefix, state_dir=state_dir)


@pytest.fixture(params=(LOCAL, *SERVERS))
async def place(
    request: pytest.FixtureRequest, servers: Pool, learnt: Path, tmp_path: Path, prefix: str
) -> AsyncIterator[Place]:
    store: Store
    if request.param == LOCAL:
        store = LocalStore(tmp_path / "archive", prefix=prefix)
    else:
        store = s3_store(served(servers, request.param), prefix, learnt)
    yield Place(store, prefix)
    await store.close()


async def fault_of(place: Place, handle: PointerHandle) -> Fault:
    with pytest.raises(Fault) as caught:
        await place.resolve(handle)
    return caught.value


async def test_a_pointer_gives_the_bytes_it_means_and_no_others(place: Place) -> None:
    await place.put(OLD)
    assert await place.resolve(place.handle()) == OLD
    assert await place.resolve(place.handle((8, 16))) == OLD[8:16]
    assert await place.resolve(place.handle((0, 1))) == OLD[:1]
    assert await place.resolve(place.handle((15, 999))) == OLD[15:]


async def test_every_absence_is_a_fault_of_its_own(place: Place) -> None:
    assert (await fault_of(place, place.handle())).kind == "no_match"
    assert (await fault_of(place, place.handle((0, 5)))).kind == "no_match"
    await place.put(OLD)
    for start, end in ((3, 3), (9, 4), (len(OLD), len(OLD) + 1), (999, 1000)):
        fault = await fault_of(place, place.handle((start, end)))
        assert fault.kind == "no_match", (start, end)
    assert (await fault_of(place, place.handle(generation=1))).kind == "no_match"
    elsewhere = await fault_of(place, PointerHandle("other-bucket", place.handle().key))
    assert elsewhere.kind == "backend_error"
    assert "other-bucket" in elsewhere.reason
    impossible = await fault_of(place, PointerHandle(place.store.bucket, "a/../b"))
    assert impossible.kind == "backend_error"


async def test_an_empty_object_is_no_match(place: Place) -> None:
    await place.put(b"")
    assert (await fault_of(place, place.handle())).kind == "no_match"
    assert (await fault_of(place, place.handle((0, 5)))).kind == "no_match"


async def test_a_pointer_with_a_generation_gives_it_for_ever(place: Place) -> None:
    await place.put(OLD)
    assert await place.resolve(place.handle((8, 16), 0)) == OLD[8:16]
    await place.close_generation(OLD)
    await place.put(NEW, generation=1)
    assert await place.resolve(place.handle((8, 16), 0)) == OLD[8:16]
    assert await place.resolve(place.handle(generation=0)) == OLD
    assert await place.resolve(place.handle((8, 16), 1)) == NEW[8:16]
    assert await place.resolve(place.handle((8, 16))) == NEW[8:16]
    assert (await fault_of(place, place.handle((len(OLD), 99), 0))).kind == "no_match"


async def test_a_pointer_into_the_tail_gives_the_same_bytes_wherever_they_move(
    place: Place,
) -> None:
    whole = OLD * 3
    await place.put(whole[:10])
    await place.put_segment(whole, 10, 20)
    await place.put_segment(whole, 20, 40)
    ranges = [(0, 5), (5, 15), (12, 18), (15, 39), (30, 40), (39, 40)]

    async def resolves(generation: int | None) -> None:
        for start, end in ranges:
            found = await place.resolve(place.handle((start, end), generation))
            assert found == whole[start:end], (start, end)

    await resolves(None)
    await resolves(0)
    assert await place.resolve(place.handle()) == whole[:40]
    assert (await fault_of(place, place.handle((40, 41)))).kind == "no_match"
    await place.put(whole[:40])  # the base takes in its tail
    await resolves(None)
    await place.store.delete(place.segment_key(10))
    await place.store.delete(place.segment_key(20))
    await resolves(None)
    await place.close_generation(whole[:40])
    await place.put(NEW, generation=1)
    await resolves(0)


async def test_a_tail_with_a_gap_is_a_backend_error_only_where_it_matters(place: Place) -> None:
    await place.put(OLD[:8])
    await place.put_segment(OLD, 12, 16)
    assert await place.resolve(place.handle((2, 8))) == OLD[2:8]
    for byte_range in (None, (2, 9), (13, 14)):
        assert (await fault_of(place, place.handle(byte_range))).kind == "backend_error"


async def test_a_wrong_secret_is_denied(servers: Pool, tmp_path: Path, prefix: str) -> None:
    store = s3_store(served(servers, "swift-http"), prefix, tmp_path, secret_key="canary-wrong")
    try:
        fault = await fault_of(Place(store, prefix), Place(store, prefix).handle())
    finally:
        await store.close()
    assert fault.kind == "denied"
    assert "canary" not in fault.to_json()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(ACCESS_DENIED, "denied"), (EXPIRED_TOKEN, "denied"), (SERVER_ERROR, "backend_error"),
     (SLOW_DOWN, "backend_error")],
)  # fmt: skip
async def test_what_the_server_refuses_has_its_kind(
    servers: Pool, tmp_path: Path, prefix: str, answer: object, kind: str
) -> None:
    async with FaultProxy(served(servers, "ministack-http")) as proxy:
        store = s3_store(proxy.server, prefix, tmp_path)
        place = Place(store, prefix)
        await place.put(OLD)
        proxy.add(answer, method="GET")  # type: ignore[arg-type]  # one of the proxy's answers
        fault = await fault_of(place, place.handle())
        await store.close()
    assert fault.kind == kind


async def test_a_server_that_is_not_there_is_a_backend_error(
    servers: Pool, tmp_path: Path, prefix: str
) -> None:
    async with FaultProxy(served(servers, "ministack-http")) as proxy:
        await proxy.refuse()
        store = s3_store(proxy.server, prefix, tmp_path)
        place = Place(store, prefix)
        assert (await fault_of(place, place.handle())).kind == "backend_error"
        await store.close()


async def test_only_the_range_travels(servers: Pool, tmp_path: Path, prefix: str) -> None:
    async with FaultProxy(served(servers, "ministack-http")) as proxy:
        store = s3_store(proxy.server, prefix, tmp_path)
        place = Place(store, prefix)
        await place.put(OLD)
        assert await place.resolve(place.handle((8, 16))) == OLD[8:16]
        asked = [seen.headers.get("range") for seen in proxy.seen("GET", "history.jsonl")]
        await store.close()
    assert asked == ["bytes=8-15"]


async def test_a_connection_that_breaks_in_the_middle_costs_no_byte(
    servers: Pool, tmp_path: Path, prefix: str
) -> None:
    content = b"".join(b'{"n":%d}\n' % n for n in range(1_000_000))
    async with FaultProxy(served(servers, "ministack-http")) as proxy:
        store = s3_store(proxy.server, prefix, tmp_path)
        place = Place(store, prefix)
        await place.put(content)
        read = bytearray()
        async with open_stream(store, prefix, Span(place.handle().key)) as stream:
            async for chunk in stream.chunks:
                if not read:
                    await proxy.refuse()
                    await proxy.accept()
                read += chunk
        ranges = [seen.headers.get("range") for seen in proxy.seen("GET", "history.jsonl")]
        await store.close()
    assert read == content
    assert ranges[0] is None
    assert len(ranges) > 1
    assert ranges[1]


@pytest.fixture(params=SERVERS)
def sink(request: pytest.FixtureRequest, servers: Pool, learnt: Path, prefix: str) -> Sink:
    return sink_of(served(servers, request.param), prefix, learnt)


@dataclass(frozen=True, slots=True)
class Sink:
    """A sink's configuration, and the environment of a machine that uses it."""

    config: HistorySinkConfig
    environ: dict[str, str]

    def on(self, machine: str) -> Sink:
        state = f"{self.environ['HOME']}/{machine}"
        return Sink(
            self.config,
            {**self.environ, "TRANSCRIPTD_MACHINE": machine, "TRANSCRIPTD_STATE_DIR": state},
        )

    async def upload(self, *messages: object, session: str = "s") -> PointerHandle:
        return await upload_full_history(
            self.config, session, messages, environ=self.environ, attempts=2
        )

    async def resolve(self, handle: PointerHandle) -> bytes:
        return await resolve_pointer(self.config, handle, environ=self.environ, attempts=2)

    async def current(self) -> bytes:
        return await self.resolve(self.config.handle("s"))


def sink_of(server: Server, prefix: str, home: Path) -> Sink:
    config = HistorySinkConfig(
        endpoint=server.endpoint,
        bucket=server.bucket,
        access_key=server.access_key,
        secret_key=server.secret_key,
        prefix=prefix,
    )
    environ = {"HOME": str(home)}
    if server.ca_bundle:
        environ["TRANSCRIPTD_S3__CA_BUNDLE"] = server.ca_bundle
    return Sink(config, environ).on("m1")


ONE, TWO, THREE, FOUR = ({"n": n} for n in (1, 2, 3, 4))


async def test_what_was_uploaded_is_what_the_handle_gives(sink: Sink) -> None:
    handle = await sink.upload(ONE, TWO)
    assert handle == PointerHandle(sink.config.bucket, sink.config.object_key("s"), None, 0)
    assert await sink.resolve(handle) == encode_jsonl_delta([ONE, TWO])
    assert await sink.resolve(PointerHandle.from_json(handle.to_json())) == await sink.current()


async def test_a_longer_history_goes_on_with_its_generation(sink: Sink) -> None:
    await sink.upload(ONE)
    assert (await sink.upload(ONE, TWO)).generation == 0
    assert (await sink.upload(ONE, TWO)).generation == 0
    assert await sink.current() == encode_jsonl_delta([ONE, TWO])


@pytest.mark.parametrize("fewer", [(ONE,), (ONE, THREE), ()])
async def test_a_history_that_was_cut_keeps_the_longer_one(
    sink: Sink, fewer: tuple[object, ...]
) -> None:
    longer = await sink.upload(ONE, TWO, THREE)
    shorter = await sink.upload(*fewer)
    assert (longer.generation, shorter.generation) == (0, 1)
    assert await sink.resolve(longer) == encode_jsonl_delta([ONE, TWO, THREE])
    if fewer:
        assert await sink.resolve(shorter) == encode_jsonl_delta(fewer)
    again = await sink.upload(ONE, FOUR)
    assert await sink.resolve(again) == await sink.current() == encode_jsonl_delta([ONE, FOUR])
    assert await sink.resolve(longer) == encode_jsonl_delta([ONE, TWO, THREE])


async def test_another_machine_is_not_overwritten(sink: Sink) -> None:
    mine = await sink.upload(ONE, TWO)
    other = sink.on("m2")
    theirs = await other.upload(ONE, THREE)
    assert theirs.key != mine.key
    assert await sink.resolve(mine) == await sink.current() == encode_jsonl_delta([ONE, TWO])
    assert await other.resolve(theirs) == encode_jsonl_delta([ONE, THREE])
    more = await other.upload(ONE, THREE, FOUR)
    assert (more.key, more.generation) == (theirs.key, 0)
    less = await other.upload(ONE)
    assert (less.key, less.generation) == (theirs.key, 1)
    assert await other.resolve(more) == encode_jsonl_delta([ONE, THREE, FOUR])


async def test_a_stale_copy_on_another_machine_writes_nothing(sink: Sink) -> None:
    mine = await sink.upload(ONE, TWO)
    with pytest.raises(Behind):
        await sink.on("m2").upload(ONE)
    assert await sink.current() == await sink.resolve(mine) == encode_jsonl_delta([ONE, TWO])


async def test_nothing_to_archive_archives_nothing(sink: Sink) -> None:
    handle = await sink.upload()
    assert handle == sink.config.handle("s")
    with pytest.raises(Fault):
        await sink.resolve(handle)


async def test_what_cannot_be_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    nowhere = HistorySinkConfig("http://127.0.0.1:1", "b", "a", "s")
    sink = Sink(nowhere, {"HOME": str(tmp_path)})
    for session in ("", "../x", "a/b", ".generations", "x" * 129):
        with pytest.raises(ValueError):
            await sink.upload(ONE, session=session)
    with pytest.raises(ValueError):
        await sink.upload([1])
    broken = Sink(nowhere, {"HOME": str(tmp_path), "TRANSCRIPTD_WORKERS": "no"})
    with pytest.raises(ConfigError):
        await broken.upload(ONE)
    with pytest.raises(Fault) as caught:
        await broken.current()
    assert caught.value.kind == "backend_error"


async def test_a_store_that_stays_away_is_said(tmp_path: Path) -> None:
    sink = Sink(HistorySinkConfig("http://127.0.0.1:1", "b", "a", "s"), {"HOME": str(tmp_path)})
    with pytest.raises(StoreError):
        await sink.upload(ONE)


async def test_uploads_of_one_session_at_once_lose_nothing(
    servers: Pool, tmp_path: Path, prefix: str
) -> None:
    sink = sink_of(served(servers, "ministack-http"), prefix, tmp_path)
    messages = [{"n": n} for n in range(4)]
    handles = await asyncio.gather(
        *(
            upload_full_history(sink.config, "s", messages[: n + 1], environ=sink.environ)
            for n in range(len(messages))
        )
    )
    for n, handle in enumerate(handles):
        stored = await sink.resolve(handle)
        assert stored.startswith(encode_jsonl_delta(messages[: n + 1])), n


async def test_a_state_directory_that_cannot_be_made_costs_no_upload(
    servers: Pool, tmp_path: Path, prefix: str
) -> None:
    (tmp_path / "m1").write_text("a file where the state directory belongs")
    sink = sink_of(served(servers, "ministack-http"), prefix, tmp_path)
    await sink.upload(ONE, TWO)
    assert (await sink.upload(ONE)).generation == 1
    assert (tmp_path / "m1").is_file()
