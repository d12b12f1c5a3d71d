"""Uploads that go wrong: what stands stays, nothing is left behind, memory is bounded."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.s3 import (
    KEY,
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
    AccessDenied,
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
from transcriptd.stores.patience import Patience
from transcriptd.stores.s3_parts import MIB, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from tests.exchange import Fault
    from tests.servers import Pool, Server
    from transcriptd.stores import Piece
    from transcriptd.stores.s3 import S3Store

META = {"td-format": "1"}
OLD, NEW = b"old" * 9_000, b"new" * 9_000
REPO = Path(__file__).parents[2]
UNHURRIED = Patience(base_s=4.0, rate=1 << 20)  # longer than a busy machine needs for an answer


@pytest.fixture
async def small(proxy: FaultProxy, tmp_path: Path) -> AsyncIterator[S3Store]:
    """A store with small parts, whose server is known already, and an object in it."""
    async with opened(proxy.server, tmp_path, limits=SMALL, patience=UNHURRIED) as store:
        await store.copies()
        await store.put(KEY, OLD, META)
        proxy.requests.clear()
        store.traffic.requests.clear()
        yield store


async def left(store: S3Store) -> tuple[bytes, int]:
    return await read(store), await unfinished(store)


async def met(
    proxy: FaultProxy, store: S3Store, fault: Fault, *, method: str, pieces: list[Piece]
) -> None:
    """Compose, and let a fault befall a part (PUT) or Complete (POST), the second POST."""
    if method == "PUT":
        proxy.add(fault, method="PUT", key=KEY, times=1)
        await store.compose(KEY, pieces, META)
        return
    release = asyncio.Event()
    proxy.add(Hold(release), method="PUT", key=KEY, times=1)
    async with asyncio.TaskGroup() as group:
        making = group.create_task(_settled(store.compose(KEY, pieces, META)))
        await proxy.until(lambda: proxy.count("PUT", KEY))
        proxy.add(fault, method="POST", key=KEY, times=1)
        release.set()
    if error := making.result():
        raise error


async def _settled(work: Coroutine[object, object, object]) -> Exception | None:
    try:
        await work
    except StoreError as error:
        return error
    return None


REFUSALS: list[tuple[Fault, type[StoreError]]] = [
    (SERVER_ERROR, ServerError),
    (Answer(200, "InternalError"), ServerError),  # as AWS says it when it took a while
    (Answer(400, "EntityTooLarge"), Unsupported),
    (Answer(400, "InvalidPart"), Damaged),
    (Answer(404, "NoSuchUpload"), ConditionFailed),
    (Answer(409, "ConditionalRequestConflict"), ConditionFailed),
    (ACCESS_DENIED, AccessDenied),
    (BlackHole(), Unreachable),
]


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize(("fault", "kind"), REFUSALS)
async def test_an_upload_that_is_refused_leaves_all_as_it_was(
    proxy: FaultProxy, small: S3Store, fault: Fault, kind: type[StoreError], method: str
) -> None:
    with pytest.raises(kind):
        await met(proxy, small, fault, method=method, pieces=[fresh(NEW)])
    assert await left(small) == (OLD, 0)


@pytest.mark.parametrize("name", ["swift", "ministack"])
async def test_when_the_answer_to_complete_is_lost_the_caller_has_to_look(
    served: Callable[[str], Server], tmp_path: Path, name: str
) -> None:
    async with (
        FaultProxy(served(name)) as proxy,
        opened(proxy.server, tmp_path, limits=replace(Limits(), whole=MIB)) as store,
    ):
        await store.copies()
        await store.put(KEY, OLD, META)
        size = 12 * MIB  # two parts
        pieces: list[Piece] = [Fresh(Generated(size), 0, size)]
        proxy.requests.clear()
        with pytest.raises(Unreachable):
            await met(proxy, store, LoseAnswer(), method="POST", pieces=pieces)
        head = await store.head(KEY)
        assert head is not None
        assert head.size == size
        async with store.read(KEY, size - MIB) as reading:
            read_back = b"".join([chunk async for chunk in reading.chunks])
        assert read_back == Generated(size).read(size - MIB, size)
        assert await unfinished(store) == 0


class Lie(Answer):
    """Says that it was done, by an element of that name, and the server never sees it."""

    def render(self, method: str, *, closes: bool) -> bytes:
        body = f"<{self.code}></{self.code}>".encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def test_a_server_that_says_it_completed_and_did_not_is_noticed(
    proxy: FaultProxy, small: S3Store
) -> None:
    assert len(NEW) == len(OLD)
    with pytest.raises(Damaged):
        await met(
            proxy,
            small,
            Lie(200, "CompleteMultipartUploadResult"),
            method="POST",
            pieces=[fresh(NEW)],
        )
    assert await read(small) == OLD
    assert small.guarantees["copy_parts"] == "unknown", "a store that lied is probed again"


async def test_a_copied_part_without_an_etag_is_sent_from_here(
    proxy: FaultProxy, small: S3Store
) -> None:
    head = await small.head(KEY)
    assert head is not None
    await met(
        proxy, small, Lie(200, "CopyPartResult"), method="PUT", pieces=[all_of(head), fresh(NEW)]
    )
    assert await left(small) == (OLD + NEW, 0)
    assert asked(small, "complete_upload") == 1, "nothing is completed that is not known"


async def test_a_part_changed_on_the_way_is_noticed_by_whoever_looks(
    served: Callable[[str], Server], tmp_path: Path
) -> None:
    for name, kind in (("swift", Corrupted), ("moto", Damaged)):
        async with (
            FaultProxy(served(name)) as proxy,
            opened(proxy.server, tmp_path) as store,
        ):
            await store.copies()
            await store.put(KEY, OLD, META)
            proxy.add(FlipByte(), method="PUT", key=KEY, times=1)
            with pytest.raises(kind):
                await store.compose(KEY, [fresh(NEW)], META, apart=True)
            assert await left(store) == (OLD, 0)
            await store.compose(KEY, [fresh(NEW)], META, apart=True)
            assert await read(store) == NEW


async def test_a_content_that_changes_during_the_upload_leaves_all_as_it_was(
    small: S3Store,
) -> None:
    @dataclass(frozen=True, slots=True)
    class Torn:
        size: int = 100_000

        def read(self, start: int, end: int) -> bytes:
            if start > 50_000:
                raise Changing("it grew shorter")
            return b"x" * (end - start)

    with pytest.raises(Changing):
        await small.compose(KEY, [Fresh(Torn(), 0, 100_000)], META)
    with pytest.raises(Changing):
        await small.compose(KEY, [fresh(b"a"), Fresh(Torn(), 0, 100_000)], META)
    assert await left(small) == (OLD, 0)


@pytest.mark.parametrize("step", ["create", "part", "complete"])
@pytest.mark.parametrize("times", [1, 3])
async def test_who_gives_up_leaves_no_upload_behind(
    proxy: FaultProxy, small: S3Store, step: str, times: int
) -> None:
    release = asyncio.Event()
    if step == "complete":
        proxy.add(Hold(release), method="PUT", key=KEY, times=1)
    else:
        hold = Hold(release, answer=True)
        proxy.add(hold, method="POST" if step == "create" else "PUT", key=KEY, times=1)
    making = asyncio.create_task(small.compose(KEY, [fresh(NEW)], META))
    await proxy.until(lambda: proxy.count("POST" if step == "create" else "PUT", KEY))
    if step == "complete":
        never = asyncio.Event()
        proxy.add(Hold(never), method="POST", key=KEY, times=1)
        release.set()
        await proxy.until(lambda: proxy.count("POST", KEY) == 2)
    for _ in range(times):
        making.cancel()
        await asyncio.sleep(0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert await left(small) == (OLD, 0)


async def test_an_upload_of_a_process_that_was_killed_is_discarded_by_the_next(
    served: Callable[[str], Server], tmp_path: Path
) -> None:
    for name in ("ministack", "swift", "minio", "rclone"):
        never = asyncio.Event()
        async with FaultProxy(served(name)) as proxy, opened(proxy.server, tmp_path) as store:
            await store.copies()
            await store.put(KEY, OLD, META)
            for key in (KEY, f"{KEY}.2"):
                proxy.requests.clear()
                rule = proxy.add(Hold(never), method="PUT", key=r"history\.jsonl")
                argv = program(proxy.server, tmp_path, key, 70 * MIB)
                process = await asyncio.create_subprocess_exec(*argv, cwd=REPO)
                try:
                    await proxy.until(lambda: proxy.count("PUT", r"history\.jsonl"), 30)
                finally:
                    process.kill()
                    await process.wait()
                proxy.rules.remove(rule)
            assert await unfinished(store) == 1, name
            proxy.requests.clear()
            await store.discard_uploads(KEY)
            assert await left(store) == (OLD, 0), name
            assert await unfinished(store, f"{KEY}.2") == 1, "another key's upload is not ours"
            assert all(seen.key for seen in proxy.seen("DELETE"))


@pytest.mark.parametrize(
    "answer", [Answer(501, "NotImplemented"), Answer(405, "MethodNotAllowed"), ACCESS_DENIED,
               Answer(400, "InvalidArgument"), Answer(404, "NoSuchKey")],
)  # fmt: skip
async def test_where_uploads_cannot_be_listed_none_are_discarded(
    proxy: FaultProxy, small: S3Store, answer: Answer
) -> None:
    proxy.add(answer, method="GET", key="^$")
    await small.discard_uploads(KEY)
    assert asked(small, "list_uploads") == 1


async def test_credentials_that_may_not_abort_or_delete_do_not_keep_it_from_being_probed(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    proxy.add(ACCESS_DENIED, method="DELETE")
    async with opened(proxy.server, tmp_path) as store:
        assert await store.copies()
        assert store.guarantees["complete_if_match"] == "honoured"
        head = await store.put(KEY, OLD, META)
        await store.compose(KEY, [fresh(NEW)], META, Matches(head.etag), apart=True)
        await store.discard_uploads(KEY)
        assert await read(store) == NEW


async def test_a_server_that_fails_at_copies_is_used_without_and_asked_again(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    async with opened(proxy.server, tmp_path, limits=SMALL) as store:
        first = await store.put(KEY, OLD, META)
        rule = proxy.add(SERVER_ERROR, method="PUT", key=r"\.probe/\d+-target")
        assert not await store.copies()
        await store.compose(KEY, [all_of(first), fresh(NEW)], META, Matches(first.etag))
        assert await read(store) == OLD + NEW
        assert store.guarantees["copy_parts"] == "unknown"
        proxy.rules.remove(rule)
        assert await store.copies()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
def test_a_large_content_is_written_in_bounded_memory(servers: Pool, tmp_path: Path) -> None:
    for name in ("minio", "swift"):
        try:
            server = servers.get(name)
        except Missing:
            continue
        size = 180 * MIB
        done = subprocess.run(
            program(server, tmp_path, KEY, size), cwd=REPO, capture_output=True, check=True
        )
        assert 8 * MIB < int(done.stdout) < 100 * MIB, name
        return
    pytest.skip("neither minio nor swift is installed")
