"""What is found in the archive, whoever left it there, and what follows from it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.documents import conversation, history
from tests.machine import Machine, until_archived
from tests.memory_store import Bucket, Crashed
from transcriptd.claim import ASSUMED
from transcriptd.errors import (
    Superseded,
    Unreachable,
)
from transcriptd.journal import entries
from transcriptd.layout import Meta, claim_key, generation_key
from transcriptd.model import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BASE = r"/s/history\.jsonl$"
KEY = "history/s/history.jsonl"
CLOSED = "history/.generations/s/history.jsonl/000000.jsonl"
US = "m1.0123456789ab"
ASIDE = "history/.conflicts/s/history.jsonl/m2.222222222222.jsonl"
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


@pytest.fixture
async def second(tmp_path: Path, bucket: Bucket) -> AsyncIterator[Machine]:
    """Another machine that archives to the same place."""
    async with Machine(tmp_path, bucket, name="m2", writer="222222222222") as machine:
        yield machine


def meta_of(bucket: Bucket, key: str = KEY) -> Meta:
    meta = Meta.decode(bucket.objects[key].metadata)
    assert meta is not None
    return meta


def phases(machine: Machine) -> list[tuple[int, str]]:
    return [(entry.txn, entry.phase) for entry in entries(machine.journal_path)]


async def test_what_was_staged_and_is_no_longer_to_be_done_is_rejected(machine: Machine) -> None:
    machine.save(SHORT)
    await machine.turn()
    machine.save(LONG)
    machine.store.fail("put", Unreachable("gone"), key=BASE)
    with pytest.raises(Unreachable):
        await machine.turn()
    machine.save(SHORT)
    await machine.turn()
    assert machine.journal.unsettled() == []
    assert phases(machine)[-1] == (1, "rejected")
    assert machine.archived() == history(SHORT)


async def test_a_deleted_journal_is_rebuilt_without_sending_a_byte(
    machine: Machine, bucket: Bucket
) -> None:
    for messages in (SHORT, OTHER):
        machine.save(messages)
        await machine.turn()
    before = machine.record().cursor
    assert before is not None
    await machine.restart("lost")
    machine.store.log.clear()
    await machine.turn()
    assert machine.store.count("put|compose") == 0
    assert {o.name for o in machine.store.log} == {"head", "list", "discard_uploads"}
    assert machine.record().cursor == replace(before, document_digest="")
    assert meta_of(bucket).generation == 1


async def test_only_who_finds_no_claim_of_its_own_takes_for_granted_that_nothing_was_closed(
    machine: Machine,
) -> None:
    machine.save(SHORT)
    machine.store.crash_at(4)  # the claim was put
    with pytest.raises((Crashed, BaseExceptionGroup)):
        await machine.turn()
    machine.store.recover()
    await machine.restart()
    machine.store.log.clear()
    await machine.turn()
    assert machine.archived() == history(SHORT)
    assert machine.store.count("list", r"\.generations/") == 1


@pytest.mark.parametrize("step", range(1, 15))
async def test_wherever_a_rewrite_is_cut_short_the_next_start_finishes_it(
    machine: Machine, bucket: Bucket, step: int
) -> None:
    machine.save(LONG)
    await machine.turn()
    machine.save(OTHER)
    machine.store.crash_at(step)
    try:
        await machine.turn()
    except (Crashed, BaseExceptionGroup):
        pass
    else:
        machine.store.recover()  # there are fewer steps than that
    machine.store.recover()
    await machine.restart()
    await until_archived(machine)
    assert machine.archived() == history(OTHER)
    assert bucket.objects[CLOSED].body == history(LONG)
    assert meta_of(bucket).generation == 1
    assert machine.journal.unsettled() == []
    assert machine.store.count("compose", r"\.generations") <= 2
    assert machine.store.count("put|compose", BASE) <= 3


async def test_a_lost_answer_is_settled_without_sending_again(machine: Machine) -> None:
    machine.save(SHORT)
    machine.store.lose_answer("put", key=BASE)
    with pytest.raises(Unreachable):
        await machine.turn()
    await machine.turn()
    assert machine.store.count("put", BASE) == 1
    assert machine.record().state is State.CURRENT
    assert phases(machine) == [(0, "staged"), (0, "committed")]


async def test_a_save_after_a_lost_answer_continues_what_took_effect(
    machine: Machine, bucket: Bucket
) -> None:
    machine.save(SHORT)
    machine.store.lose_answer("put", key=BASE)
    with pytest.raises(Unreachable):
        await machine.turn()
    machine.save(LONG)
    await machine.turn()
    assert (machine.archived(), meta_of(bucket).generation) == (history(LONG), 0)
    assert phases(machine) == [
        *[(0, "staged"), (0, "committed")],
        *[(1, "staged"), (1, "committed")],
    ]


async def test_an_archive_by_the_agents_own_sink_is_continued(
    machine: Machine, bucket: Bucket
) -> None:
    bucket.overwrite(KEY, history(SHORT))
    machine.save(LONG)
    await until_archived(machine)
    assert (machine.archived(), meta_of(bucket).generation) == (history(LONG), 0)


async def test_an_equal_archive_by_the_agents_own_sink_is_adopted_as_it_is(
    machine: Machine, bucket: Bucket
) -> None:
    bucket.overwrite(KEY, history(LONG))
    before = bucket.objects[KEY]
    machine.save(LONG)
    await until_archived(machine)
    assert bucket.objects[KEY] is before
    assert machine.record().state is State.CURRENT


async def test_a_large_base_of_the_agents_own_sink_is_found_before_ours_is_sent(
    machine: Machine, bucket: Bucket
) -> None:
    large = conversation(1200, about="large")
    assert len(history(large)) > ASSUMED
    bucket.overwrite(KEY, history(large))
    machine.save(large)
    await machine.turn()
    assert machine.store.count("put", BASE) == 0
    assert machine.record().state is State.CURRENT


async def test_a_strangers_archive_that_differs_is_kept_before_it_is_replaced(
    machine: Machine, bucket: Bucket
) -> None:
    bucket.overwrite(KEY, history(OTHER))
    etag = bucket.objects[KEY].etag
    machine.save(SHORT)
    await until_archived(machine)
    assert machine.archived() == history(SHORT)
    kept = bucket.objects[f"history/.conflicts/s/history.jsonl/foreign-{etag}.jsonl"]
    assert kept.body == history(OTHER)


@pytest.mark.parametrize("claimant", [US, "m2.222222222222"])
async def test_where_somebody_was_before_no_finished_generation_is_begun_again(
    machine: Machine, bucket: Bucket, claimant: str
) -> None:
    bucket.overwrite(claim_key("history/", KEY, claimant), b"{}")
    bucket.overwrite(generation_key("history/", KEY, 4), history(OTHER))
    machine.save(SHORT)
    await machine.turn()
    assert (machine.archived(), meta_of(bucket).generation) == (history(SHORT), 5)


async def test_where_the_store_appends_in_place_nobody_claims_anything(
    machine: Machine, bucket: Bucket
) -> None:
    bucket.appends = True
    machine.save(SHORT)
    await machine.turn()
    assert set(bucket.objects) == {KEY}


async def test_of_two_newcomers_the_second_finds_the_claim_of_the_first(
    machine: Machine, second: Machine, bucket: Bucket
) -> None:
    for each, messages in ((machine, SHORT), (second, OTHER)):
        each.save(messages)
    held = machine.store.hold("put", key="writer-")
    first = asyncio.create_task(machine.turn())
    await held.arrived.wait()
    await second.turn()
    held.release()
    with pytest.raises(Superseded):
        await first
    await machine.turn()
    assert bucket.objects[KEY].body == history(OTHER)
    assert bucket.objects[f"history/.conflicts/s/history.jsonl/{US}.jsonl"].body == history(SHORT)


async def test_what_the_agents_own_sink_cut_off_is_repaired_and_reported(
    machine: Machine, bucket: Bucket
) -> None:
    machine.save(LONG[:4])
    await machine.turn()
    bucket.overwrite(KEY, history(SHORT))
    machine.save(LONG)
    await until_archived(machine)
    assert (machine.archived(), meta_of(bucket).generation) == (history(LONG), 0)
    assert machine.foreign == ["s"]


async def test_a_home_that_moved_to_another_machine_goes_on(
    machine: Machine, second: Machine, bucket: Bucket
) -> None:
    machine.save(SHORT)
    await machine.turn()
    second.save(LONG)
    await second.turn()
    assert await machine.content() == history(LONG)
    assert (meta_of(bucket).generation, meta_of(bucket).writer) == (0, second.names.writer)
    assert second.record().state is State.CURRENT


async def test_two_machines_with_one_session_id_keep_both_histories(
    machine: Machine, second: Machine, bucket: Bucket
) -> None:
    machine.save(SHORT)
    await machine.turn()
    second.save(OTHER)
    await second.turn(settled=True)
    assert machine.archived() == history(SHORT)
    assert bucket.objects[ASIDE].body == history(OTHER)
    assert second.record().state is State.CONFLICT
    beside = "history/.conflicts/s/session.json/m2.222222222222.json"
    assert beside in bucket.objects


async def test_a_stale_copy_of_the_sessions_writes_nothing(
    machine: Machine, second: Machine
) -> None:
    machine.save(LONG)
    await machine.turn()
    second.save(SHORT)
    await second.turn()
    assert second.store.count("put|compose") == 0
    assert second.record().state is State.BEHIND
    assert machine.archived() == history(LONG)


async def test_a_writer_that_comes_in_between_is_noticed_by_the_condition(
    machine: Machine, second: Machine, bucket: Bucket
) -> None:
    machine.save(SHORT)
    await machine.turn()
    second.save(LONG)
    await second.turn()
    machine.save([*SHORT, *OTHER])
    with pytest.raises(Superseded):
        await machine.turn()
    await until_archived(machine)
    assert await machine.content() == history(LONG)
    aside = "history/.conflicts/s/history.jsonl/m1.0123456789ab.jsonl"
    assert bucket.objects[aside].body == history([*SHORT, *OTHER])
    assert machine.journal.unsettled() == []
    reasons = [e.detail for e in entries(machine.journal_path) if e.phase == "rejected"]
    assert [json.loads(reason)["reason"] for reason in reasons] == ["provenance_fail"]


async def test_the_loser_of_a_race_for_a_new_stream_overwrites_nothing(
    machine: Machine, second: Machine
) -> None:
    machine.save(SHORT)
    second.save(OTHER)
    held = machine.store.hold("put", key=BASE)
    first = asyncio.create_task(machine.turn())
    await held.arrived.wait()
    await second.turn()
    held.release()
    with pytest.raises(Superseded):
        await first
    await until_archived(machine)
    assert machine.archived() == history(OTHER)
    assert machine.record().state is State.CONFLICT


async def test_where_conditions_are_not_honoured_they_are_compared_here(
    machine: Machine, second: Machine, bucket: Bucket
) -> None:
    bucket.honours = False
    machine.save(SHORT)
    await machine.turn()
    second.save(OTHER)
    await second.turn()
    assert machine.archived() == history(SHORT)
    assert bucket.objects[ASIDE].body == history(OTHER)
