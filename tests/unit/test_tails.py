"""A session that grows costs what is new, and its base takes that in when it is worth it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.documents import conversation, history
from tests.machine import Machine
from tests.memory_store import AwsWithoutListing, Bucket, MemoryStore, Object
from transcriptd.digest import digest
from transcriptd.errors import AccessDenied, Superseded, Unreachable
from transcriptd.journal import entries
from transcriptd.layout import Meta, SegmentMeta, segment_key
from transcriptd.model import State
from transcriptd.survey import survey
from transcriptd.write import Sizes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.documents import Message

KEY = "history/s/history.jsonl"
BASE = r"/s/history\.jsonl$"
TAIL = r"\.tail/.*/\d{6}-\d{20}\.jsonl$"
CLOSED = "history/.generations/s/history.jsonl/000000.jsonl"
LONG = conversation(12)
TINY = Sizes(small=0, copyable=1)


class Asked(MemoryStore):
    """Counts how often it is asked whether it copies: on a real server that may be a probe."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket)
        self.for_copies = 0

    async def copies(self) -> bool:
        self.for_copies += 1
        return await super().copies()


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
async def machine(tmp_path: Path, bucket: Bucket) -> AsyncIterator[Machine]:
    async with Machine(tmp_path, bucket, sizes=TINY) as machine:
        yield machine
    assert bucket.ledger.broken == []


@pytest.fixture
async def second(tmp_path: Path, bucket: Bucket) -> AsyncIterator[Machine]:
    async with Machine(tmp_path, bucket, name="m2", writer="222222222222", sizes=TINY) as machine:
        yield machine


async def grow(machine: Machine, *lengths: int, of: list[Message] | None = None) -> None:
    for length in lengths:
        machine.save((of or LONG)[:length])
        await machine.turn()


async def content(bucket: Bucket, key: str = KEY) -> bytes:
    """Return what a reader finds: the base and the segments that continue it."""
    store = Machine.reader(bucket)
    found = await survey(store, "history/", key)
    body = bucket.objects[key].body
    for segment in found.chain.content:
        stored = bucket.objects[segment.key]
        meta = SegmentMeta.decode(stored.metadata)
        assert meta is not None
        assert meta.pre == digest(body)
        body += stored.body
    return body


def segments(bucket: Bucket) -> list[str]:
    below = [key for key in sorted(bucket.objects) if "/.tail/" in key and key.endswith(".jsonl")]
    return [key for key in below if bucket.objects[key].body]


async def test_a_change_is_one_segment_that_holds_the_change_alone(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2)
    machine.store.log.clear()
    await grow(machine, 3)
    (put,) = machine.store.log
    start = len(history(LONG[:2]))
    assert (put.name, put.key) == ("put", segment_key("history/", KEY, 0, start))
    assert bucket.objects[put.key].body == history(LONG[:3])[start:]
    assert machine.archived() == history(LONG[:2])
    assert await content(bucket) == history(LONG[:3])


async def test_a_small_session_is_put_as_a_whole(tmp_path: Path, bucket: Bucket) -> None:
    async with Machine(tmp_path, bucket) as machine:
        await grow(machine, 2, 3, 4)
        assert machine.archived() == history(LONG[:4])
        assert segments(bucket) == []


async def test_a_seal_takes_in_the_tail_and_then_removes_it(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2, 3, 5)
    assert len(segments(bucket)) == 2
    machine.store.log.clear()
    await machine.turn(sealing=True, settled=True)
    assert machine.archived() == history(LONG[:5])
    assert segments(bucket) == []
    names = [o.name for o in machine.store.log if "session.json" not in o.key]
    assert names == ["list", "compose", "delete"]
    cursor = machine.record().cursor
    assert cursor is not None
    assert (cursor.tail_length, cursor.segments, cursor.behind_since) == (0, 0, 0.0)


async def test_a_sealed_base_says_what_it_is(machine: Machine, bucket: Bucket) -> None:
    await grow(machine, 2, 3, 5)
    await machine.turn(sealing=True, settled=True)
    meta, whole = Meta.decode(bucket.objects[KEY].metadata), history(LONG[:5])
    assert meta is not None
    assert (meta.generation, meta.records) == (0, 5)
    assert (meta.length, meta.digest) == (len(whole), digest(whole))


async def test_a_base_that_the_store_can_copy_is_not_sent_again(machine: Machine) -> None:
    await grow(machine, 10, 11)
    sent = machine.store.traffic.sent_bytes
    await machine.turn(sealing=True)
    assert machine.store.traffic.sent_bytes - sent == len(history(LONG[:11])) - len(
        history(LONG[:10])
    )


