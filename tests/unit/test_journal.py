"""What the journal was told is there after any crash, and its lines are CodeTether's."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcriptd.journal import Journal, entries
from transcriptd.model import Cursor, Guard, Session, Stat, State
from transcriptd.rows import Entry, Sum, Target, Transaction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

A = Session("codetether", "a", "/work/sessions", "a.json")
B = Session("codetether", "b", "/work/sessions", "b.json")
STAT = Stat(size=10, mtime_ns=20, ctime_ns=30, inode=40, device=50)
OP: dict[str, object] = {
    "op": "history_sink_upload",
    "bucket": "b",
    "key": "history/a/history.jsonl",
    "bytes": 10,
}
REJECTED = {"reason": "provenance_fail", "detail": "another writer was there first"}
LONG_AGO_NS = 1

CRASHING = """
import asyncio, pathlib, sys
from tests.unit.test_journal import A, CURSOR, OP, STAT, target
from transcriptd.journal import Journal
from transcriptd.model import State

async def main(path, steps):
    async with Journal(path) as journal:
        txn = await journal.stage(A, "put_base", OP, target())
        if "commit" in steps:
            await journal.commit(txn, A, CURSOR)
            await journal.note(A, STAT, State.CURRENT)
        print("here", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(pathlib.Path(sys.argv[1]), sys.argv[2:]))
