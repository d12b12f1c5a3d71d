"""What the journal knows, as those see it who only ask."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from transcriptd.journal import Journal
from transcriptd.model import Guard, Screening, Session, Stat, State
from transcriptd.rows import Excluded, Record

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


async def test_of_many_sessions_each_comes_with_what_is_known_of_it(journal: Journal) -> None:
    many = [replace(A, name=f"{number}.jsonl") for number in range(700)]
    for session in many[::7]:
        await journal.note(session, OLD, State.CURRENT)
    found = list(journal.records_of(many))
    assert [session for session, _ in found] == many
    assert [session for session, record in found if record] == many[::7]


async def test_what_is_long_is_left_out_where_what_is_brief_will_do(journal: Journal) -> None:
    guard = Guard(1, "c", "h", 1, 0, 1, 1)
    await journal.note(A, OLD, State.CURRENT, guard=guard, screening=Screening(1, {"jwt": 1}, {}))
    ((_, brief),) = journal.records_of([A], brief=True)
    assert brief == replace(record_of(journal, A), guard=None, screening=None)


async def test_a_session_below_a_root_that_is_no_text_is_known(journal: Journal) -> None:
    session = replace(A, root="/r/\udcff")
    await journal.note(session, OLD, State.CURRENT)
    assert list(journal.records_of([session])) == [(session, record_of(journal, session))]


async def test_all_sessions_come_by_id_wherever_they_lie(journal: Journal) -> None:
    many = [replace(A, id=name, root=root) for root in ("/b", "/a") for name in ("y", "x")]
    for number, session in enumerate(many):
        await journal.note(replace(session, name=str(number)), OLD, State.CURRENT)
    found = [(each.session.id, each.session.root) for each in journal.by_id()]
    assert found == [("x", "/a"), ("x", "/b"), ("y", "/a"), ("y", "/b")]


async def test_the_journal_can_be_read_apart_in_another_thread(journal: Journal) -> None:
    await journal.note(A, OLD, State.CURRENT)

    def read() -> Record | None:
        with journal.apart() as known:
            return known.record(A)

    assert await asyncio.to_thread(read) == journal.record(A)


async def test_what_is_read_apart_is_of_one_moment(journal: Journal) -> None:
    await journal.note(A, OLD, State.PENDING)
    with journal.apart() as known:
        before = known.sums()
        await journal.note(A, OLD, State.CURRENT)
        assert known.sums() == before
        assert journal.sums() != before


def test_apart_from_a_journal_that_is_not_there_nothing_is_known(tmp_path: Path) -> None:
    with Journal(tmp_path / "none.db").apart() as known:
        assert (known.sums(), list(known.by_id())) == ([], [])


def record_of(journal: Journal, session: Session) -> Record:
    record = journal.record(session)
    assert record is not None
    return record