async def test_where_copying_is_not_proven_a_seal_sends_the_whole(
    machine: Machine, bucket: Bucket
) -> None:
    bucket.copies = "not"
    await grow(machine, 10, 11)
    sent = machine.store.traffic.sent_bytes
    await machine.turn(sealing=True)
    assert machine.store.traffic.sent_bytes - sent == len(history(LONG[:11]))
    assert machine.archived() == history(LONG[:11])


async def test_whether_a_base_is_copied_is_what_its_seal_is_judged_by(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 10, 11)
    await machine.turn(sealing=True)
    await grow(machine, 12)  # to send it all once more, and at its end, would be too much by now
    bucket.copies = "not"
    await machine.turn(settled=True)
    assert machine.archived() == history(LONG[:11])
    bucket.copies = "well"
    await machine.turn(settled=True)
    assert machine.archived() == history(LONG[:12])


async def test_the_store_is_not_asked_to_copy_a_base_that_is_too_small_for_it(
    tmp_path: Path, bucket: Bucket
) -> None:
    small = len(history(LONG[:3]))
    machine = Machine(tmp_path, bucket, sizes=Sizes(small=0, copyable=small))
    machine.store = asked = Asked(bucket)
    async with machine:
        await grow(machine, 2, 4)
        await machine.turn(sealing=True)
        assert asked.for_copies == 0
        await grow(machine, 5)
        await machine.turn(sealing=True)
        assert asked.for_copies > 0


async def test_while_a_session_is_written_the_store_is_not_asked_whether_it_copies(
    tmp_path: Path, bucket: Bucket
) -> None:
    machine = Machine(tmp_path, bucket, sizes=TINY)
    machine.store = asked = Asked(bucket)
    async with machine:
        await grow(machine, 10, 11)
        assert asked.for_copies == 0
        await machine.turn(sealing=True)
        asked.for_copies = 0
        await grow(machine, 12)
        assert asked.for_copies == 0
        await machine.turn(settled=True)  # here it decides
        assert asked.for_copies > 0


async def test_a_base_that_is_behind_for_too_long_is_sealed_by_the_next_turn(
    machine: Machine,
) -> None:
    await grow(machine, 2, 3)
    machine.now += machine.max_lag
    await machine.turn(settled=True)
    assert machine.archived() == history(LONG[:3])


async def test_a_quiet_session_says_when_its_base_has_to_be_sealed(
    machine: Machine, bucket: Bucket
) -> None:
    bucket.copies = "not"
    await grow(machine, 4, 5)
    await machine.turn(sealing=True)
    await grow(machine, 6)
    machine.now += 60
    assert await machine.turn(settled=True) == machine.max_lag - 60
    assert segments(bucket) != []


async def test_a_segment_that_landed_before_a_crash_is_not_sent_again(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2)
    machine.save(LONG[:4])
    machine.store.lose_answer("put", key=TAIL)
    with pytest.raises(Unreachable):
        await machine.turn()
    await machine.restart()
    machine.store.log.clear()
    await machine.turn()
    assert machine.store.count("put") == 0
    assert machine.journal.unsettled() == []
    assert await content(bucket) == history(LONG[:4])


async def test_a_deleted_journal_is_rebuilt_with_the_tail(machine: Machine, bucket: Bucket) -> None:
    await grow(machine, 2, 3, 5)
    before = machine.record().cursor
    assert before is not None
    await machine.restart("lost")
    machine.store.log.clear()
    await machine.turn()
    assert machine.store.count("put|compose|delete") == 0
    after = machine.record().cursor
    assert after is not None
    assert (after.length, after.digest, after.records) == (before.length, before.digest, 5)
    assert (after.tail_length, after.segments) == (before.tail_length, 2)
    await grow(machine, 6)
    assert await content(bucket) == history(LONG[:6])


async def test_what_a_crash_left_of_a_folded_tail_is_removed_later(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2, 3)
    machine.store.fail("delete", Unreachable("gone"))
    with pytest.raises(Unreachable):
        await machine.turn(sealing=True)
    assert machine.archived() == history(LONG[:3])
    assert len(segments(bucket)) == 1
    await machine.restart()
    await grow(machine, 4)
    left = segment_key("history/", KEY, 0, len(history(LONG[:2])))
    assert left not in bucket.objects
    assert await content(bucket) == history(LONG[:4])


async def test_a_credential_that_may_not_remove_goes_on(machine: Machine, bucket: Bucket) -> None:
    await grow(machine, 2, 3)
    machine.store.fail("delete", AccessDenied("no"), times=None)
    await machine.turn(sealing=True)
    await grow(machine, 4)
    await machine.turn(sealing=True)
    assert machine.archived() == history(LONG[:4])
    assert machine.store.count("delete") == 1
    assert machine.record().state is State.CURRENT


