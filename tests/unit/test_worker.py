"""One session's whole way, and the states in which it may end."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.daemon import eventually
from tests.documents import SESSION_ID, compact, conversation, document, history
from tests.machine import MIB, Machine
from tests.memory_store import Bucket
from transcriptd.errors import SlowDown, Superseded, Unreachable
from transcriptd.journal import entries
from transcriptd.model import Session, State
from transcriptd.pool import SETTLED_S, Turn
from transcriptd.write import Sizes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SHORT, LONG = conversation(2), conversation(5)
SECRET = "canary-5c1e"


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    bucket = Bucket()
    async with Machine(tmp_path, bucket) as machine:
        yield machine
    assert bucket.ledger.broken == []


async def test_a_session_that_did_not_change_is_not_read_again(machine: Machine) -> None:
    session = machine.save(SHORT)
    await machine.turn()
    machine.store.log.clear()
    session.path.chmod(0)
    os.utime(session.path)  # both change the status, and root may read it all the same
    await machine.turn()
    await machine.turn()
    assert machine.store.log == []
    assert machine.record().state is State.CURRENT


async def test_a_save_of_the_same_messages_asks_the_store_nothing(machine: Machine) -> None:
    machine.save(SHORT)
    await machine.turn()
    machine.store.log.clear()
    machine.save(SHORT, title="another")
    await machine.turn()
    assert machine.store.log == []


async def test_the_other_content_is_asked_for_after_a_while_of_quiet(machine: Machine) -> None:
    machine.save(SHORT)
    soon = await machine.turn()
    assert soon is not None
    assert 0 < soon < SETTLED_S, "a new session has none yet"
    assert await machine.turn(settled=True) is None
    machine.save(LONG)
    assert await machine.turn() == SETTLED_S


async def test_what_is_saved_while_the_upload_runs_is_not_noted_as_archived(
    machine: Machine,
) -> None:
    machine.save(SHORT)
    held = machine.store.hold("put")
    turn = asyncio.create_task(machine.turn())
    await held.arrived.wait()
    machine.save(LONG)
    held.release()
    await turn
    assert machine.archived() == history(SHORT)
    await machine.turn()
    assert machine.archived() == history(LONG)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (bytes(64), "blank"),
        (b'{"id":"s","messages":[', "invalid_json"),
        (b'{"id":"other","messages":[]}', "wrong_id"),
        (b'{"id":"s","messages":{}}', "wrong_type"),
        (b'{"id":"s"}', "wrong_type"),
        (b'{"id":"s","messages":["text"]}', "wrong_type"),
        (b'{"id":"s","messages":[{"a":"\xff"}]}', "invalid_utf8"),
        (b'{"id":"s","x":' + b"[" * 10_000 + b"]" * 10_000 + b',"messages":[]}', "too_deep"),
    ],
)
async def test_what_cannot_be_read_is_quarantined_with_its_reason(
    machine: Machine, data: bytes, reason: str
) -> None:
    machine.save_bytes(data)
    await machine.turn()
    record = machine.record()
    assert (record.state, record.reason) == (State.QUARANTINED, reason)
    standing = machine.status.sessions[machine.session()]
    assert (standing.state, standing.reason) == (State.QUARANTINED, reason)
    assert machine.store.log == []


async def test_a_quarantined_session_keeps_its_archive_and_comes_back(machine: Machine) -> None:
    machine.save(SHORT)
    await machine.turn()
    machine.save_bytes(b"{")
    await machine.turn()
    assert machine.archived() == history(SHORT)
    machine.save(LONG)
    await machine.turn()
    assert machine.archived() == history(LONG)
    assert machine.record().state is State.CURRENT
    assert machine.status.sessions == {}


async def test_a_quarantine_is_journalled_once(machine: Machine) -> None:
    for data in (b"{", b"{ ", b"{  "):
        machine.save_bytes(data)
        await machine.turn()
    rejected = [e for e in entries(machine.journal_path) if e.phase == "rejected"]
    assert [json.loads(e.detail)["reason"] for e in rejected] == ["schema_mismatch"]


async def test_no_text_of_a_message_reaches_the_journal(machine: Machine) -> None:
    machine.save_bytes(b'{"id":"s","messages":[{"a":"%s"}' % SECRET.encode())
    await machine.turn()
    machine.save_bytes(b'{"id":"%s","messages":[]}' % SECRET.encode())
    await machine.turn()
    said = [machine.record().message, *(e.detail for e in entries(machine.journal_path))]
    assert not [text for text in said if SECRET in text]


async def test_a_document_above_the_limit_is_quarantined_as_too_large(machine: Machine) -> None:
    machine.save_bytes(b" " * (MIB + 1))
    await machine.turn()
    assert machine.record().reason == "too_large"


async def test_a_link_and_a_pipe_are_refused_without_waiting(machine: Machine) -> None:
    target = machine.root / "target"
    target.write_bytes(compact(document(SHORT, "link")))
    machine.session("link").path.symlink_to(target)
    os.mkfifo(machine.session("pipe").path)
    machine.session("folder").path.mkdir()
    for session_id in ("link", "pipe", "folder"):
        await machine.turn(machine.session(session_id))
        assert machine.record(session_id).reason == "not_a_file"
    assert machine.store.log == []


async def test_a_deleted_source_leaves_its_archive(machine: Machine) -> None:
    session = machine.save(SHORT)
    await machine.turn()
    session.path.unlink()
    await machine.turn()
    assert machine.record().state is State.SOURCE_GONE
    assert machine.archived() == history(SHORT)
    assert machine.store.count("delete") == 0
    machine.save(LONG)
    await machine.turn()
    assert machine.record().state is State.CURRENT


async def test_a_file_that_was_never_archived_and_is_gone_leaves_nothing(machine: Machine) -> None:
    await machine.turn(machine.session("ghost"))
    assert machine.journal.record(machine.session("ghost")) is None
    assert machine.status.sessions == {}


async def test_what_was_staged_is_settled_also_when_the_source_is_gone(machine: Machine) -> None:
    session = machine.save(SHORT)
    machine.store.lose_answer("put", key=r"/s/history\.jsonl$")
    with pytest.raises(Unreachable):
        await machine.turn()
    session.path.unlink()
    await machine.turn()
    assert machine.journal.unsettled() == []
    assert machine.record().state is State.SOURCE_GONE
    cursor = machine.record().cursor
    assert cursor is not None
    assert cursor.length == len(history(SHORT))


async def test_a_copy_of_a_session_below_another_root_has_a_stream_of_its_own(
    machine: Machine,
) -> None:
    machine.save(SHORT)
    await machine.turn()
    other = machine.root.parent / "copy" / "sessions"
    other.mkdir(parents=True)
    copy = Session("codetether", "s", str(other), "s.json")
    copy.path.write_bytes(compact(document(conversation(3, about="elsewhere"), "s")))
    await machine.turn(copy)
    assert machine.archived() == history(SHORT)
    record = machine.journal.record(copy)
    assert record is not None
    assert record.state is State.CONFLICT
    assert record.cursor is not None
    assert machine.store.objects[record.cursor.key].body == history(
        conversation(3, about="elsewhere")
    )
    machine.save(LONG)
    await machine.turn()
    assert machine.archived() == history(LONG)


async def test_a_session_that_moved_to_another_root_continues_its_stream(
    machine: Machine,
) -> None:
    session = machine.save(SHORT)
    await machine.turn()
    other = machine.root.parent / "new" / "sessions"
    other.mkdir(parents=True)
    session.path.unlink()
    moved = Session("codetether", "s", str(other), "s.json")
    moved.path.write_bytes(compact(document(LONG, "s")))
    await machine.turn(moved)
    assert machine.archived() == history(LONG)


async def test_while_the_store_is_down_no_document_is_held_in_memory(machine: Machine) -> None:
    machine.save(SHORT, "a")
    machine.store.fail("list", Unreachable("down"))
    with pytest.raises(Unreachable):
        await machine.turn(machine.session("a"))
    held = machine.store.hold("list")
    probe = asyncio.create_task(machine.turn(machine.session("a")))
    await held.arrived.wait()
    machine.save(SHORT, "b")
    waiting = asyncio.create_task(machine.turn(machine.session("b")))
    while not machine.gate._waiting:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0)
    machine.save(LONG, "b")
    held.release()
    await asyncio.gather(probe, waiting)
    assert machine.archived("b") == history(LONG), "what it had read first was kept"


async def test_documents_in_work_stay_within_the_budget(tmp_path: Path) -> None:
    async with Machine(tmp_path, memory_budget=64 * 1024) as machine:
        ids = [f"s{n}" for n in range(6)]
        for session_id in ids:
            machine.save(conversation(200, about=session_id), session_id)
        size = machine.session("s0").path.stat().st_size
        machine.store.hold("put")
        turns = [asyncio.create_task(machine.turn(machine.session(i))) for i in ids]
        for _ in range(200):
            await asyncio.sleep(0.001)
            assert machine.budget.lent <= max(64 * 1024, size)
        machine.store.faults[0].release()
        await asyncio.gather(*turns)
        assert machine.budget.lent == 0


async def test_a_failure_names_its_reason_and_the_state_is_retrying(machine: Machine) -> None:
    session = machine.save(SHORT)
    for error, reason in [
        (Unreachable("x"), "store_unreachable"),
        (SlowDown("x"), "store_slow"),
        (Superseded("x"), "moved_on"),
        (ZeroDivisionError("x"), "internal_error"),
    ]:
        machine.worker.failed(session, error, 1.0)
        standing = machine.status.sessions[session]
        assert (standing.state, standing.reason) == (State.RETRYING, reason)


async def test_an_archive_that_moved_on_is_worth_a_warning_where_it_is_not_looked_at_at_once(
    machine: Machine,
) -> None:
    session = machine.save(SHORT)
    with capture_logs() as events:
        machine.worker.failed(session, Superseded("x"), 0.0)
        machine.worker.failed(session, Superseded("x"), 1.0)
    assert [event["log_level"] for event in events] == ["debug", "warning"]


async def test_an_archived_change_is_measured_from_when_it_was_seen(tmp_path: Path) -> None:
    async with Machine(tmp_path) as machine:
        session = machine.save(SHORT)
        machine.worker._clock = lambda: 107.0
        await machine.worker.attempt(Turn(session, 100.0, settled=False))
        assert machine.status.archive_s.total == 7.0
        assert machine.status.events["archived"] == 1


async def test_ids_that_codetether_accepts_are_archived_as_they_are(machine: Machine) -> None:
    for session_id in (SESSION_ID, "übung_1", "日本", "a" * 128):
        machine.save(SHORT, session_id)
        await machine.turn(machine.session(session_id))
        assert machine.archived(session_id) == history(SHORT)


async def test_what_is_saved_while_its_turn_waits_for_the_store_is_archived_in_it(
    tmp_path: Path,
) -> None:
    async with Machine(tmp_path, sizes=Sizes(small=0)) as machine:
        for messages in (SHORT, LONG):  # the second is a tail, which alone is no reason to seal
            machine.save(messages)
            await machine.turn()
        machine.save(LONG, title="another")
        async with AsyncExitStack() as others:
            for _ in range(machine.gate.pressure.slots):
                await others.enter_async_context(machine.gate.turn())
            turn = asyncio.create_task(machine.turn())
            await eventually(lambda: machine.gate._waiting)
            machine.save(conversation(9))
        await turn
        assert await machine.content() == history(conversation(9))
