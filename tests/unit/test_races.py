"""What comes late, from two sides at once, or twice: nothing is lost, and it ends.

Requests whose answers are lost and that land afterwards, machines that take a session over from
each other, files that go and come back, clocks that are set back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.documents import compact, conversation, document, history
from tests.machine import Machine, until_archived
from tests.memory_store import Bucket, Object
from transcriptd.errors import Damaged, Superseded, Unreachable
from transcriptd.layout import Meta, SegmentMeta, machine_of, segment_key
from transcriptd.model import Session, State
from transcriptd.takeover import take_over
from transcriptd.write import Sizes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.documents import Message

KEY = "history/s/history.jsonl"
BASE = r"/s/history\.jsonl$"
TAIL = r"\.tail/.*/\d{6}-\d{20}\.jsonl$"
DOCUMENT = "history/s/session.json"
GENERATIONS = "history/.generations/s/history.jsonl/"
CLOSED = f"{GENERATIONS}000000.jsonl"
SHORT, LONG = conversation(2), conversation(6)
OTHER = conversation(5, about="something else")
TINY = Sizes(small=0, copyable=1)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
async def machine(tmp_path: Path, bucket: Bucket) -> AsyncIterator[Machine]:
    """Puts small bases whole."""
    async with Machine(tmp_path, bucket) as machine:
        yield machine
    assert bucket.ledger.broken == []


@pytest.fixture
async def second(tmp_path: Path, bucket: Bucket) -> AsyncIterator[Machine]:
    async with Machine(tmp_path, bucket, name="m2", writer="222222222222") as machine:
        yield machine


@pytest.fixture
async def tailing(tmp_path: Path, bucket: Bucket) -> AsyncIterator[Machine]:
    """Puts each change as a segment."""
    async with Machine(tmp_path, bucket, sizes=TINY) as machine:
        yield machine
    assert bucket.ledger.broken == []


class Queue:
    """Where a session that was taken over has its next turn; here the test takes it."""

    def touch(self, session: Session, *, at_once: bool = False) -> None:
        assert at_once, session


def generation(bucket: Bucket) -> int:
    meta = Meta.decode(bucket.objects[KEY].metadata)
    assert meta is not None
    return meta.generation


def finished(bucket: Bucket) -> dict[int, bytes]:
    return {
        int(key.removeprefix(GENERATIONS).removesuffix(".jsonl")): found.body
        for key, found in bucket.objects.items()
        if key.startswith(GENERATIONS)
    }


async def archive(machine: Machine, messages: Sequence[Message]) -> None:
    machine.save(messages)
    await until_archived(machine)


async def take(machine: Machine) -> None:
    (taken,) = await take_over(machine.journal, machine.worker, Queue())
    assert taken.session == "s"
    # The ledger does not know what people say: what stands there now may give way.
    bucket = machine.store.remote
    bucket.ledger.held(machine_of(machine.names.writer), bucket.objects[KEY].body)
    await until_archived(machine)


@pytest.mark.parametrize("saved", [LONG, OTHER], ids=["extends", "differs"])
async def test_what_lands_in_a_base_after_it_was_preserved_is_preserved_too(
    machine: Machine, bucket: Bucket, saved: list[Message]
) -> None:
    await archive(machine, SHORT)
    machine.store.delay("put", key=BASE)
    machine.save(LONG)
    with pytest.raises(Unreachable):
        await machine.turn()
    machine.store.fail("compose", Unreachable("gone"), key=BASE)
    machine.save(OTHER)
    with pytest.raises(Unreachable):
        await machine.turn()
    assert finished(bucket) == {0: history(SHORT)}
    bucket.arrive()
    assert machine.archived() == history(LONG)
    await archive(machine, saved)
    assert finished(bucket) == {0: history(LONG)}
    assert (machine.archived(), generation(bucket)) == (history(saved), 1)


@pytest.mark.parametrize("kept", [2, 3], ids=["to_what_is_known", "into_the_segment"])
async def test_an_undo_after_a_segment_whose_answer_was_lost_begins_a_generation(
    tailing: Machine, bucket: Bucket, kept: int
) -> None:
    await archive(tailing, LONG[:2])
    tailing.store.lose_answer("put", key=TAIL)
    tailing.save(LONG[:4])
    with pytest.raises(Unreachable):
        await tailing.turn()
    await archive(tailing, LONG[:kept])
    assert tailing.record().state is State.CURRENT
    assert finished(bucket) == {0: history(LONG[:4])}
    assert (tailing.archived(), generation(bucket)) == (history(LONG[:kept]), 1)


async def test_a_session_that_is_behind_can_be_taken_over(
    machine: Machine, second: Machine, bucket: Bucket
) -> None:
    await archive(machine, LONG)
    await archive(second, SHORT)
    assert second.record().state is State.BEHIND
    await take(second)
    assert second.record().state is State.CURRENT
    assert finished(bucket) == {0: history(LONG)}
    assert (second.archived(), generation(bucket)) == (history(SHORT), 1)


async def test_machines_that_took_over_from_each_other_do_not_go_on_doing_so(
    machine: Machine, second: Machine, bucket: Bucket
) -> None:
    ours, theirs = conversation(9), conversation(9, about="something else")
    await archive(machine, ours[:2])
    await archive(second, theirs[:2])
    await take(second)
    await archive(machine, ours[:3])
    await take(machine)
    assert (machine.archived(), generation(bucket)) == (history(ours[:3]), 2)
    for length in (4, 5, 6):
        await archive(second, theirs[:length])
        await archive(machine, ours[:length])
    assert finished(bucket) == {0: history(ours[:2]), 1: history(theirs[:2])}
    assert await machine.content() == history(ours[:6])
    states = machine.record().state, second.record().state
    assert states == (State.CURRENT, State.CONFLICT)


async def test_a_first_file_that_comes_back_finds_its_stream_taken_and_goes_beside_it(
    machine: Machine, bucket: Bucket
) -> None:
    first = machine.save(SHORT)
    await machine.turn()
    root = machine.root.parent / "copy" / "sessions"
    root.mkdir(parents=True)
    copy = Session("codetether", "s", str(root), "s.json")
    away = first.path.rename(first.path.with_name("away"))
    copy.path.write_bytes(compact(document(LONG[:4], "s")))
    await machine.turn(copy)
    assert machine.archived() == history(LONG[:4])
    away.rename(first.path)
    machine.save([*SHORT, *OTHER])
    await machine.turn()
    record = machine.record()
    assert record.state is State.CONFLICT
    assert record.cursor is not None
    assert bucket.objects[record.cursor.key].body == history([*SHORT, *OTHER])
    copy.path.write_bytes(compact(document(LONG, "s")))
    await machine.turn(copy)
    assert (machine.archived(), generation(bucket)) == (history(LONG), 0)
    assert finished(bucket) == {}


async def test_a_source_that_is_gone_is_sealed_with_the_segment_whose_answer_was_lost(
    tailing: Machine, bucket: Bucket
) -> None:
    await archive(tailing, LONG[:2])
    await archive(tailing, LONG[:3])
    tailing.store.lose_answer("put", key=TAIL)
    tailing.save(LONG[:5])
    with pytest.raises(Unreachable):
        await tailing.turn()
    tailing.session().path.unlink()
    await tailing.turn()
    assert tailing.archived() == history(LONG[:5])
    cursor = tailing.record().cursor
    assert cursor is not None
    assert (cursor.records, cursor.length) == (5, len(history(LONG[:5])))
    assert [key for key in bucket.objects if "/.tail/" in key and "writer-" not in key] == []


async def test_a_clock_that_was_set_back_does_not_put_a_repair_off(
    machine: Machine, bucket: Bucket
) -> None:
    await archive(machine, LONG[:4])
    bucket.overwrite(KEY, history(SHORT))
    await archive(machine, LONG[:5])
    machine.now -= 86_400
    bucket.overwrite(KEY, history(SHORT))
    machine.save(LONG)
    with pytest.raises(Superseded):
        await machine.turn()  # finds out
    await machine.turn()
    assert machine.archived() == history(LONG)


async def test_what_somebody_overwrites_again_and_again_is_repaired_once_a_minute(
    machine: Machine, bucket: Bucket
) -> None:
    await archive(machine, LONG[:4])
    bucket.overwrite(KEY, history(SHORT))
    await archive(machine, LONG[:5])
    machine.now += 20
    bucket.overwrite(KEY, history(SHORT))
    machine.save(LONG)
    with pytest.raises(Superseded):
        await machine.turn()  # finds out
    assert await machine.turn() == 40
    assert machine.archived() == history(SHORT)
    machine.now += 40
    await machine.turn()
    assert machine.archived() == history(LONG)


async def test_a_strangers_segment_inside_the_tail_does_not_stop_a_seal(
    tailing: Machine, bucket: Bucket
) -> None:
    await archive(tailing, LONG[:2])
    await archive(tailing, LONG[:3])
    await archive(tailing, LONG[:5])
    stray = segment_key("history/", KEY, 0, len(history(LONG[:3])) + 7)
    bucket.objects[stray] = Object(b"not ours\n", SegmentMeta("m9.0", "00" * 32).encode())
    await tailing.turn(sealing=True)
    assert tailing.archived() == history(LONG[:5])
    await tailing.restart()
    await archive(tailing, LONG)
    assert bucket.objects[stray].body == b"not ours\n"
    assert await tailing.content() == history(LONG)


@pytest.mark.parametrize(
    "said", [{}, Meta(0, 1, 9, "00" * 32, "m9.0", "codetether").encode()], ids=["nobodys", "ours"]
)
async def test_a_shorter_object_that_stands_where_a_generation_is_to_be_kept_stays(
    machine: Machine, bucket: Bucket, said: dict[str, str]
) -> None:
    await archive(machine, LONG)
    bucket.objects[CLOSED] = Object(b"not this\n", said)
    machine.save(OTHER)
    with pytest.raises(Damaged):
        await machine.turn()
    assert bucket.objects[CLOSED].body == b"not this\n"
    assert machine.archived() == history(LONG)


async def test_a_session_json_that_arrives_late_does_not_replace_a_newer_one(
    machine: Machine, bucket: Bucket
) -> None:
    machine.store.delay("put", key=DOCUMENT)
    machine.save(SHORT, title="old")
    with pytest.raises(Unreachable):
        await machine.turn(settled=True)
    machine.save(SHORT, title="new")
    await machine.turn(settled=True)
    bucket.arrive()
    assert json.loads(bucket.objects[DOCUMENT].body)["title"] == "new"


async def test_a_session_json_that_arrived_late_is_found_out_and_then_replaced(
    machine: Machine, bucket: Bucket
) -> None:
    machine.store.delay("put", key=DOCUMENT)
    machine.save(SHORT, title="old")
    with pytest.raises(Unreachable):
        await machine.turn(settled=True)
    bucket.arrive()
    machine.save(SHORT, title="new")
    with pytest.raises(Superseded):
        await machine.turn(settled=True)
    await machine.turn(settled=True)
    assert json.loads(bucket.objects[DOCUMENT].body)["title"] == "new"
    assert machine.record().state is State.CURRENT
