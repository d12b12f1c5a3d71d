"""Encryption by the server: asked for with each object, believed only where the server says so."""

from __future__ import annotations

import json
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.contract.s3 import KEY, PREFIX, PROBE, all_of, asked, fresh, opened, read
from tests.proxy import Answer, FaultProxy
from tests.sdk import encrypted
from tests.servers.server import KMS_KEY
from transcriptd.errors import Retry
from transcriptd.stores import Absent, Matches
from transcriptd.stores.s3_errors import NotEncrypted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.servers import Server
    from transcriptd.stores.s3 import S3Store

BASE, TAIL = random.Random(7).randbytes(6 << 20), b'{"n":1}\n'


class Asking(NamedTuple):
    """What the configuration says."""

    sse: str = ""
    key: str = ""


NOTHING, SSE_S3, SSE_KMS = Asking(), Asking("AES256"), Asking("aws:kms", KMS_KEY)
both = pytest.mark.parametrize("asking", [SSE_S3, SSE_KMS], ids=["sse-s3", "sse-kms"])


def on(*able: tuple[str, Asking]) -> pytest.MarkDecorator:
    ids = [f"{name}-{asking.sse}" for name, asking in able]
    return pytest.mark.parametrize(("name", "asking"), able, ids=ids)


@on(*((name, asking) for name in ("minio", "moto", "ministack") for asking in (SSE_S3, SSE_KMS)),
    ("ceph", SSE_KMS))  # fmt: skip
async def test_each_object_is_encrypted_as_asked_however_it_was_written(
    served: Callable[[str], Server], tmp_path: Path, name: str, asking: Asking
) -> None:
    server = served(name)
    async with encrypting(server, tmp_path, asking) as store:
        first = await store.put(KEY, BASE, {"td-format": "1"}, Absent())
        sealed = await store.compose(
            KEY, [all_of(first), fresh(TAIL)], {"td-format": "1"}, Matches(first.etag)
        )
        await store.compose(f"{KEY}.copy", [all_of(sealed)], {}, Absent())
        await store.compose(f"{KEY}.apart", [fresh(TAIL)], {}, Absent(), apart=True)
        undone = await store.put(KEY, TAIL, {}, Matches(sealed.etag))
        assert asked(store, "copy_part") > 2, "what is stored is copied by the server"
        assert await read(store, f"{KEY}.copy") == BASE + TAIL
        assert await read(store) == TAIL
        found = await store.head(KEY)
        assert found
        assert found.etag == undone.etag
    said = encrypted(server)
    assert set(said) == {KEY, f"{KEY}.copy", f"{KEY}.apart"}
    for algorithm, key in said.values():
        assert algorithm == asking.sse
        assert key.endswith(asking.key)


@both
async def test_what_was_written_before_it_was_asked_for_goes_on_encrypted(
    served: Callable[[str], Server], tmp_path: Path, asking: Asking
) -> None:
    server = served("minio")
    async with opened(server, tmp_path) as store:
        plain = await store.put(KEY, BASE, {}, Absent())
    async with encrypting(server, tmp_path, asking) as store:
        head = await store.compose(KEY, [all_of(plain), fresh(TAIL)], {}, Matches(plain.etag))
        assert await read(store) == BASE + TAIL
    assert encrypted(server)[KEY][0] == asking.sse
    async with opened(server, tmp_path) as store:
        await store.compose(KEY, [all_of(head), fresh(TAIL)], {}, Matches(head.etag))
        assert await read(store) == BASE + TAIL + TAIL


async def test_what_etags_are_is_found_out_for_each_way_to_encrypt(
    served: Callable[[str], Server], tmp_path: Path
) -> None:
    async with FaultProxy(served("minio")) as proxy:
        honoured = {NOTHING: "honoured", SSE_S3: "honoured", SSE_KMS: "not honoured"}
        for asking, word in honoured.items():
            async with encrypting(proxy.server, tmp_path, asking) as store:
                await store.put(KEY, TAIL, {})
                assert store.guarantees["etag_is_md5"] == word, asking
        probed = proxy.count("PUT", PROBE)
        for asking in honoured:
            async with encrypting(proxy.server, tmp_path, asking) as store:
                await store.put(KEY, TAIL, {})
        assert proxy.count("PUT", PROBE) == probed, "each is remembered"
    assert len(json.loads((tmp_path / "capabilities.json").read_text())) == 3


