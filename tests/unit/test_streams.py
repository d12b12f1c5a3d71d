"""Which stream a session's is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.machine import Machine
from transcriptd.sources.codex import Codex

if TYPE_CHECKING:
    from pathlib import Path

    from transcriptd.model import Session

NAME = "rollout-2026-11-21T10-00-00-0199aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee.jsonl"
RAW = "history/m1/raw/codex"
LINES = b'{"type":"user","message":"x"}\n' * 1000


def rollout(machine: Machine, root: Path) -> Session:
    machine.worker._sources["codex"] = codex = Codex((str(root),), {"HOME": str(root.parent)})
    session = codex.session(root, NAME)
    assert session
    return session


async def test_a_root_that_is_reached_by_another_name_has_the_same_streams(tmp_path: Path) -> None:
    root, alias = tmp_path / "real" / "sessions", tmp_path / "alias"
    root.mkdir(parents=True)
    (root / NAME).write_bytes(LINES)
    alias.symlink_to(root.parent)
    async with Machine(tmp_path) as machine:
        await machine.turn(rollout(machine, root))
        machine.store.log.clear()
        await machine.turn(rollout(machine, alias / "sessions"))
        assert not [each for each in machine.store.log if each.name in {"put", "compose"}]
        assert not [key for key in machine.store.objects if ".conflicts/" in key]
