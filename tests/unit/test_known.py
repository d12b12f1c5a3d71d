"""What never leaves, as those see it who ask the journal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from transcriptd.journal import Journal
from transcriptd.model import Session, Stat, State
from transcriptd.rows import Excluded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DAY_NS = 86_400 * 10**9
OLD = Stat(100, DAY_NS, DAY_NS, 1, 1)
A = Session("claude", "a", "/root", "a.jsonl")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with Journal(tmp_path / "journal.db") as opened:
        yield opened


async def exclude(journal: Journal, name: str, reason: str, source: str = "claude") -> None:
    session = replace(A, source=source, name=name)
    await journal.note(session, OLD, State.EXCLUDED, reason=reason)


async def test_what_is_excluded_is_counted_by_source_and_reason(journal: Journal) -> None:
    await journal.note(A, OLD, State.CURRENT)
    for name, reason in (("b", "excluded_old"), ("c", "excluded_old"), ("d", "excluded_path")):
        await exclude(journal, name, reason)
    await exclude(journal, "e", "excluded_path", "codex")
    assert sorted(journal.excluded(), key=lambda each: (each.source, each.reason)) == [
        Excluded("claude", "excluded_old", 2, 200),
        Excluded("claude", "excluded_path", 1, 100),
        Excluded("codex", "excluded_path", 1, 100),
    ]


async def test_what_is_excluded_needs_nobodys_attention(journal: Journal) -> None:
    await exclude(journal, "b", "excluded_path")
    assert journal.not_current() == []


async def test_what_is_excluded_is_not_missed_when_it_is_deleted(journal: Journal) -> None:
    await exclude(journal, "b", "excluded_path")
    assert journal.unchanged_since("claude", 2 * DAY_NS) == (0, 0)
    await journal.note(A, OLD, State.PENDING)
    assert journal.unchanged_since("claude", 2 * DAY_NS) == (1, 1)
