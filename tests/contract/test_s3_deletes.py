"""Removing many objects: in one request where the server can, else one by one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.contract.s3 import PREFIX, SHORT, answering, asked, opened
from tests.proxy import ACCESS_DENIED, SERVER_ERROR, Answer, BlackHole, FaultProxy
from tests.servers import Missing, create_bucket
from transcriptd.errors import AccessDenied, ServerError, SlowDown, StoreError, Unreachable

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Pool

TAIL = f"{PREFIX}.tail/"
ODD = (
    "plain.jsonl", "with space+plus.jsonl", "percent%41%2F.jsonl", "ünï/日本語.jsonl",
    "<&>\"'.jsonl", "a=b;c,d?e#f[g]!$@:()*~.jsonl",
)  # fmt: skip
SERVERS = ("swift-http", "swift-https", "ministack-http", "ministack-https", "moto-http",
           "rclone-http", "ceph-http", "minio-http", "minio-https", "versitygw-http")  # fmt: skip


@pytest.mark.parametrize("name", SERVERS)
async def test_many_are_removed_in_one_request(servers: Pool, tmp_path: Path, name: str) -> None:
    kind, _, scheme = name.partition("-")
    try:
        server = create_bucket(servers.get(kind, tls=scheme == "https"))
    except Missing as missing:
        pytest.skip(str(missing))
    keys = [f"{TAIL}s/{odd}" for odd in ODD]
    async with (
        FaultProxy(server, tls=scheme == "https") as proxy,
        opened(proxy.server, tmp_path) as store,
    ):
        for key in (*keys, f"{TAIL}stays"):
            await store.put(key, b"x", {})
        await store.delete(*keys, *keys, f"{TAIL}was-never-there")
        assert asked(store, "delete_many") == 1
        assert [entry.key async for entry in store.list(TAIL)] == [f"{TAIL}stays"]
        (seen,) = proxy.seen("POST")
        assert seen.headers["content-md5"]


async def test_more_than_a_thousand_take_more_requests(proxy: FaultProxy, tmp_path: Path) -> None:
    async with opened(proxy.server, tmp_path) as store:
        await store.put(f"{TAIL}1000", b"x", {})
        await store.delete(*(f"{TAIL}{n}" for n in range(2001)))
        assert store.traffic.requests["delete_many", "ok"] == 2
        assert store.traffic.requests["delete", "ok"] >= 1, "one is left over"
        assert await store.head(f"{TAIL}1000") is None
        await store.delete()


@pytest.mark.parametrize("status", [501, 405, 400, 404])
async def test_where_the_server_cannot_they_are_removed_one_by_one(
    proxy: FaultProxy, tmp_path: Path, status: int
) -> None:
    proxy.add(Answer(status, "Nothing"), method="POST")
    keys = [f"{TAIL}{n}" for n in range(30)]
    async with opened(proxy.server, tmp_path) as store:
        for _ in range(2):
            for key in keys:
                await store.put(key, b"x", {})
            await store.delete(*keys)
            assert [entry.key async for entry in store.list(TAIL)] == []
        assert asked(store, "delete_many") == 1, "it is not asked again"


async def test_a_refusal_is_raised_once_all_were_tried(proxy: FaultProxy, tmp_path: Path) -> None:
    keys = [f"{TAIL}{n}" for n in range(9)]
    async with opened(proxy.server, tmp_path) as store:
        for key in keys:
            await store.put(key, b"x", {})
        proxy.add(ACCESS_DENIED, method="POST")
        with pytest.raises(AccessDenied):
            await store.delete(*keys)
        proxy.rules.clear()
        proxy.add(Answer(501, "NotImplemented"), method="POST")
        proxy.add(ACCESS_DENIED, method="DELETE", key="0$")
        proxy.add(SERVER_ERROR, method="DELETE", key="3$")
        with pytest.raises((AccessDenied, ServerError)):
            await store.delete(*keys)
        assert [entry.key async for entry in store.list(TAIL)] == [f"{TAIL}0", f"{TAIL}3"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AccessDenied", AccessDenied),
        ("InternalError", ServerError),
        ("SlowDown", SlowDown),
        ("Odd", ServerError),
        ("NoSuchKey", None),
    ],
)
async def test_a_refusal_within_a_good_answer_is_found(
    tmp_path: Path, code: str, kind: type[StoreError] | None
) -> None:
    body = f"<DeleteResult><Error><Key>k</Key><Code>{code}</Code></Error></DeleteResult>".encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with answering(head + body) as server, opened(server, tmp_path) as store:
        if kind is None:
            await store.delete(f"{TAIL}a", f"{TAIL}b")
            return
        with pytest.raises(kind):
            await store.delete(f"{TAIL}a", f"{TAIL}b")


async def test_a_store_that_is_gone_is_not_asked_a_thousand_times(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    proxy.add(Answer(501, "NotImplemented"), method="POST")
    async with opened(proxy.server, tmp_path, patience=SHORT) as store:
        await store.delete(f"{TAIL}a", f"{TAIL}b")
        deleted = proxy.count("DELETE")
        proxy.add(BlackHole(), method="DELETE")
        with pytest.raises(Unreachable):
            await store.delete(*(f"{TAIL}{n}" for n in range(500)))
        assert proxy.count("DELETE") - deleted <= 16


async def test_nothing_but_tails_is_removed_and_nothing_is_sent_if_any_is_not_one(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    async with opened(proxy.server, tmp_path) as store:
        for other in (f"{PREFIX}s/history.jsonl", f"{TAIL}../s", "x/.tail/y"):
            with pytest.raises(ValueError, match=re.escape("never") + "|not a key"):
                await store.delete(f"{TAIL}a", other)
        assert proxy.count() == 0
