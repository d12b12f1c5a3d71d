"""What is found out about a server, when, and what is done without."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from typing import TYPE_CHECKING

import pytest

from tests.contract.s3 import KEY, PREFIX, PROBE, opened, read
from tests.proxy import (
    ACCESS_DENIED,
    SLOW_DOWN,
    Answer,
    FaultProxy,
    FlipByte,
    Hold,
)
from transcriptd.errors import (
    ConditionFailed,
    Corrupted,
    Damaged,
    SlowDown,
)
from transcriptd.stores import Absent, Matches

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.servers import Server


async def test_bytes_changed_unnoticed_by_the_server_are_noticed_here(
    served: Callable[[str], Server], tmp_path: Path
) -> None:
    async with FaultProxy(served("moto")) as proxy, opened(proxy.server, tmp_path) as store:
        await store.put(f"{PREFIX}warm", b"", {})
        probed = proxy.count("PUT", PROBE)
        proxy.add(FlipByte(), method="PUT", times=1)
        with pytest.raises((Damaged, Corrupted)):
            await store.put(KEY, b"content", {})
        await store.put(KEY, b"content", {})
        assert await read(store) == b"content"
        assert proxy.count("PUT", PROBE) > probed, "a store that lied is probed again"


async def test_without_md5_etags_a_look_afterwards_proves_the_write(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    async with opened(proxy.server, tmp_path) as store:
        await store.put(f"{PREFIX}warm", b"", {})
    _edit(tmp_path, etag_is_md5=False)
    async with opened(proxy.server, tmp_path) as store:
        head = await store.put(KEY, b"content", {"td-format": "1"})
        assert (head.size, dict(head.metadata)) == (7, {"td-format": "1"})
        assert proxy.count("HEAD", KEY) == 1
        gone = Answer(404, "NoSuchKey")
        proxy.add(gone, method="HEAD")
        with pytest.raises(Damaged):
            await store.put(KEY, b"content", {})


async def test_all_first_writers_share_one_probe(proxy: FaultProxy, tmp_path: Path) -> None:
    release = asyncio.Event()
    proxy.add(Hold(release), key=PROBE, times=1)
    async with opened(proxy.server, tmp_path) as store:
        writing = [
            asyncio.create_task(store.put(f"{PREFIX}{n}", b"", {}, Absent())) for n in range(20)
        ]
        await proxy.until(lambda: proxy.count("PUT", PROBE))
        release.set()
        await asyncio.gather(*writing)
        assert len({seen.key for seen in proxy.seen(key=PROBE)}) == 1
        assert proxy.count("HEAD", PROBE) == 2
        assert [entry async for entry in store.list(f"{PREFIX}.tail/")] == []


async def test_a_probe_that_fails_is_made_again_at_the_next_write(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    async with opened(proxy.server, tmp_path) as store:
        rule = proxy.add(SLOW_DOWN, key=PROBE)
        results = await asyncio.gather(
            *(store.put(f"{PREFIX}{n}", b"", {}) for n in range(9)), return_exceptions=True
        )
        assert all(isinstance(result, SlowDown) for result in results)
        assert proxy.count(key=PROBE) == 1, "those who wait share the failure, too"
        assert set(store.guarantees.values()) == {"unknown"}
        proxy.rules.remove(rule)
        await store.put(KEY, b"", {})
        assert store.guarantees["if_match"] == "honoured"


async def test_a_writer_who_gives_up_does_not_end_the_probe_of_the_others(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    release = asyncio.Event()
    proxy.add(Hold(release), key=PROBE, times=1)
    async with opened(proxy.server, tmp_path) as store:
        impatient = asyncio.create_task(store.put(f"{PREFIX}1", b"", {}))
        await proxy.until(lambda: proxy.count("PUT", PROBE))
        patient = asyncio.create_task(store.put(f"{PREFIX}2", b"", {}))
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        release.set()
        await patient


async def test_what_was_learnt_is_remembered_privately(proxy: FaultProxy, tmp_path: Path) -> None:
    async with opened(proxy.server, tmp_path) as store:
        await store.put(KEY, b"0", {})
    file = tmp_path / "capabilities.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    probed = proxy.count(key=PROBE)
    async with opened(proxy.server, tmp_path) as store:
        await store.put(KEY, b"1", {})
    assert proxy.count(key=PROBE) == probed


async def test_uploads_are_probed_when_it_is_asked_and_once(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    async with opened(proxy.server, tmp_path) as store:
        await store.put(KEY, b"0", {})
        assert proxy.count("POST") == 0
        assert store.guarantees["copy_parts"] == "unknown"
        assert all(await asyncio.gather(*(store.copies() for _ in range(9))))
        assert store.guarantees["copy_parts"] == "honoured"
        assert store.guarantees["complete_if_match"] == "honoured"
        probed = proxy.count(key=PROBE)
        assert await store.copies()
        assert [entry async for entry in store.list(f"{PREFIX}.tail/")] == []
    async with opened(proxy.server, tmp_path) as store:
        assert await store.copies()
    assert proxy.count(key=PROBE) == probed


@pytest.mark.parametrize("damage", ["torn", "old", "other version", "not text"])
async def test_a_memory_that_cannot_be_trusted_is_probed_anew(
    proxy: FaultProxy, tmp_path: Path, damage: str
) -> None:
    async with opened(proxy.server, tmp_path) as store:
        await store.put(KEY, b"0", {})
    file = tmp_path / "capabilities.json"
    match damage:
        case "torn":
            file.write_bytes(file.read_bytes()[:-9])
        case "old":
            _edit(tmp_path, probed_at=time.time() - 31 * 24 * 3600)
        case "other version":
            _edit(tmp_path, version=99)
        case _:
            file.write_bytes(b"\xff\x00\xff")
    probed = proxy.count(key=PROBE)
    async with opened(proxy.server, tmp_path) as store:
        await store.put(KEY, b"1", {})
    assert proxy.count(key=PROBE) > probed
    assert json.loads(file.read_text())


async def test_without_the_right_to_delete_the_probe_leaves_one_object(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    proxy.add(ACCESS_DENIED, method="DELETE")
    for _ in range(3):
        async with opened(proxy.server, tmp_path) as store:
            await store.put(KEY, b"0", {}, None)
            assert store.guarantees["if_none_match"] == "honoured"
            left = [entry.key async for entry in store.list(f"{PREFIX}.tail/")]
        (tmp_path / "capabilities.json").unlink()
        assert len(left) == 1


async def test_a_server_that_ignores_conditions_is_not_believed(
    served: Callable[[str], Server], tmp_path: Path
) -> None:
    async with opened(served("rclone"), tmp_path) as store:
        first = await store.put(KEY, b"0", {}, Absent())
        assert store.guarantees["if_none_match"] == "not honoured"
        assert store.guarantees["if_match"] == "not honoured"
        with pytest.raises(ConditionFailed):
            await store.put(KEY, b"1", {}, Absent())
        await store.put(KEY, b"2", {}, Matches(first.etag))
        with pytest.raises(ConditionFailed):
            await store.put(KEY, b"3", {}, Matches(first.etag))


def _edit(state_dir: Path, **changes: object) -> None:
    file = state_dir / "capabilities.json"
    said = json.loads(file.read_text())
    for place in said.values():
        place.update(changes)
    file.write_text(json.dumps(said))
