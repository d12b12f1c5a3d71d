"""Each change is told of, soon after it; and where nothing happens, nothing is done."""

from __future__ import annotations

import asyncio
import os
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING

import pytest

from transcriptd.events import Change, Events

if TYPE_CHECKING:
    from pathlib import Path

STEP_S = 0.02
WITHIN_S = 20.0


def events(*directories: Path) -> Events:
    return Events(directories, step_s=STEP_S)


async def told(source: Events, path: Path) -> Change:
    """Wait for what is told of a path; return how it changed first."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            for change, name in await source.next():
                if name == str(path):
                    return change


async def test_a_file_that_comes_changes_and_goes_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with events(tmp_path) as source:
        path.touch()
        assert await told(source, path) is Change.added
        path.write_text("more")
        assert await told(source, path) is Change.modified
        path.unlink()
        assert await told(source, path) is Change.deleted


async def test_what_happens_while_nobody_asks_is_told_of_later(tmp_path: Path) -> None:
    with events(tmp_path) as source:
        names = {str(tmp_path / str(number)) for number in range(50)}
        for name in names:
            os.close(os.open(name, os.O_CREAT))
        found: set[str] = set()
        async with asyncio.timeout(WITHIN_S):
            while not names <= found:
                found |= {name for _, name in await source.next()}


async def test_below_a_directory_nothing_is_told_of(tmp_path: Path) -> None:
    deeper = tmp_path / "deeper"
    deeper.mkdir()
    with events(tmp_path) as source:
        (deeper / "file").touch()
        (tmp_path / "last").touch()
        async with asyncio.timeout(WITHIN_S):
            found = await source.next()
        assert str(deeper / "file") not in {name for _, name in found}


async def test_after_the_end_nothing_more_comes(tmp_path: Path) -> None:
    with events(tmp_path) as source:
        waiting = asyncio.create_task(source.next())
        await asyncio.sleep(0)
        source.end()
        async with asyncio.timeout(WITHIN_S):
            assert await waiting == []


async def test_whoever_waits_can_be_cancelled(tmp_path: Path) -> None:
    with events(tmp_path) as source:
        waiting = asyncio.create_task(source.next())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        events(tmp_path / "gone")


async def test_a_name_that_is_no_utf8_ends_it(tmp_path: Path) -> None:
    with events(tmp_path) as source:
        os.close(os.open(os.fsencode(tmp_path) + b"/\xff", os.O_CREAT))
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(RuntimeError):
                await told(source, tmp_path / "another")


async def test_where_nothing_happens_it_seldom_wakes_up(tmp_path: Path) -> None:
    with events(tmp_path) as source:
        waiting = asyncio.create_task(source.next())
        before = getrusage(RUSAGE_SELF).ru_nvcsw
        await asyncio.sleep(1)  # what is counted is what happens in that time
        waited = getrusage(RUSAGE_SELF).ru_nvcsw - before
        source.end()
        await waiting
    assert waited < 1 / STEP_S, "twice for each look: about 8, and 90 while anything happens"