"""


def target(generation: int = 0) -> Target:
    return Target(
        key="history/a/history.jsonl",
        generation=generation,
        records=1,
        length=10,
        digest="ab" * 32,
        writer="m.0f",
    )


CURSOR = Cursor(
    key="history/a/history.jsonl",
    generation=0,
    records=1,
    length=10,
    digest="ab" * 32,
    etag='"e1"',
    writer="m.0f",
    document_digest="cd" * 32,
)
WITH_TAIL = replace(
    CURSOR,
    length=9_000_000_000_000,
    tail_length=8_999_999_999_990,
    segments=901,
    behind_since=1_700_000_000.123456,
    sent=27_000_000_000_000,
)


def guarded(damaged: int) -> Guard:
    return Guard(length=10, chain="00", head="11", feeds=1, damaged=damaged, inode=40, ctime_ns=50)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Journal]:
    async with Journal(path, retry_disk_s=0.02) as journal:
        yield journal


def phases(path: Path) -> list[tuple[int, str]]:
    return [(entry.txn, entry.phase) for entry in entries(path)]


def details(path: Path) -> list[object]:
    return [json.loads(entry.detail) if entry.detail else None for entry in entries(path)]


def open_for(journal: Journal, session: Session, action: str) -> Transaction | None:
    """Return the open transaction of a kind; there is one at most."""
    found = [each for each in journal.open_transactions(session) if each.action == action]
    assert len(found) < 2
    return found[0] if found else None


async def committed(journal: Journal, session: Session, cursor: Cursor = CURSOR) -> int:
    txn = await journal.stage(session, "put_base", OP, target())
    await journal.commit(txn, session, cursor)
    return txn


class TestLines:
    async def test_a_change_that_took_effect_is_two_lines(self, path: Path) -> None:
        async with opened(path) as journal:
            await committed(journal, A)
        assert phases(path) == [(0, "staged"), (0, "committed")]
        assert details(path) == [OP, None]

    async def test_a_change_that_was_refused_says_why(self, path: Path) -> None:
        async with opened(path) as journal:
            txn = await journal.stage(A, "put_base", OP, target())
            await journal.reject(txn, A, REJECTED)
        assert phases(path) == [(0, "staged"), (0, "rejected")]
        assert details(path) == [OP, REJECTED]

    async def test_what_could_not_even_be_staged_is_two_lines_and_leaves_nothing_open(
        self, path: Path
    ) -> None:
        async with opened(path) as journal:
            await journal.refuse(A, {"op": "save"}, {"reason": "schema_mismatch"})
            assert journal.unsettled() == []
        assert phases(path) == [(0, "staged"), (0, "rejected")]

    async def test_each_transaction_has_a_number_of_its_own(self, path: Path) -> None:
        async with opened(path) as journal:
            first = await committed(journal, A)
            await journal.refuse(A, {"op": "save"}, REJECTED)
            open_ = await journal.stage(A, "put_base", OP, target())
            other = await journal.stage(B, "put_base", OP, target())
            same_session = await journal.stage(A, "preserve", OP, target())
        assert [first, open_, other, same_session] == [0, 2, 3, 4]

    async def test_the_lines_of_one_session_can_be_read_alone(self, path: Path) -> None:
        async with opened(path) as journal:
            await committed(journal, A)
            await committed(journal, B)
        assert {entry.session_id for entry in entries(path, session_id="b")} == {"b"}

    async def test_lines_are_read_on_from_where_one_stopped(self, path: Path) -> None:
        async with opened(path) as journal:
            for _ in range(5):
                await committed(journal, A)
            seen: list[Entry] = []
            while more := entries(path, after=seen[-1].seq if seen else 0, limit=3):
                assert len(more) <= 3
                seen += more
        assert seen == entries(path)
        assert len(seen) == 10

    async def test_lines_are_read_beside_the_running_daemon(self, path: Path) -> None:
        async with opened(path) as journal:
            await journal.stage(A, "put_base", OP, target())
            assert phases(path) == [(0, "staged")]

    def test_a_journal_that_is_not_there_has_no_lines(self, path: Path) -> None:
        assert entries(path) == []

    async def test_lines_of_any_text_are_kept_as_they_are(self, path: Path) -> None:
        reason = {"reason": "schema_mismatch", "detail": 'é\u2028 "quoted" \n 😀'}
        async with opened(path) as journal:
            await journal.refuse(A, {"op": "save"}, reason)
        assert details(path)[-1] == reason


class TestCursors:
    async def test_a_commit_brings_the_cursor_with_it(self, path: Path) -> None:
        async with opened(path) as journal:
            await committed(journal, A)
        async with opened(path) as journal:
            record = journal.record(A)
            assert record is not None
            assert record.cursor == CURSOR

    async def test_a_commit_without_a_cursor_leaves_the_one_there_was(self, path: Path) -> None:
        async with opened(path) as journal:
            await journal.save(A, CURSOR)
            txn = await journal.stage(A, "preserve", OP, target())
            await journal.commit(txn, A, None)
            record = journal.record(A)
            assert record is not None
            assert record.cursor == CURSOR

    async def test_a_rejected_change_leaves_the_cursor_there_was(self, path: Path) -> None:
        async with opened(path) as journal:
            await journal.save(A, CURSOR)
            txn = await journal.stage(A, "put_base", OP, target(1))
            await journal.reject(txn, A, REJECTED)
            record = journal.record(A)
            assert record is not None
            assert record.cursor == CURSOR

    @pytest.mark.parametrize("cursor", [CURSOR, WITH_TAIL])
    async def test_how_a_stream_lies_in_base_and_tail_outlives_a_restart(
        self, path: Path, cursor: Cursor
    ) -> None:
        async with opened(path) as journal:
            await committed(journal, A, cursor)
            await journal.save(B, cursor)
        async with opened(path) as journal:
            assert [record.cursor for record in journal.everything()] == [cursor, cursor]

    async def test_sessions_whose_base_is_behind_are_found_until_it_has_taken_in_its_tail(
        self, path: Path
    ) -> None:
        async with opened(path) as journal:
            assert journal.behind() == []
            await journal.save(A, WITH_TAIL)
            await journal.save(B, CURSOR)
            await journal.note(replace(A, name="c.json", id="c"), STAT, State.RETRYING)
            assert [(r.session, r.cursor) for r in journal.behind()] == [(A, WITH_TAIL)]
        async with opened(path) as journal:
            assert [record.session for record in journal.behind()] == [A]
            await journal.save(A, replace(WITH_TAIL, tail_length=0, segments=0, behind_since=0.0))
            assert journal.behind() == []

    async def test_of_another_archive_nothing_is_known_to_be_behind(self, path: Path) -> None:
        async with opened(path) as journal:
            await journal.belongs_to("one")
            await journal.save(A, WITH_TAIL)
            await journal.stage(A, "put_tail", OP, target())
            assert await journal.belongs_to("two")
            assert (journal.behind(), journal.open_transactions(A)) == ([], [])
            await journal.save(A, CURSOR)
            assert journal.behind() == []

    async def test_of_a_session_that_is_forgotten_its_place_is_all_that_is_known(
        self, path: Path
    ) -> None:
        async with opened(path) as journal:
            for session in (A, B):
                await journal.save(session, WITH_TAIL)
                await journal.note(session, STAT, State.CONFLICT)
            await journal.forget(A)
            forgotten, kept = journal.record(A), journal.record(B)
            assert forgotten is not None
            assert kept is not None
            assert (forgotten.cursor, forgotten.stat) == (None, None)
            assert forgotten.state is State.PENDING
            assert (kept.cursor, kept.stat, kept.state) == (WITH_TAIL, STAT, State.CONFLICT)
            assert [record.session for record in journal.behind()] == [B]

    async def test_how_a_session_stands_is_remembered_beside_its_cursor(self, path: Path) -> None:
        async with opened(path) as journal:
            await committed(journal, A)
            await journal.note(A, STAT, State.CONFLICT, reason="another_writer", message="x" * 900)
            record = journal.record(A)
        assert record is not None
        assert (record.session, record.stat, record.cursor) == (A, STAT, CURSOR)
        assert (record.state, record.reason) == (State.CONFLICT, "another_writer")
        assert record.message == "x" * 500

    async def test_a_state_is_dated_from_when_it_began(self, path: Path) -> None:
        async with opened(path) as journal:
            since = []
            for state, reason in [
                (State.QUARANTINED, "empty"),
                (State.QUARANTINED, "empty"),
                (State.QUARANTINED, "invalid_json"),
                (State.CURRENT, ""),
            ]:
                await journal.note(A, STAT, state, reason=reason)
                record = journal.record(A)
                assert record is not None
                since.append(record.since_ns)
        assert since[0] == since[1] < since[2] < since[3]

    async def test_a_session_whose_file_is_gone_has_no_stat(self, path: Path) -> None:
        async with opened(path) as journal:
            await journal.note(A, STAT, State.CURRENT)
            await journal.note(A, None, State.SOURCE_GONE)
            record = journal.record(A)
        assert record is not None
        assert (record.stat, record.state) == (None, State.SOURCE_GONE)

    async def test_a_session_nobody_spoke_of_is_not_known(self, path: Path) -> None:
        async with opened(path) as journal:
            await journal.save(A, CURSOR)
            assert journal.record(B) is None
            assert journal.record(replace(A, root="/elsewhere")) is None

    async def test_copies_of_a_session_are_found_by_its_id(self, path: Path) -> None:
        copy = replace(A, root="/elsewhere")
        async with opened(path) as journal:
            for session in (A, copy, B):
                await journal.save(session, CURSOR)
            found = {record.session for record in journal.records("codetether", "a")}
        assert found == {A, copy}

    async def test_sessions_that_are_not_current_are_found(self, path: Path) -> None:
        async with opened(path) as journal:
            await journal.note(A, STAT, State.CURRENT)
            await journal.note(B, STAT, State.RETRYING)
            assert [record.session for record in journal.not_current()] == [B]
            assert {record.session for record in journal.everything()} == {A, B}

    async def test_the_files_of_a_root_come_by_name(self, path: Path) -> None:
        names = ["b.json", "ä.json", "a.json", "😀.json", "A.json", "_.json"]
        async with opened(path) as journal:
            for name in names:
                await journal.note(replace(A, name=name), STAT, State.CURRENT)
            await journal.note(replace(A, root="/elsewhere"), STAT, State.CURRENT)
            known = list(journal.known_files("codetether", A.root))
        assert [name for name, _, _ in known] == sorted(names)
        assert {(stat, state) for _, stat, state in known} == {(STAT, State.CURRENT)}

    async def test_the_sums_add_up_by_source_and_state(self, path: Path) -> None:
        mirrored = Session("claude", "c", "/home/projects", "p/c.jsonl")
        async with opened(path) as journal:
            assert (journal.sums(), journal.tails()) == ([], (0, 0))
            for session in (A, B, mirrored):
                await journal.save(session, CURSOR)
            await journal.note(A, STAT, State.CURRENT)
            assert sorted(journal.sums(), key=str) == [
                Sum("claude", "pending", 1, 1, 10),
                Sum("codetether", "current", 1, 1, 10),
                Sum("codetether", "pending", 1, 1, 10),
            ]
            assert journal.tails() == (0, 0)
            await journal.save(B, replace(CURSOR, tail_length=4, segments=1))
            assert journal.tails() == (1, 4)

    async def test_what_has_not_changed_for_long_is_counted_with_what_of_it_is_not_archived(
        self, path: Path
    ) -> None:
        old, young = STAT._replace(mtime_ns=100), STAT._replace(mtime_ns=200)
        async with opened(path) as journal:
            for number, state in enumerate((State.CURRENT, State.CONFLICT, State.QUARANTINED)):
                await journal.note(replace(A, name=f"{number}.json"), old, state)
            await journal.note(B, young, State.CURRENT)
            await journal.note(replace(A, name="gone.json"), None, State.SOURCE_GONE)
            assert journal.unchanged_since("codetether", 100) == (0, 0)
            assert journal.unchanged_since("codetether", 200) == (3, 1)
            assert journal.unchanged_since("codetether", 201) == (4, 1)
            assert journal.unchanged_since("claude", 201) == (0, 0)

    async def test_damaged_lines_are_counted_by_source_and_the_worst_sessions_come_first(
        self, path: Path
    ) -> None:
        lines = {"a.jsonl": 0, "b.jsonl": 2, "c.jsonl": 7, "d.jsonl": 1}
        async with opened(path) as journal:
            for name, damaged in lines.items():
                source = "codex" if name == "d.jsonl" else "claude"
                session = Session(source, name, "/home", name)
                await journal.note(session, STAT, State.CURRENT, guard=guarded(damaged))
            assert journal.damaged() == {"claude": 9, "codex": 1}
            worst = [record.session.name for record in journal.most_damaged(2)]
            assert worst == ["c.jsonl", "b.jsonl"]

    async def test_what_waits_for_the_scrub_is_counted_with_its_bytes(self, path: Path) -> None:
        async with opened(path) as journal:
            for session in (A, B):
                await journal.save(session, CURSOR)
            await journal.note(A, STAT, State.CURRENT, is_verified=False)
            await journal.note(B, STAT, State.CURRENT)
            assert journal.scrubbing() == (1, 10)
            await journal.verified(A, STAT)
            assert journal.scrubbing() == (0, 0)

    async def test_a_fact_is_remembered_until_it_is_told_anew(self, path: Path) -> None:
        async with opened(path) as journal:
            assert journal.fact("probe") is None
            await journal.remember("probe", "1")
            await journal.remember("probe", "2")
        async with opened(path) as journal:
            assert journal.fact("probe") == "2"

    async def test_a_root_whose_name_is_not_unicode_is_a_root_like_others(self, path: Path) -> None:
        session = replace(A, root=os.fsdecode(b"/caf\xe9/sessions"))
        async with opened(path) as journal:
            await journal.stage(session, "preserve", OP, target())
            await committed(journal, session)
            await journal.note(session, STAT, State.RETRYING)
            assert [record.session for record in journal.not_current()] == [session]
            assert list(journal.known_files("codetether", session.root))
            assert journal.unsettled() == [session]
            assert open_for(journal, session, "preserve") is not None
            record = journal.record(session)
            assert record is not None
            assert record.cursor == CURSOR

    async def test_the_largest_numbers_of_a_file_are_kept(self, path: Path) -> None:
        largest = Stat(*[(1 << 63) - 1] * 5)
        async with opened(path) as journal:
            await journal.note(A, largest, State.CURRENT)
            record = journal.record(A)
        assert record is not None
        assert record.stat == largest


class TestOpenTransactions:
    async def test_what_was_staged_is_open_until_it_is_settled(self, path: Path) -> None:
        async with opened(path) as journal:
            txn = await journal.stage(A, "put_base", OP, target())
            found = open_for(journal, A, "put_base")
            assert found is not None
            assert (found.txn, found.session, found.target) == (txn, A, target())
            assert journal.unsettled() == [A]
            await journal.commit(txn, A, CURSOR)
            assert open_for(journal, A, "put_base") is None
            assert journal.unsettled() == []

    async def test_a_transaction_is_open_for_its_own_action_and_session_only(
        self, path: Path
    ) -> None:
        async with opened(path) as journal:
            await journal.stage(A, "put_base", OP, target())
            assert open_for(journal, A, "preserve") is None
            assert open_for(journal, B, "put_base") is None

    async def test_what_is_open_for_a_session_comes_in_the_order_it_was_staged(
        self, path: Path
    ) -> None:
        actions = ["seal", "put_tail", "preserve", "put_base"]
        async with opened(path) as journal:
            for number, action in enumerate(actions):
                await journal.stage(A, action, OP, target(number))
                await journal.stage(B, action, OP, target(9))
            await journal.stage(A, "put_tail", OP, target(7))  # carried on: it keeps its place
        async with opened(path) as journal:
            found = journal.open_transactions(A)
            assert [(each.action, each.target) for each in found] == [
                ("seal", target(0)),
                ("put_tail", target(7)),
                ("preserve", target(2)),
                ("put_base", target(3)),
            ]
            assert {each.session for each in found} == {A}
            assert sorted(each.txn for each in found) == [each.txn for each in found]

    async def test_a_damaged_transaction_does_not_hide_the_others(self, path: Path) -> None:
        async with opened(path) as journal:
            for action in ("preserve", "put_tail"):
                await journal.stage(A, action, OP, target())
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "UPDATE open_transactions SET target = '[]' WHERE action = 'preserve'"
            )
        async with opened(path) as journal:
            assert [each.action for each in journal.open_transactions(A)] == ["put_tail"]

    async def test_staging_again_carries_the_open_transaction_on(self, path: Path) -> None:
        later = {**OP, "bytes": 20}
        async with opened(path) as journal:
            first = await journal.stage(A, "put_base", OP, target(0))
            again = await journal.stage(A, "put_base", later, target(1))
            found = open_for(journal, A, "put_base")
            assert found is not None
            assert (first, again, found.target) == (0, 0, target(1))
            await journal.commit(again, A, CURSOR)
        assert phases(path) == [(0, "staged"), (0, "committed")]
        assert details(path)[0] == later

    async def test_a_settled_transaction_is_not_carried_on(self, path: Path) -> None:
        async with opened(path) as journal:
            first = await journal.stage(A, "put_base", OP, target())
            await journal.reject(first, A, REJECTED)
            assert await journal.stage(A, "put_base", OP, target()) == first + 1

    async def test_transactions_of_many_sessions_that_are_staged_at_once_stay_apart(
        self, path: Path
    ) -> None:
        sessions = [replace(A, id=f"s{n}", name=f"s{n}.json") for n in range(1200)]
        async with opened(path) as journal:
            numbers = await asyncio.gather(
                *(journal.stage(session, "put_base", OP, target()) for session in sessions)
            )
            assert numbers == list(range(1200))
            await asyncio.gather(
                *(journal.commit(n, s, CURSOR) for n, s in zip(numbers, sessions, strict=True))
            )
            assert journal.unsettled() == []
            assert [(each.state, each.records) for each in journal.sums()] == [("pending", 1200)]


class TestCrashes:
    def test_what_was_staged_outlives_a_kill_and_is_carried_on(self, path: Path) -> None:
        run_until_killed(path)

        async def scenario() -> None:
            async with opened(path) as journal:
                found = open_for(journal, A, "put_base")
                assert found is not None
                assert (found.target, journal.record(A)) == (target(), None)
                assert await journal.stage(A, "put_base", OP, target(1)) == found.txn
                await journal.commit(found.txn, A, CURSOR)

        asyncio.run(scenario())
        assert phases(path) == [(0, "staged"), (0, "committed")]

    def test_what_was_committed_outlives_a_kill(self, path: Path) -> None:
        run_until_killed(path, "commit")

        async def scenario() -> None:
            async with opened(path) as journal:
                record = journal.record(A)
                assert record is not None
                assert (record.cursor, record.stat) == (CURSOR, STAT)
                assert journal.unsettled() == []

        asyncio.run(scenario())

    def test_after_any_number_of_kills_there_is_one_open_transaction(self, path: Path) -> None:
        for _ in range(3):
            run_until_killed(path)
        assert phases(path) == [(0, "staged")]


def run_until_killed(path: Path, *steps: str) -> None:
    """Let another process come as far as `steps` say, and kill it there."""
    with subprocess.Popen(
        [sys.executable, "-c", CRASHING, str(path), *steps],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"here\n"
        finally:
            process.kill()


def make_old(path: Path, condition: str = "TRUE") -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE entries SET at_ns = {LONG_AGO_NS} WHERE {condition}")


class TestPruning:
    async def test_old_lines_go_when_the_journal_is_opened(self, path: Path) -> None:
        async with opened(path) as journal:
            for _ in range(3):
                await committed(journal, A)
        make_old(path, "txn < 2")
        async with opened(path):
            assert phases(path) == [(2, "staged"), (2, "committed")]

    async def test_an_open_transaction_stays_however_old_it_is(self, path: Path) -> None:
        async with opened(path) as journal:
            await journal.stage(A, "put_base", OP, target())
            await committed(journal, B)
        make_old(path)
        async with opened(path) as journal:
            assert (0, "staged") in phases(path)
            assert open_for(journal, A, "put_base") is not None

    async def test_numbers_of_lines_that_are_gone_are_not_used_again(self, path: Path) -> None:
        async with opened(path) as journal:
            for _ in range(3):
                await committed(journal, A)
        for _ in range(2):
            make_old(path)
            async with opened(path) as journal:
                pass
        async with opened(path) as journal:
            assert await journal.stage(A, "put_base", OP, target()) == 3

    async def test_cursors_stay_when_their_lines_go(self, path: Path) -> None:
        async with opened(path) as journal:
            await committed(journal, A)
            await committed(journal, B)
        make_old(path)
        async with opened(path) as journal:
            assert {record.session for record in journal.everything()} == {A, B}


def exercise(journal: Journal) -> None:
    """Ask everything that a daemon asks when it starts."""
    journal.everything()
    journal.not_current()
    journal.behind()
    journal.without_document("codetether")
    journal.unsettled()
    journal.sums()
    journal.tails()
    journal.damaged()
    journal.scrubbing()
    journal.unchanged_since(A.source, 10)
    journal.fact("places")
    for session in (A, B):
        journal.record(session)
        journal.records(session.source, session.id)
        journal.open_transactions(session)
        list(journal.known_files(session.source, session.root))


async def used(path: Path) -> None:
    async with opened(path) as journal:
        await committed(journal, A)
        await journal.note(A, STAT, State.CURRENT)
        await journal.stage(B, "put_base", OP, target())
        await journal.note(B, STAT, State.RETRYING, reason="store_unreachable", message="refused")
        await journal.remember("places", '{"roots":[]}')


async def works(path: Path) -> None:
    async with opened(path) as journal:
        exercise(journal)
        txn = await journal.stage(A, "put_base", OP, target())
        await journal.commit(txn, A, CURSOR)
        await journal.note(A, STAT, State.CURRENT)
        record = journal.record(A)
        assert record is not None
        assert record.cursor == CURSOR


@pytest.fixture(scope="module")
def used_journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("state") / "journal.db"
    asyncio.run(used(path))
    return path


class TestDamage:
    @pytest.mark.parametrize("damage", [b"", b"garbage" * 999, b"\0" * 4096])
    async def test_a_journal_that_was_replaced_by_something_else_works_again(
        self, path: Path, damage: bytes
    ) -> None:
        await used(path)
        overwrite(path, damage)
        await works(path)

    @settings(max_examples=40, deadline=None)
    @given(st.floats(0, 1))
    def test_a_journal_that_was_cut_anywhere_works_again(
        self, tmp_path_factory: pytest.TempPathFactory, place: float
    ) -> None:
        path = tmp_path_factory.mktemp("state") / "journal.db"
        asyncio.run(used(path))
        os.truncate(path, int(place * path.stat().st_size))
        asyncio.run(works(path))

    @settings(max_examples=150, deadline=None)
    @given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
    def test_a_journal_with_a_flipped_byte_works_again(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        used_journal: Path,
        place: float,
        flip: int,
    ) -> None:
        path = tmp_path_factory.mktemp("state") / "journal.db"
        content = bytearray(used_journal.read_bytes())
        meant = [where for where, byte in enumerate(content) if byte]
        content[meant[int(place * len(meant))]] ^= flip
        path.write_bytes(content)
        asyncio.run(works(path))

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE sessions SET state = 'happy'",
            "UPDATE sessions SET tail_length = 'much', segments = -1, behind_since = 'then'",
            "UPDATE open_transactions SET target = 'not json'",
            "UPDATE open_transactions SET target = '{\"key\":1}'",
            "UPDATE open_transactions SET target = '[]'",
            "UPDATE sessions SET message = CAST(x'ff' AS TEXT)",
        ],
    )
    async def test_a_row_that_means_nothing_is_as_good_as_none(
        self, path: Path, change: str
    ) -> None:
        await used(path)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(change)
        async with opened(path) as journal:
            exercise(journal)

    async def test_a_journal_from_before_there_were_tails_is_set_aside(self, path: Path) -> None:
        await used(path)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DROP INDEX sessions_behind")
            for column in ("tail_length", "segments", "behind_since", "sent"):
                connection.execute(f"ALTER TABLE sessions DROP COLUMN {column}")
        async with opened(path) as journal:
            assert journal.everything() == []
        await works(path)
        assert path.with_name("journal.db.damaged").exists()

    async def test_a_journal_that_was_deleted_begins_anew(self, path: Path) -> None:
        await used(path)
        overwrite(path, None)
        async with opened(path) as journal:
            assert journal.everything() == []
        await works(path)


def overwrite(path: Path, data: bytes | None) -> None:
    path.unlink()
    if data is not None:
        path.write_bytes(data)


@contextmanager
def full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestFullDisk:
    async def test_what_was_staged_before_a_full_disk_is_committed_after_it(
        self, path: Path
    ) -> None:
        heard: list[Exception | None] = []
        recovered = asyncio.Event()

        def hear(trouble: Exception | None) -> None:
            heard.append(trouble)
            if trouble is None:
                recovered.set()

        async with Journal(path, on_trouble=hear, retry_disk_s=0.02) as journal:
            before = await journal.stage(A, "put_base", OP, target())
            with full_disk():
                during = await journal.stage(B, "put_base", OP, target())
                await journal.commit(before, A, CURSOR)
                exercise(journal)
                record = journal.record(A)
                assert record is not None
                assert record.cursor == CURSOR
                assert list(journal.known_files(A.source, A.root))
                assert journal.unsettled() == [B]
            async with asyncio.timeout(20):
                await recovered.wait()
            await journal.commit(during, B, CURSOR)
            assert journal.unsettled() == []
        assert isinstance(heard[0], sqlite3.Error)
        assert phases(path) == [(0, "staged"), (1, "staged"), (0, "committed"), (1, "committed")]
        async with opened(path) as journal:
            assert sum(each.records for each in journal.sums()) == 2
