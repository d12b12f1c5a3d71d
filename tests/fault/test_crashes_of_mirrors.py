"""The daemon dies while it mirrors: it goes on from what the archive says, and loses no byte."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.agents import UUID, Codex
from tests.daemon import running
from tests.fault.archives import over_a_bucket, over_copies, phases
from tests.fault.mirrored import (
    CONFLICTS,
    FINISHED,
    FIRST,
    MORE,
    MOST,
    RAW,
    REWRITTEN,
    SEGMENT,
    comes_to_mirror,
    everything,
    finished_of,
    grow,
    lines,
    mirrored,
    rollout,
    segments_of,
    session,
    still_holds,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fault.archives import Archive
    from tests.home import Home

STEPS = ("looked", "staged", "uploaded", "committed")
MIRRORS = rf"^{RAW}|{SEGMENT}"
GROWN = REWRITTEN + lines(10, 2_000)
COMPLETION = 2_000  # bytes of what ends a multipart upload, at most


async def leave_a_tail(home: Home, path: Path) -> None:
    """Mirror a file, then more of it, and die with its base behind."""
    async with running(home) as daemon:
        grow(path, FIRST)
        await daemon.archives(UUID, len(FIRST))
        grow(path, MORE)
        await daemon.archives(UUID, len(MORE))


async def die(home: Home, archive: Archive, step: str, change: Callable[[], object]) -> None:
    """Let the daemon die at a step of what follows a change; what was archived stays so."""
    before = everything(archive.kept)
    async with running(home, TRANSCRIPTD_FAILPOINT=step) as daemon:
        change()
        assert await daemon.ended() == -9, "the step was not reached"
    assert still_holds(archive.kept, before)


@over_a_bucket
@pytest.mark.parametrize("step", STEPS)
async def test_killed_while_a_file_is_first_mirrored_it_goes_on_without_sending_a_byte_twice(
    home: Home, archive: Archive, step: str
) -> None:
    path = session(home)
    await die(home, archive, step, lambda: grow(path, FIRST))
    async with running(home) as daemon:
        await daemon.archives(UUID, len(FIRST))
        assert (await daemon.state_of(UUID))["generation"] == 0
    assert mirrored(archive.kept) == FIRST
    assert archive.sent(MIRRORS) == len(FIRST)
    assert not archive.kept.listing(CONFLICTS)
    assert "rejected" not in phases(home), "what took effect was taken for a failure"


@over_a_bucket
@pytest.mark.parametrize("step", STEPS)
async def test_killed_while_an_append_is_mirrored_it_goes_on_without_sending_a_byte_twice(
    home: Home, archive: Archive, step: str
) -> None:
    path = session(home)
    await leave_a_tail(home, path)
    await die(home, archive, step, lambda: grow(path, MOST))
    async with running(home) as daemon:
        await daemon.archives(UUID, len(MOST))
        assert (await daemon.state_of(UUID))["generation"] == 0
    assert mirrored(archive.kept) == MOST
    assert len(segments_of(archive.kept)) == 2, "this was no tail"
    assert archive.sent(MIRRORS) == len(MOST)
    assert not archive.kept.listing(FINISHED)


@over_a_bucket
@pytest.mark.parametrize("step", [*STEPS, "preserved"])
async def test_killed_while_a_rewrite_is_mirrored_it_keeps_what_was_there_whole(
    home: Home, archive: Archive, step: str
) -> None:
    path = session(home)
    await leave_a_tail(home, path)
    await die(home, archive, step, lambda: path.write_bytes(REWRITTEN))
    async with running(home) as daemon:
        await daemon.archives(UUID, len(REWRITTEN))
        assert (await daemon.state_of(UUID))["generation"] == 1
        assert mirrored(archive.kept) == REWRITTEN
        grow(path, GROWN)
        await daemon.archives(UUID, len(GROWN))
    assert mirrored(archive.kept) == GROWN
    assert finished_of(archive.kept) == [MORE]
    (segment,) = segments_of(archive.kept)
    assert segment.endswith(f"/000001-{len(REWRITTEN):020}.jsonl"), "a closed tail was left behind"
    assert not archive.kept.listing(CONFLICTS)


@over_copies
@pytest.mark.parametrize(
    ("step", "tailed"),
    [*((step, True) for step in STEPS), ("staged", False), ("uploaded", False)],
)
async def test_killed_while_a_move_is_mirrored_it_goes_on_without_sending_what_can_be_copied(
    home: Home, archive: Archive, step: str, *, tailed: bool
) -> None:
    path = rollout(home)
    if tailed:
        await leave_a_tail(home, path)
    else:
        grow(path, MORE)
        assert (await asyncio.to_thread(home.run, "sync")).status == 0
    names = [f"codex/{each}/{path.name}" for each in ("sessions/2026/02/03", "archived_sessions")]
    await die(home, archive, step, lambda: Codex(home.path).archives(path))
    async with running(home) as daemon:
        assert (await daemon.sync(seal=True)).is_ok
        await comes_to_mirror(archive.kept, MORE, names[1])
        moved = home.path / ".codex" / "archived_sessions" / path.name
        grow(moved, MOST)
        await comes_to_mirror(archive.kept, MOST, names[1])
    assert mirrored(archive.kept, names[0]) == MORE, "what it was called before lost its end"
    assert archive.sent("raw/codex/archived") < COMPLETION + len(MOST) - len(MORE)
    assert not archive.kept.listing(FINISHED)
    assert not archive.kept.listing(CONFLICTS)