@on(*((name, asking) for name in ("rclone", "versitygw") for asking in (SSE_S3, SSE_KMS)),
    ("ceph", SSE_S3))  # fmt: skip
async def test_to_a_server_that_ignores_it_nothing_is_written(
    served: Callable[[str], Server], tmp_path: Path, name: str, asking: Asking
) -> None:
    async with refused(served(name), tmp_path, asking) as (store, error):
        assert "x-amz-server-side-encryption" in str(error)
        assert "does not say" in str(error)
        assert [entry async for entry in store.list(PREFIX)] == []


@both
async def test_a_server_that_cannot_encrypt_is_told_of_with_what_to_do(
    served: Callable[[str], Server], tmp_path: Path, asking: Asking
) -> None:
    async with refused(served("swift"), tmp_path, asking) as (store, error):
        assert str(error).startswith("put: the server refuses such a request")
        assert [entry async for entry in store.list(PREFIX)] == []


async def test_a_key_that_the_server_does_not_have_is_told_of(
    served: Callable[[str], Server], tmp_path: Path
) -> None:
    asking = Asking("aws:kms", "nobodys")
    async with refused(served("minio"), tmp_path, asking) as (_, error):
        assert "KeyNotFound" in str(error)


@pytest.mark.parametrize("code", ["KMS.DisabledException", "KMS.NotFoundException"])
async def test_a_key_that_is_out_of_use_is_an_outage_and_no_failed_condition(
    proxy: FaultProxy, tmp_path: Path, code: str
) -> None:
    async with encrypting(proxy.server, tmp_path, SSE_KMS) as store:
        head = await store.put(KEY, BASE, {}, Absent())
        rule = proxy.add(Answer(400, code))
        for condition in (None, Absent(), Matches(head.etag)):
            with pytest.raises(NotEncrypted):
                await store.put(f"{KEY}.2", TAIL, {}, condition)
        with pytest.raises(NotEncrypted):
            await read(store)
        proxy.rules.remove(rule)
        assert await read(store) == BASE


async def test_a_server_that_forgets_about_it_later_is_noticed_at_each_write(
    served: Callable[[str], Server], tmp_path: Path
) -> None:
    asking = Asking("aws:kms", "one")
    async with encrypting(served("ministack"), tmp_path, asking) as store:
        first = await store.put(KEY, BASE, {}, Absent())
        await store.copies()
        # It is asked for something else than what has to be said.
        store._objects._extra = store._uploads._extra = {"ServerSideEncryption": "AES256"}
        with pytest.raises(NotEncrypted, match=r"^put: .* says 'AES256'$"):
            await store.put(f"{KEY}.2", TAIL, {}, Absent())
        with pytest.raises(NotEncrypted, match=r"^head: .* says 'AES256'$"):
            await store.compose(KEY, [all_of(first), fresh(TAIL)], {}, Matches(first.etag))
        store._objects._extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "two"}
        with pytest.raises(NotEncrypted, match="another x-amz-server-side-encryption-aws-kms-key"):
            await store.put(f"{KEY}.3", TAIL, {}, Absent())


def encrypting(server: Server, state: Path, asking: Asking) -> AbstractAsyncContextManager[S3Store]:
    return opened(server, state, sse=asking.sse, sse_kms_key_id=asking.key)


@asynccontextmanager
async def refused(
    server: Server, state: Path, asking: Asking
) -> AsyncIterator[tuple[S3Store, NotEncrypted]]:
    """Write, which must fail: as an outage of the store, with a hint, and each time."""
    async with encrypting(server, state, asking) as store:
        with pytest.raises(NotEncrypted) as caught:
            await store.put(KEY, TAIL, {}, Absent())
        for attempt in (
            store.put(KEY, TAIL, {}),
            store.compose(KEY, [fresh(BASE)], {}, apart=True),
        ):
            with pytest.raises(NotEncrypted):
                await attempt
        assert (caught.value.retry, caught.value.degraded) == (Retry.STORE, "encryption")
        assert "s3.sse" in caught.value.hint
        assert await store.head(KEY) is None
        yield store, caught.value
