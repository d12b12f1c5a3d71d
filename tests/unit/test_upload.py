"""What is written to the archive, in which order, and what is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.documents import conversation, history
from tests.machine import Machine
from tests.memory_store import Bucket, Object
from transcriptd.claim import put_claim
from transcriptd.digest import digest
from transcriptd.errors import (
    AccessDenied,
    Corrupted,
    Damaged,
    ServerError,
    SlowDown,
    StoreError,
    Superseded,
    Unreachable,
)
from transcriptd.journal import entries
from transcriptd.layout import Meta
from transcriptd.model import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = "history/s/history.jsonl"
BASE = r"/s/history\.jsonl$"
CLAIM = "history/.tail/s/history.jsonl/writer-m1.0123456789ab"
CLOSED = "history/.generations/s/history.jsonl/000000.jsonl"
SHORT, LONG = conversation(2), conversation(5)
OTHER = conversation(3, about="something else")


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
async def machine(tmp_path: Path, bucket: Bucket) -> AsyncIterator[Machine]:
    async with Machine(tmp_path, bucket) as machine:
        yield machine
    assert bucket.ledger.broken == []


def meta_of(bucket: Bucket, key: str = KEY) -> Meta:
    meta = Meta.decode(bucket.objects[key].metadata)
    assert meta is not None
    return meta


def phases(machine: Machine) -> list[tuple[int, str]]:
    return [(entry.txn, entry.phase) for entry in entries(machine.journal_path)]


async def test_a_first_save_is_a_look_a_claim_and_one_conditional_put(
    machine: Machine,
) -> None:
    machine.save(SHORT)
    await machine.turn()
    assert machine.archived() == history(SHORT)
    assert [o.name for o in machine.store.log] == ["list", "put", "put"]
    assert [o.key for o in machine.store.log if o.name == "put"] == [CLAIM, KEY]


async def test_the_base_says_what_it_is(machine: Machine, bucket: Bucket) -> None:
    machine.save(SHORT)
    await machine.turn()
    content = history(SHORT)
    assert meta_of(bucket) == Meta(
        generation=0,
        records=2,
        length=len(content),
        digest=digest(content),
        writer="m1.0123456789ab",
        source="codetether",
    )


async def test_a_longer_session_replaces_its_base_by_one_request(machine: Machine) -> None:
    machine.save(SHORT)
    await machine.turn()
    machine.store.log.clear()
    machine.save(LONG)
    await machine.turn()
    assert machine.archived() == history(LONG)
    assert [o.name for o in machine.store.log] == ["put"]


async def test_after_a_start_the_archive_is_looked_at_before_anything_is_written(
    machine: Machine,
) -> None:
    machine.save(SHORT)
    await machine.turn()
    machine.save(LONG)
    await machine.restart()
    machine.store.log.clear()
    await machine.turn()
    asked = [o.name for o in machine.store.log if o.name != "discard_uploads"]
    assert sorted(asked[:3]) == ["head", "list", "list"]
    assert asked[3:] == ["put"]


async def test_an_undo_preserves_what_was_archived_before_it_replaces_it(
    machine: Machine, bucket: Bucket
) -> None:
    machine.save(LONG)
    await machine.turn()
    machine.store.log.clear()
    machine.save(SHORT)
    await machine.turn()
    assert bucket.objects[CLOSED].body == history(LONG)
    assert meta_of(bucket, CLOSED).generation == 0
    assert (machine.archived(), meta_of(bucket).generation) == (history(SHORT), 1)
    written = [o.key for o in machine.store.log if o.name in {"compose", "put"}]
    stop = f"history/.tail/s/history.jsonl/000000-{len(history(LONG)):020}.jsonl"
    assert written == [stop, CLOSED, KEY]


async def test_where_the_server_cannot_copy_a_generation_is_preserved_through_here(
    machine: Machine, bucket: Bucket
) -> None:
    bucket.copies = "not"
    machine.save(LONG)
    await machine.turn()
    machine.save(OTHER)
    await machine.turn()
    assert bucket.objects[CLOSED].body == history(LONG)
    assert meta_of(bucket, CLOSED).length == len(history(LONG))
    assert machine.archived() == history(OTHER)


async def test_a_copy_that_stored_half_replaces_nothing(machine: Machine, bucket: Bucket) -> None:
    bucket.copies = "short"
    machine.save(LONG)
    await machine.turn()
    machine.save(OTHER)
    with pytest.raises(Damaged):
        await machine.turn()
    assert machine.archived() == history(LONG)
    (reason,) = [e.detail for e in entries(machine.journal_path) if e.phase == "rejected"]
    assert json.loads(reason)["reason"] == "destructive_op"


async def test_a_copy_that_stored_half_is_made_whole_by_the_next_attempt(
    machine: Machine, bucket: Bucket
) -> None:
    bucket.copies = "short"
    machine.save(LONG)
    await machine.turn()
    machine.save(OTHER)
    with pytest.raises(Damaged):
        await machine.turn()
    bucket.copies = "not"  # as the store finds when it probes again
    await machine.turn()
    assert bucket.objects[CLOSED].body == history(LONG)
    assert machine.archived() == history(OTHER)


async def test_what_was_undone_and_done_again_is_a_generation_of_its_own(
    machine: Machine, bucket: Bucket
) -> None:
    for messages in (LONG, OTHER, LONG):
        machine.save(messages)
        await machine.turn()
    assert (machine.archived(), meta_of(bucket).generation) == (history(LONG), 2)
    assert bucket.ledger.contents(KEY) == {
        0: history(LONG),
        1: history(OTHER),
        2: history(LONG),
    }


async def test_a_closed_generation_is_not_continued_by_a_source_that_extends_it_again(
    machine: Machine, bucket: Bucket
) -> None:
    machine.save(SHORT)
    await machine.turn()
    machine.save(OTHER)
    machine.store.fail("compose", Unreachable("gone"), key=BASE)
    with pytest.raises(Unreachable):
        await machine.turn()
    assert CLOSED in bucket.objects
    machine.save(LONG)
    await machine.turn()
    assert (machine.archived(), meta_of(bucket).generation) == (history(LONG), 1)
    assert bucket.objects[CLOSED].body == history(SHORT)


@pytest.mark.parametrize("error", [Unreachable, ServerError, SlowDown, AccessDenied, Damaged])
async def test_an_outage_stays_staged(machine: Machine, error: type[StoreError]) -> None:
    machine.save(SHORT)
    machine.store.fail("put", error("injected"), key=BASE)
    with pytest.raises(error):
        await machine.turn()
    assert phases(machine) == [(0, "staged")]
    await machine.turn()
    assert phases(machine) == [(0, "staged"), (0, "committed")]


async def test_bytes_that_did_not_arrive_are_rejected_and_sent_again(machine: Machine) -> None:
    machine.save(SHORT)
    machine.store.fail("put", Corrupted("injected"), key=BASE)
    with pytest.raises(Corrupted):
        await machine.turn()
    assert phases(machine) == [(0, "staged"), (0, "rejected")]
    (rejected,) = [e for e in entries(machine.journal_path) if e.phase == "rejected"]
    assert json.loads(rejected.detail)["reason"] == "invariant_violation"
    await machine.turn()
    assert machine.archived() == history(SHORT)


async def test_an_error_while_looking_is_told_by_its_own_type(machine: Machine) -> None:
    machine.save(SHORT)
    machine.store.fail("list", ServerError("injected"))
    with pytest.raises(ServerError):
        await machine.turn()
    await put_claim(machine.store, machine.names, KEY)
    machine.store.fail("head", SlowDown("injected"))
    with pytest.raises(SlowDown):
        await machine.turn()


async def test_an_empty_new_session_leaves_nothing_in_the_archive(machine: Machine) -> None:
    machine.save([])
    await machine.turn()
    assert machine.store.log == []
    assert machine.record().state is State.CURRENT


async def test_a_session_that_was_emptied_is_a_generation_without_bytes(
    machine: Machine, bucket: Bucket
) -> None:
    for messages in (SHORT, [], LONG):
        machine.save(messages)
        await machine.turn()
    assert bucket.objects[CLOSED].body == history(SHORT)
    assert machine.archived() == history(LONG)


async def test_replacing_a_session_json_again_is_one_request_and_spares_another_ones(
    machine: Machine, bucket: Bucket
) -> None:
    document = "history/s/session.json"
    for title in ("first", "second"):
        machine.save(SHORT, title=title)
        await machine.turn(settled=True)
    machine.save(SHORT, title="third")
    machine.store.log.clear()
    await machine.turn(settled=True)
    assert [(o.name, o.key) for o in machine.store.log] == [("put", document)]

    bucket.objects[document] = Object(b"{}", {})
    machine.save(SHORT, title="fourth")
    with pytest.raises(Superseded):
        await machine.turn(settled=True)
    assert bucket.objects[document].body == b"{}"
    await machine.turn(settled=True)
    assert json.loads(bucket.objects[document].body)["title"] == "fourth"


async def test_the_other_content_follows_once_the_session_is_quiet(
    machine: Machine, bucket: Bucket
) -> None:
    machine.save(SHORT, metadata={"history_sink": {"secret_key": "hush"}, "model": "m"})
    await machine.turn()
    assert set(bucket.objects) == {KEY, CLAIM}
    await machine.turn(settled=True)
    document = json.loads(bucket.objects["history/s/session.json"].body)
    assert document["metadata"] == {"model": "m"}
    assert "messages" not in document
    machine.store.log.clear()
    await machine.turn(settled=True)
    assert machine.store.log == [], "nothing changed since"
