"""Every kind of damage has its word; what is well, or being written, has none."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.documents import conversation, document, history, message, save
from tests.machine import Machine, until_archived
from tests.memory_store import Bucket, Crashed, MemoryStore, Object
from tests.servers.process import fast_parent
from transcriptd import files
from transcriptd.digest import digest
from transcriptd.errors import AccessDenied, ServerError, StoreError, StreamError, Unreachable
from transcriptd.files import stat_of
from transcriptd.layout import (
    Meta,
    SegmentMeta,
    claim_key,
    foreign_key,
    generation_key,
    mirror_key,
    segment_key,
)
from transcriptd.model import State
from transcriptd.sources.claude import Claude
from transcriptd.sources.codetether import CodeTether
from transcriptd.sources.zeroclaw import ZeroClaw
from transcriptd.verify import LOST, MEANINGS, Here, Verifier, What, is_stream, session_of
from transcriptd.write import Sizes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from transcriptd.verify import Verdict

PREFIX = "history/"
KEY = "history/s/history.jsonl"
DOCUMENT = "history/s/session.json"
ASIDE = "history/.conflicts/s/history.jsonl/m2.222222222222.jsonl"
CLOSED = generation_key(PREFIX, KEY, 0)
WRITER = "m1.0123456789ab"
DEPTHS = ("shallow", "deep")
TAILS = Sizes(small=0, copyable=1)
LONG, OTHER = conversation(9), conversation(9, about="something else")
FIRST = history(LONG[:2])


@pytest.fixture(params=DEPTHS)
def depth(request: pytest.FixtureRequest) -> str:
    """How closely is looked: what is named either way is."""
    return str(request.param)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory where nothing waits for a disk, and no change hides in a tick of the clock."""
    with (
        tempfile.TemporaryDirectory(dir=fast_parent()) as directory,
        mock.patch.object(files, "_TICK_S", 0.0),
    ):
        yield Path(directory)


@pytest.fixture
async def machine(home: Path, bucket: Bucket) -> AsyncIterator[Machine]:
    async with Machine(home, bucket, sizes=TAILS) as machine:
        yield machine


@pytest.fixture
async def second(home: Path, bucket: Bucket) -> AsyncIterator[Machine]:
    async with Machine(home, bucket, name="m2", writer="222222222222", sizes=TAILS) as machine:
        yield machine


async def grow(machine: Machine, *lengths: int, session_id: str = "s", about: str = "") -> None:
    messages = conversation(9, about=about) if about else LONG
    for length in lengths:
        machine.save(messages[:length], session_id)
        await machine.turn(machine.session(session_id))


async def undone(machine: Machine) -> None:
    """Archive a generation with a tail, preserve it, and begin another that has a tail."""
    await grow(machine, 2, 3, 4)
    await grow(machine, 2, 3, about="a second attempt")


class Look:
    """What one run of `verify` said."""

    def __init__(self, verdicts: list[Verdict], store: MemoryStore) -> None:
        self.verdicts = verdicts
        self.store = store

    @property
    def found(self) -> list[tuple[What, str]]:
        return [(f.what, f.key) for verdict in self.verdicts for f in verdict.findings]

    @property
    def states(self) -> dict[str, str]:
        return {verdict.session: verdict.state for verdict in self.verdicts}


async def verify(
    bucket: Bucket,
    machine: Machine | None = None,
    *wanted: str,
    depth: str = "shallow",
    journal: bool = True,
    store: MemoryStore | None = None,
    meanwhile: Callable[[], Awaitable[object]] | None = None,
) -> Look:
    """Verify as this machine, or as one that has no sessions; time passes at once."""

    async def sleep(_seconds: float) -> None:
        if meanwhile:
            await meanwhile()

    client = store or MemoryStore(bucket)
    roots = (str(machine.root),) if machine else ()
    here = Here(
        {"codetether": CodeTether(roots, {"HOME": "/nonexistent"})},
        PREFIX,
        machine.names.writer.partition(".")[0] if machine else "m9",
        1 << 20,
        machine.journal if machine and journal else None,
    )
    verdicts: list[Verdict] = []
    await Verifier(client, here, deep=depth == "deep", sleep=sleep).run(wanted, verdicts.append)
    assert {o.name for o in client.log} <= {"head", "read", "list"}  # it writes nothing
    return Look(verdicts, client)


