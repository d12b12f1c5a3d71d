"""A file that its agent moves or writes anew, beside what is archived of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.machine import Machine
from transcriptd.mirror import QUIET_S
from transcriptd.model import Session
from transcriptd.sources.codex import Codex

if TYPE_CHECKING:
    from pathlib import Path

NAME = "rollout-2026-11-21T10-00-00-0199aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee.jsonl"
RAW = "history/m1/raw/codex"
LINES = b'{"type":"user","message":"x"}\n' * 1000


def rollout(machine: Machine, content: bytes) -> Session:
    """Write a rollout that has been quiet."""
    home = machine.root.parent
    codex = machine.worker._sources["codex"] = Codex((), {"HOME": str(home)})
    path = home / ".codex" / "sessions" / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (1, 1))
    session = codex.session(path.parent, NAME)
    assert session
    return session


def moved(session: Session) -> Session:
    archive = session.path.parent.with_name("archived_sessions")
    archive.mkdir()
    session.path.rename(archive / NAME)
    return Session(session.source, session.id, str(archive), NAME)


async def test_where_the_former_stream_holds_more_the_new_one_is_written_all_the_same(
    tmp_path: Path,
) -> None:
    async with Machine(tmp_path) as machine:
        await machine.turn(rollout(machine, LINES))
        await machine.back_up()
        await machine.turn(rollout(machine, LINES * 2), sealing=True)
        await machine.restart("stale")  # a home that was restored to an earlier state
        session = moved(rollout(machine, LINES))
        await machine.turn(session)
        assert await machine.content(f"{RAW}/archived_sessions/{NAME}") == LINES
        assert await machine.content(f"{RAW}/sessions/{NAME}") == LINES * 2


async def test_a_file_that_was_just_emptied_is_left_for_later_and_keeps_nobody_waiting(
    tmp_path: Path,
) -> None:
    async with Machine(tmp_path) as machine:
        session = rollout(machine, LINES)
        await machine.turn(session)
        session.path.write_bytes(b"")
        machine.store.log.clear()
        later = await machine.turn(session)
        assert later is not None
        assert 0 < later <= QUIET_S
        assert machine.store.log == []
        assert await machine.content(f"{RAW}/sessions/{NAME}") == LINES


async def test_a_file_that_stays_empty_is_the_next_generation(tmp_path: Path) -> None:
    async with Machine(tmp_path) as machine:
        await machine.turn(rollout(machine, LINES))
        await machine.turn(rollout(machine, b""))
        assert await machine.content(f"{RAW}/sessions/{NAME}") == b""