async def test_an_undo_preserves_the_generation_with_its_tail_folded_in(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2, 3, 5)
    await grow(machine, 4)
    assert bucket.objects[CLOSED].body == history(LONG[:5])
    assert machine.archived() == history(LONG[:4])
    assert segments(bucket) == []
    meta = Meta.decode(bucket.objects[CLOSED].metadata)
    assert meta is not None
    assert (meta.records, meta.digest) == (5, digest(history(LONG[:5])))


async def test_an_undo_to_exactly_the_base_gets_an_etag_of_its_own(
    machine: Machine, bucket: Bucket
) -> None:
    """A late request that was meant for the old base must not find the new one."""
    await grow(machine, 2)
    before = bucket.objects[KEY].etag
    await grow(machine, 3, 2)
    assert machine.archived() == history(LONG[:2])
    assert bucket.objects[KEY].etag != before


async def test_a_segment_that_went_is_made_good_from_the_source(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2, 3, 4)
    del bucket.objects[segments(bucket)[0]]
    await machine.restart()
    await grow(machine, 5)
    assert await content(bucket) == history(LONG[:5])
    cursor = machine.record().cursor
    assert cursor is not None
    assert cursor.generation == 0


async def test_a_strangers_segment_in_the_way_is_never_touched(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2)
    key = segment_key("history/", KEY, 0, len(history(LONG[:2])))
    bucket.objects[key] = Object(b"not ours\n", {})
    machine.save(LONG[:3])
    with pytest.raises(Superseded):
        await machine.turn()
    await machine.turn()
    await grow(machine, 5)
    assert bucket.objects[key].body == b"not ours\n"
    assert await content(bucket) == history(LONG[:5])


async def test_a_segment_behind_a_hole_is_never_touched(machine: Machine, bucket: Bucket) -> None:
    await grow(machine, 2)
    key = segment_key("history/", KEY, 0, len(history(LONG[:9])))
    meta = SegmentMeta("m1.0123456789ab", digest(b"x"))
    bucket.objects[key] = Object(b"not ours\n", meta.encode())
    await machine.restart()
    await grow(machine, 3, 4, 9, 10)
    assert bucket.objects[key].body == b"not ours\n"
    assert await content(bucket) == history(LONG[:10])


async def test_a_second_writer_is_noticed_at_its_first_segment(
    machine: Machine, second: Machine, bucket: Bucket
) -> None:
    await grow(machine, 3)
    await grow(second, 4)  # adopts the stream, and adds to it
    machine.save([*LONG[:3], *conversation(2, about="something else")])
    with pytest.raises(Superseded):
        await machine.turn()
    await machine.turn()
    assert machine.record().state is State.CONFLICT
    assert await content(bucket) == history(LONG[:4])
    aside = "history/.conflicts/s/history.jsonl/m1.0123456789ab.jsonl"
    assert bucket.objects[aside].body.startswith(history(LONG[:3]))


async def test_a_claim_names_whom_it_replaces(
    machine: Machine, second: Machine, bucket: Bucket
) -> None:
    await grow(machine, 3)
    await grow(second, 4)
    claim = json.loads(bucket.objects["history/.tail/s/history.jsonl/writer-m2.222222222222"].body)
    assert claim["replaces"] == ["m1.0123456789ab"]
    assert claim["takes_over"] == {}


async def test_beside_another_writer_the_base_is_looked_at_before_a_segment_counts(
    machine: Machine, second: Machine
) -> None:
    await grow(machine, 3)
    await grow(second, 4)
    second.store.log.clear()
    await grow(second, 5)
    assert [o.name for o in second.store.log] == ["put", "head"]


async def test_without_permission_to_list_whole_objects_are_kept(
    machine: Machine, bucket: Bucket
) -> None:
    machine.store.fail("list", AccessDenied("no"), times=None)
    await grow(machine, 2, 3, 2, 4)
    assert machine.archived() == history(LONG[:4])
    assert bucket.objects[CLOSED].body == history(LONG[:3])
    assert segments(bucket) == []


async def test_where_what_is_absent_counts_as_forbidden_new_sessions_are_archived(
    tmp_path: Path, bucket: Bucket
) -> None:
    machine = Machine(tmp_path, bucket)
    machine.store = AwsWithoutListing(bucket)
    async with machine:
        await grow(machine, 2, 3, 2)
        assert machine.archived() == history(LONG[:2])
        assert bucket.objects[CLOSED].body == history(LONG[:3])


async def test_a_source_that_is_gone_is_sealed_from_the_archive(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2, 3, 5)
    machine.session().path.unlink()
    await machine.turn()
    assert machine.archived() == history(LONG[:5])
    assert segments(bucket) == []
    assert machine.record().state is State.SOURCE_GONE


async def test_every_segment_stands_in_the_journal(machine: Machine) -> None:
    await grow(machine, 2, 3)
    await machine.turn(sealing=True)
    phases = [entry.phase for entry in entries(machine.journal_path)]
    assert phases == ["staged", "committed"] * 3