def damage(
    bucket: Bucket,
    key: str,
    body: bytes | None = None,
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Change an object behind everybody's back."""
    was = bucket.objects[key]
    said = {**was.metadata, **{f"td-{name}": value for name, value in metadata.items()}}
    bucket.objects[key] = Object(was.body if body is None else body, said)


def flipped(body: bytes) -> bytes:
    return body[:-2] + bytes([body[-2] ^ 1]) + body[-1:]


def segments(bucket: Bucket, generation: int = 0) -> list[str]:
    start = f"history/.tail/s/history.jsonl/{generation:06}-"
    return sorted(key for key in bucket.objects if key.startswith(start))


async def everything(machine: Machine, second: Machine, bucket: Bucket) -> None:
    """Make an archive that has one of each kind, all of them well."""
    await undone(machine)
    await machine.turn(settled=True)
    await grow(machine, 4, about="a second attempt")
    await grow(machine, 1, session_id="t")
    await grow(second, 3, 4, about="somebody else's")
    await second.turn(settled=True)
    bucket.objects[foreign_key(PREFIX, KEY, "0f")] = Object(b"{}\n", {})
    bucket.objects[f"{PREFIX}.tail/.probe/x"] = Object(b"x", {})
    bucket.objects[claim_key(PREFIX, "history/u/history.jsonl", WRITER)] = Object(b"{}", {})
    mirror = mirror_key(PREFIX, "m3", "claude", "p/é.jsonl".encode())
    bucket.objects[mirror] = Object(FIRST, meta(FIRST, writer="m3.333333333333"))


def meta(body: bytes, generation: int = 0, writer: str = WRITER) -> dict[str, str]:
    lines = body.count(b"\n")
    return Meta(generation, lines, len(body), digest(body), writer, "codetether").encode()


async def test_an_archive_of_every_kind_of_object_is_well(
    machine: Machine, second: Machine, bucket: Bucket, depth: str
) -> None:
    await everything(machine, second, bucket)
    kinds = {key.split("/")[1] for key in bucket.objects}
    assert {".conflicts", ".generations", ".tail", "s"} <= kinds
    assert segments(bucket, 1)
    assert ASIDE in bucket.objects
    for who in (machine, second, None):
        look = await verify(bucket, who, depth=depth)
        assert look.found == []
        assert {v.key: v.state for v in look.verdicts} == {
            KEY: State.CURRENT if who is machine else State.SOURCE_GONE,
            "history/t/history.jsonl": State.CURRENT if who is machine else State.SOURCE_GONE,
            ASIDE: State.CONFLICT if who is second else State.SOURCE_GONE,
            mirror_key(PREFIX, "m3", "claude", "p/é.jsonl".encode()): State.SOURCE_GONE,
        }


async def test_without_a_journal_the_sessions_are_known_by_what_stands_in_them(
    machine: Machine, second: Machine, bucket: Bucket, depth: str
) -> None:
    await everything(machine, second, bucket)
    assert (await verify(bucket, machine, depth=depth, journal=False)).states["s"] == State.CURRENT
    look = await verify(bucket, second, depth=depth, journal=False)
    assert {v.state for v in look.verdicts if v.key == ASIDE} == {State.CONFLICT}
    assert look.found == []


async def test_an_empty_archive_is_well(bucket: Bucket) -> None:
    assert (await verify(bucket)).verdicts == []


async def test_what_is_not_archived_yet_is_pending(
    machine: Machine, bucket: Bucket, depth: str
) -> None:
    machine.save(LONG[:2], "new")
    await grow(machine, 2)
    machine.save(LONG[:3])
    look = await verify(bucket, machine, depth=depth)
    assert look.states == {"new": State.PENDING, "s": State.PENDING}
    assert look.found == []


async def test_a_session_that_cannot_be_read_is_quarantined_and_nothing_is_wrong(
    machine: Machine, bucket: Bucket
) -> None:
    machine.save_bytes(b"{")
    (verdict,) = (await verify(bucket, machine)).verdicts
    assert (verdict.state, verdict.reason) == (State.QUARANTINED, "invalid_json")
    assert verdict.is_well


async def test_an_archive_that_holds_more_than_the_file_is_ahead_of_it(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 4)
    machine.save(LONG[:2])
    look = await verify(bucket, machine, depth="deep", journal=False)
    assert (look.states, look.found) == ({"s": State.BEHIND}, [])


async def test_a_source_that_is_gone_is_no_loss(
    machine: Machine, bucket: Bucket, depth: str
) -> None:
    await undone(machine)
    machine.session().path.unlink()
    (verdict,) = (await verify(bucket, machine, depth=depth)).verdicts
    assert (verdict.state, verdict.path, verdict.machine) == (State.SOURCE_GONE, "", "m1")
    assert verdict.findings == ()


async def test_an_adopted_base_of_another_writer_is_well_and_elsewhere_it_is_foreign(
    machine: Machine, bucket: Bucket
) -> None:
    bucket.overwrite(KEY, FIRST)
    machine.save(LONG[:2])
    await until_archived(machine)
    assert Meta.decode(bucket.objects[KEY].metadata) is None
    assert (await verify(bucket, machine)).found == []
    assert (await verify(bucket)).found == [(What.FOREIGN, KEY)]


async def test_a_base_that_is_gone_is_lost_with_its_source(
    machine: Machine, bucket: Bucket, depth: str
) -> None:
    await grow(machine, 2)
    del bucket.objects[KEY]
    assert (await verify(bucket, machine, depth=depth)).found == [(What.MISSING, KEY)]
    machine.session().path.unlink()
    look = await verify(bucket, machine, depth=depth)
    assert (look.found, look.states) == ([(What.LOST, KEY)], {"s": LOST})


async def test_a_tail_that_is_gone_is_lost_with_its_source(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2, 3)
    del bucket.objects[segments(bucket)[0]]
    look = await verify(bucket, machine)
    assert (look.found, look.states) == ([(What.MISSING, KEY)], {"s": State.PENDING})
    machine.session().path.unlink()
    assert (await verify(bucket, machine)).states == {"s": LOST}


async def test_a_finished_generation_that_is_gone_is_lost_by_its_number(
    machine: Machine, bucket: Bucket, depth: str
) -> None:
    await undone(machine)
    del bucket.objects[CLOSED]
    for who in (machine, None):
        look = await verify(bucket, who, depth=depth)
        assert (look.found, look.states) == ([(What.LOST, CLOSED)], {"s": LOST})


async def test_a_finished_generation_that_is_not_what_was_archived_is_no_excuse(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2)
    other = FIRST.replace(b"parser", b"Parser")
    bucket.objects[CLOSED] = Object(other, meta(other))
    bucket.objects[KEY] = Object(other, meta(other, generation=1))
    assert (await verify(bucket, machine)).found == [(What.MISSING, KEY)]


async def test_an_older_generation_that_came_back_does_not_stand_for_the_newer_one(
    machine: Machine, bucket: Bucket
) -> None:
    await undone(machine)
    for key in segments(bucket, 1):
        del bucket.objects[key]
    bucket.objects[KEY] = bucket.objects[CLOSED]  # a request that came much too late
    assert (await verify(bucket, machine)).found == [(What.MISSING, KEY)]
    machine.session().path.unlink()
    assert (await verify(bucket, machine)).states == {"s": LOST}


async def test_a_generation_of_absurd_height_is_told_in_one_line(bucket: Bucket) -> None:
    bucket.objects[KEY] = Object(FIRST, meta(FIRST, generation=10**12))
    (verdict,) = (await verify(bucket)).verdicts
    (finding,) = verdict.findings
    assert finding.message.startswith("generations 0 to 999999999999 stand nowhere")


@pytest.mark.parametrize("body", [FIRST[:-5], FIRST + b"{}\n"], ids=["shorter", "longer"])
async def test_a_base_of_another_length_than_it_says_is_named(
    bucket: Bucket, depth: str, body: bytes
) -> None:
    bucket.objects[KEY] = Object(body, meta(FIRST))
    assert (await verify(bucket, depth=depth)).found == [(What.LENGTH, KEY)]


async def test_a_base_that_was_cut_short_is_lost_with_its_source(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2)
    damage(bucket, KEY, FIRST[:-5])
    both_of_it = [(What.LENGTH, KEY), (What.MISSING, KEY)]
    assert (await verify(bucket, machine)).found == both_of_it
    machine.session().path.unlink()
    assert (await verify(bucket, machine)).states == {"s": LOST}


async def test_changed_bytes_of_a_base_are_found_by_reading(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2)
    damage(bucket, KEY, flipped(FIRST))
    assert (await verify(bucket, machine)).found == []
    assert (await verify(bucket, depth="deep")).found == [(What.DIGEST, KEY)]
    assert (await verify(bucket, machine, depth="deep")).found == [
        (What.DIGEST, KEY),
        (What.MISSING, KEY),
    ]


async def test_changed_bytes_of_a_finished_generation_are_found_by_reading(
    machine: Machine, bucket: Bucket
) -> None:
    await undone(machine)
    damage(bucket, CLOSED, flipped(bucket.objects[CLOSED].body))
    assert (await verify(bucket, machine)).found == []
    assert (await verify(bucket, machine, depth="deep")).found == [(What.DIGEST, CLOSED)]


async def test_changed_bytes_of_a_tail_are_found_by_what_continues_them(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2, 3, 4)
    first, after = segments(bucket)
    damage(bucket, first, flipped(bucket.objects[first].body))
    assert (await verify(bucket)).found == []
    assert (await verify(bucket, depth="deep")).found == [(What.FOREIGN_SEGMENT, after)]


async def test_changed_bytes_at_the_end_of_a_tail_are_found_by_the_journal(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2, 3)
    (last,) = segments(bucket)
    damage(bucket, last, flipped(bucket.objects[last].body))
    assert (await verify(bucket, machine, depth="deep")).found == [(What.MISSING, KEY)]


async def test_a_changed_session_document_is_found_by_reading(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2)
    await machine.turn(settled=True)
    damage(bucket, DOCUMENT, b"{}")
    assert (await verify(bucket)).found == []
    assert (await verify(bucket, depth="deep")).found == [(What.DIGEST, DOCUMENT)]


async def test_an_object_without_our_metadata_is_foreign(
    machine: Machine, bucket: Bucket, depth: str
) -> None:
    await undone(machine)
    (segment,) = segments(bucket, 1)
    for key in (KEY, CLOSED, segment):
        kept = bucket.objects[key]
        bucket.objects[key] = Object(kept.body, {})
        assert (What.FOREIGN, key) in (await verify(bucket, depth=depth)).found
        bucket.objects[key] = kept


@pytest.mark.parametrize("damaged", [("format", "2"), ("length", "many")])
async def test_metadata_that_cannot_be_read_are_named(
    machine: Machine, bucket: Bucket, depth: str, damaged: tuple[str, str]
) -> None:
    await grow(machine, 2)
    damage(bucket, KEY, metadata=dict([damaged]))
    assert (await verify(bucket, depth=depth)).found == [(What.FORMAT, KEY)]


async def test_a_gap_in_a_tail_is_named(machine: Machine, bucket: Bucket, depth: str) -> None:
    await grow(machine, 2, 3, 4, 5)
    first, second, _ = segments(bucket)
    del bucket.objects[first]
    assert (await verify(bucket, depth=depth)).found == [(What.GAP, second)]


async def test_an_overlap_in_a_tail_is_named(machine: Machine, bucket: Bucket, depth: str) -> None:
    await grow(machine, 2, 3)
    start = len(FIRST) + 1
    stray = segment_key(PREFIX, KEY, 0, start)
    said = SegmentMeta(WRITER, digest(history(LONG[:3])[:start])).encode()
    bucket.objects[stray] = Object(history(LONG[:4])[start:], said)
    assert (await verify(bucket, machine, depth=depth)).found == [(What.OVERLAP, stray)]


async def test_a_segment_that_continues_another_base_is_foreign(
    machine: Machine, bucket: Bucket, depth: str
) -> None:
    await grow(machine, 2, 3)
    (segment,) = segments(bucket)
    damage(bucket, segment, metadata={"pre": digest(history(OTHER[:2]))})
    assert (await verify(bucket, depth=depth)).found == [(What.FOREIGN_SEGMENT, segment)]


async def test_segments_that_no_base_continues_are_orphans(
    machine: Machine, bucket: Bucket, depth: str
) -> None:
    await grow(machine, 2, 3)
    (segment,) = segments(bucket)
    del bucket.objects[KEY]
    assert (await verify(bucket, depth=depth)).found == [(What.ORPHAN, segment)]


async def test_segments_of_a_generation_that_is_yet_to_come_are_orphans(
    machine: Machine, bucket: Bucket, depth: str
) -> None:
    await grow(machine, 2)
    stray = segment_key(PREFIX, KEY, 3, len(FIRST))
    bucket.objects[stray] = Object(b"{}\n", SegmentMeta(WRITER, digest(FIRST)).encode())
    assert (await verify(bucket, machine, depth=depth)).found == [(What.ORPHAN, stray)]


async def test_segments_behind_the_end_of_a_finished_generation_are_orphans(
    machine: Machine, bucket: Bucket, depth: str
) -> None:
    await undone(machine)
    closed = bucket.objects[CLOSED].body
    late = segment_key(PREFIX, KEY, 0, len(closed))
    bucket.objects[late] = Object(b"{}\n", SegmentMeta(WRITER, digest(closed)).encode())
    assert (await verify(bucket, machine, depth=depth)).found == [(What.ORPHAN, late)]


async def test_segments_that_stand_elsewhere_by_now_take_room_and_nothing_is_wrong(
    machine: Machine, bucket: Bucket, depth: str
) -> None:
    await grow(machine, 2, 3)
    kept = {key: bucket.objects[key] for key in segments(bucket)}
    await machine.turn(settled=True, sealing=True)
    assert segments(bucket) == []
    bucket.objects |= kept  # as where nobody may remove them
    sealed = await verify(bucket, machine, depth=depth)
    await grow(machine, 2, about="a second attempt")
    bucket.objects |= kept
    finished = await verify(bucket, machine, depth=depth)
    for look in (sealed, finished):
        assert look.found == [(What.LEFTOVER, next(iter(kept)))]
        assert look.verdicts[0].is_well


async def test_a_segment_of_a_finished_generation_with_other_bytes_is_found_by_reading(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2, 3)
    ((segment, left),) = ((key, bucket.objects[key]) for key in segments(bucket))
    await grow(machine, 2, about="a second attempt")
    bucket.objects[segment] = Object(flipped(left.body), left.metadata)
    assert (await verify(bucket, machine)).found == [(What.LEFTOVER, segment)]
    look = await verify(bucket, machine, depth="deep")
    assert look.found == [(What.LEFTOVER, segment), (What.ORPHAN, segment)]


async def test_finished_generations_without_a_base_are_orphans(
    machine: Machine, bucket: Bucket, depth: str
) -> None:
    await undone(machine)
    for key in (KEY, *segments(bucket, 1)):
        del bucket.objects[key]
    assert (await verify(bucket, depth=depth)).found == [(What.ORPHAN, CLOSED)]
    assert (What.MISSING, KEY) in (await verify(bucket, machine, depth=depth)).found


async def test_a_session_document_without_lines_is_an_orphan(
    machine: Machine, bucket: Bucket, depth: str
) -> None:
    await grow(machine, 2)
    await machine.turn(settled=True)
    del bucket.objects[KEY]
    assert (await verify(bucket, depth=depth)).found == [(What.ORPHAN, DOCUMENT)]


async def test_a_finished_generation_that_says_it_is_another_one_is_named(
    machine: Machine, bucket: Bucket, depth: str
) -> None:
    await undone(machine)
    damage(bucket, CLOSED, metadata={"generation": "7"})
    assert (await verify(bucket, machine, depth=depth)).found == [(What.NUMBER, CLOSED)]


async def test_a_finished_generation_ahead_of_the_base_is_named(
    machine: Machine, bucket: Bucket, depth: str
) -> None:
    await grow(machine, 2)
    ahead = generation_key(PREFIX, KEY, 1)
    bucket.objects[ahead] = Object(FIRST, meta(FIRST, generation=1))
    assert (await verify(bucket, machine, depth=depth)).found == [(What.NUMBER, ahead)]


@pytest.mark.parametrize(
    "below",
    [
        ".DS_Store",
        "",
        "notes.txt",
        "s/other.jsonl",
        ".tail/s/history.jsonl/000000-1.jsonl",
        ".tail/x",
        ".generations/s/history.jsonl/1.jsonl",
        ".generations/s/history.jsonl/000001",
        ".generations/s/000001.jsonl",
        ".conflicts/s/history.jsonl/somebody.jsonl",
        ".conflicts/.conflicts/s/history.jsonl/m1.0123456789ab.jsonl/m2.222222222222.jsonl",
        "m3/raw/claude/../x.jsonl",
        ".hidden/raw/claude/x.jsonl",
    ],
)
async def test_an_object_that_is_none_of_ours_is_a_stranger(bucket: Bucket, below: str) -> None:
    bucket.objects[PREFIX + below] = Object(b"x", {})
    assert (await verify(bucket)).found == [(What.STRANGER, PREFIX + below)]


async def test_a_change_that_times_and_size_hide_is_found_by_reading(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2)
    machine.save(OTHER[:2])
    record, path = machine.record(), machine.session().path
    await machine.journal.note(record.session, stat_of(path.lstat()), State.CURRENT)
    assert (await verify(bucket, machine)).found == []
    look = await verify(bucket, machine, depth="deep")
    assert look.found == [(What.DIFFERS, KEY)]


async def test_a_journal_of_what_another_machine_went_on_with_accuses_nobody(
    machine: Machine, second: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2)
    await grow(second, 2, 3)  # a home that moved
    for depth in DEPTHS:
        look = await verify(bucket, machine, depth=depth)
        assert look.found == []
        assert look.states == {"s": State.BEHIND}


async def test_copies_of_a_session_in_two_directories_are_both_well(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2)
    other = machine.root.with_name("other")
    other.mkdir()
    save(other, document(OTHER[:2], "s"))
    copy = replace(machine.session(), root=str(other))
    await machine.turn(copy)
    await machine.turn(copy, settled=True)
    for depth in DEPTHS:
        look = await verify(bucket, machine, depth=depth)
        assert look.found == []
        found = {Path(v.path).parent.name: v.state for v in look.verdicts}
        assert found == {"sessions": State.CURRENT, "other": State.CONFLICT}


async def test_one_session_is_verified_without_listing_the_others(
    machine: Machine, second: Machine, bucket: Bucket
) -> None:
    await everything(machine, second, bucket)
    bucket.objects["history/.DS_Store"] = Object(b"x", {})
    for name in ("s", KEY, ASIDE):
        look = await verify(bucket, machine, name)
        assert {v.key for v in look.verdicts} == {KEY, ASIDE}
        assert look.store.count("list", r"history/$") == 0
    assert (await verify(bucket, machine, "nobody")).verdicts == []
    mirror = mirror_key(PREFIX, "m3", "claude", "p/é.jsonl".encode())
    assert [v.key for v in (await verify(bucket, None, mirror)).verdicts] == [mirror]


async def test_what_a_listing_tells_is_not_asked_for(machine: Machine, bucket: Bucket) -> None:
    for name in ("a", "b", "c"):
        await grow(machine, 1, session_id=name)
        await machine.turn(machine.session(name), settled=True)
    look = await verify(bucket, machine)
    assert [o.name for o in look.store.log] == ["list", "head", "head", "head"]


async def test_what_a_writer_is_at_is_looked_at_again_before_it_is_called_wrong(
    machine: Machine, bucket: Bucket
) -> None:
    await undone(machine)
    hidden = bucket.objects.pop(CLOSED)

    async def appears() -> None:
        bucket.objects[CLOSED] = hidden

    look = await verify(bucket, machine, meanwhile=appears)
    assert (look.found, look.states) == ([], {"s": State.CURRENT})


async def test_at_no_step_of_a_writer_is_anything_wrong(home: Path) -> None:
    """It stands still there for good: the worst that a look can meet."""
    messages = conversation(3, about="a second attempt")
    for step in range(1, 100):
        async with Machine(home / str(step), bucket := Bucket(), sizes=TAILS) as machine:
            await grow(machine, 2, 3, 4)
            machine.save(messages)
            machine.store.crash_at(step)
            await _turn(machine, sealing=True)
            looks = [await verify(bucket, machine, depth=depth) for depth in DEPTHS]
            for look in looks:
                assert [f for f in look.found if f[0] is not What.LEFTOVER] == [], step
            if looks[-1].states == {"s": State.CURRENT}:
                assert step > 10
                return
    raise AssertionError("it never ends")


async def test_a_stream_that_changes_each_time_is_not_called_wrong_for_what_passed(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2)
    number = 0

    async def changes() -> None:
        nonlocal number
        number += 1
        bucket.objects[KEY] = Object(FIRST, meta(FIRST, generation=number))
        bucket.objects[generation_key(PREFIX, KEY, number + 1)] = Object(b"", {})
        bucket.objects.pop(generation_key(PREFIX, KEY, number), None)

    await changes()
    look = await verify(bucket, None, meanwhile=changes)
    assert (What.UNREADABLE, KEY) in look.found


async def test_an_object_that_cannot_be_read_holds_up_no_other(
    machine: Machine, bucket: Bucket
) -> None:
    await grow(machine, 2)
    await grow(machine, 2, session_id="t")
    store = MemoryStore(bucket)
    store.fail("head", AccessDenied("no"), key=KEY, times=None)
    look = await verify(bucket, machine, store=store)
    assert look.found == [(What.UNREADABLE, KEY)]
    assert look.states["t"] == State.CURRENT


async def test_a_server_that_fails_once_is_asked_again(machine: Machine, bucket: Bucket) -> None:
    await grow(machine, 2)
    store = MemoryStore(bucket)
    store.fail("list", ServerError("once"))
    with mock.patch("random.random", return_value=0.0):
        assert (await verify(bucket, machine, store=store)).states == {"s": State.CURRENT}


@pytest.mark.parametrize("operation", ["list", "head"])
async def test_a_store_that_is_down_is_an_error_and_no_finding(
    machine: Machine, bucket: Bucket, operation: str
) -> None:
    await grow(machine, 2)
    store = MemoryStore(bucket)
    store.fail(operation, Unreachable("down"), times=None)
    with mock.patch.object(Unreachable, "longest_pause", 0.0), pytest.raises(Unreachable):
        await verify(bucket, machine, store=store)


async def test_a_session_that_the_daemon_has_no_room_for_is_read_one_by_one(
    machine: Machine, bucket: Bucket
) -> None:
    for number in range(5):
        await grow(machine, 2, session_id=f"s{number}")
    here = Here(
        {"codetether": CodeTether((str(machine.root),), {"HOME": "/nonexistent"})},
        PREFIX, "m1", 1 << 20, machine.journal,
    )  # fmt: skip
    found: list[Verdict] = []
    await Verifier(MemoryStore(bucket), here, deep=True, memory=1).run((), found.append)
    assert [v.state for v in found] == [State.CURRENT] * 5


async def test_a_mirror_however_large_takes_little_memory(tmp_path: Path) -> None:
    source = Claude((), {"HOME": str(tmp_path)})
    project = tmp_path / ".claude" / "projects" / "p"
    project.mkdir(parents=True)
    here = Here({"claude": source}, PREFIX, "m1", 1 << 30)
    for size in (10, 5 << 30):
        with (project / "x.jsonl").open("wb") as file:
            file.truncate(size)
        session = source.session(project.parent, "p/x.jsonl")
        assert session is not None
        assert await here.size(session) == min(size, 4 << 20)


async def test_a_session_in_a_database_takes_what_is_read_of_it(tmp_path: Path) -> None:
    root = tmp_path / ".zeroclaw" / "data" / "sessions"
    root.mkdir(parents=True)
    with closing(sqlite3.connect(root / "sessions.db")) as connection:
        connection.executescript(
            "CREATE TABLE sessions (id INTEGER PRIMARY KEY, session_key, role, content);"
            "INSERT INTO sessions VALUES (1, 'key', 'user', printf('%.*c', 9000000, 'x'))"
        )
    here = Here({"zeroclaw": ZeroClaw((), {"HOME": str(tmp_path)})}, PREFIX, "m1", 1 << 30)
    ((session,),) = here.sessions((), ()).values()
    assert await here.size(session) == 9_000_004


async def test_a_mirror_that_is_rewritten_while_it_is_compared_is_pending(
    tmp_path: Path, bucket: Bucket
) -> None:
    path = tmp_path / ".claude" / "projects" / "p" / "x.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(FIRST)
    key = mirror_key(PREFIX, "m1", "claude", b"p/x.jsonl")
    bucket.objects[key] = Object(FIRST, meta(FIRST))
    store = MemoryStore(bucket)
    here = Here({"claude": Claude((), {"HOME": str(tmp_path)})}, PREFIX, "m1", 1 << 20)
    looking = store.hold("head")
    found: list[Verdict] = []
    verifying = asyncio.create_task(Verifier(store, here, deep=True).run((), found.append))
    await looking.arrived.wait()
    path.write_bytes(FIRST.upper())  # it was read, and is to be held against the archive
    looking.release()
    await verifying
    assert [(v.session, v.state, v.findings) for v in found] == [("x", State.PENDING, ())]


async def test_progress_goes_from_nothing_to_everything(machine: Machine, bucket: Bucket) -> None:
    for name in ("a", "b"):
        await grow(machine, 1, session_id=name)
    here = Here({}, PREFIX, "m1", 1 << 20)
    heard: list[tuple[int, int]] = []
    verifier = Verifier(
        MemoryStore(bucket), here, on_progress=lambda done, total: heard.append((done, total))
    )
    await verifier.run((), lambda _: None)
    assert heard == [(1, 2), (2, 2)]


def test_every_word_has_a_meaning() -> None:
    assert set(MEANINGS) == set(What)


@given(st.text(max_size=30))
@example("s/history.jsonl")
def test_what_is_taken_for_a_stream_is_one(below: str) -> None:
    if is_stream(PREFIX, PREFIX + below):
        assert session_of(PREFIX, PREFIX + below)


texts = st.lists(st.sampled_from("ab"), max_size=3)
who = st.integers(0, 1)
moves = st.one_of(
    st.tuples(st.just("append"), who, texts),
    st.tuples(st.just("rewrite"), who, texts),
    st.tuples(st.just("settle"), who, st.just([])),
    st.tuples(st.just("seal"), who, st.just([])),
    st.tuples(st.just("delete"), who, st.just([])),
    st.tuples(st.sampled_from([f"crash {n}" for n in range(1, 20)]), who, texts),
    st.tuples(st.just("lose journal"), who, st.just([])),
    st.tuples(st.just("move home"), who, st.just([])),
)


@given(st.lists(moves, max_size=10))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_machines_do_they_leave_an_archive_that_is_well(
    done: list[tuple[str, int, list[str]]],
) -> None:
    with (
        tempfile.TemporaryDirectory(dir=fast_parent()) as directory,
        mock.patch.object(files, "_TICK_S", 0.0),
    ):
        asyncio.run(_live(Path(directory), done))


async def _live(home: Path, done: list[tuple[str, int, list[str]]]) -> None:
    bucket, sizes = Bucket(), Sizes(small=150, copyable=200)
    first = Machine(home, bucket, name="m1", writer="111111111111", sizes=sizes)
    other = Machine(home, bucket, name="m2", writer="222222222222", sizes=sizes)
    async with first, other:
        machines, held = (first, other), [["a"], ["b"]]
        for what, by, new in done:
            machine = machines[by]
            machine.forget()  # who writes without looking at the other finds out later
            if what == "move home":
                held[by] = held[1 - by]
            elif what == "rewrite":
                held[by] = [*held[by][:1], *new]
            elif what == "append" or what.startswith("crash"):
                held[by] = held[by] + new
            if what == "delete":
                machine.session().path.unlink(missing_ok=True)
            else:
                messages = [message("user", text) for text in held[by]]
                machine.save(messages)
                bucket.ledger.held(f"m{by + 1}", history(messages))
            if what == "lose journal":
                await machine.restart(journal="lost")
            if what.startswith("crash"):
                machine.store.crash_at(int(what.split()[1]))
                await _turn(machine)
                machine.store.recover()
                await machine.restart()
            await _turn(machine, settled=what == "settle", sealing=what == "seal")
            for each in (*machines, None):
                for depth in DEPTHS:
                    look = await verify(bucket, each, depth=depth)
                    wrong = [f for v in look.verdicts for f in v.findings if f.is_wrong]
                    assert wrong == []


async def _turn(machine: Machine, *, settled: bool = False, sealing: bool = False) -> None:
    with suppress(StoreError, StreamError, Crashed, BaseExceptionGroup):
        await machine.turn(settled=settled or sealing, sealing=sealing)
