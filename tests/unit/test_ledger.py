"""The oracle of the other tests: a breach that it does not see, they do not see either."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.ledger import ArchiveBroken
from tests.memory_store import Bucket, Object
from transcriptd.digest import digest
from transcriptd.layout import (
    Meta,
    SegmentMeta,
    claim_key,
    conflict_key,
    foreign_key,
    generation_key,
    segment_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "history/"
KEY = "history/s/history.jsonl"
CONFLICT = conflict_key(PREFIX, KEY, "m2.1")
ME = "m1.0"
HELD = "generation 0 .* is no longer what it was"


class Archive:
    """A bucket, and the three kinds of writes to one stream of it."""

    def __init__(self, key: str = KEY) -> None:
        self.bucket = Bucket(PREFIX)
        self.key = key

    def base(self, body: bytes, generation: int = 0, writer: str = ME) -> None:
        said = Meta(generation, body.count(b"\n"), len(body), digest(body), writer, "codetether")
        self.bucket.write(self.key, body, said.encode())

    def segment(
        self, before: bytes, body: bytes, generation: int = 0, writer: str = ME, start: int = -1
    ) -> str:
        """Write a segment that continues the content `before`; return its key."""
        at = len(before) if start < 0 else start
        key = segment_key(PREFIX, self.key, generation, at)
        self.bucket.write(key, body, SegmentMeta(writer, digest(before)).encode())
        return key

    def preserve(self, body: bytes, generation: int = 0) -> None:
        self.bucket.write(generation_key(PREFIX, self.key, generation), body, {})

    @property
    def contents(self) -> dict[int, bytes]:
        return self.bucket.ledger.contents(self.key)


@pytest.fixture(params=[KEY, CONFLICT, "history/m/raw/claude/session.json"])
def archive(request: pytest.FixtureRequest) -> Archive:
    return Archive(request.param)


def _refused(write: Callable[[], object], why: str) -> None:
    with pytest.raises(ArchiveBroken, match=why):
        write()


def test_a_stream_is_its_base_and_the_segments_that_continue_it(archive: Archive) -> None:
    archive.base(b"a\n")
    archive.segment(b"a\n", b"b\n")
    archive.segment(b"a\nb\n", b"c\n")
    assert archive.contents == {0: b"a\nb\nc\n"}


def test_sealing_a_tail_and_removing_it_breaks_nothing(archive: Archive) -> None:
    archive.base(b"a\n")
    keys = [archive.segment(b"a\n", b"b\n"), archive.segment(b"a\nb\n", b"c\n")]
    archive.base(b"a\nb\nc\n")
    for key in keys:
        archive.bucket.delete(key)
    assert archive.contents == {0: b"a\nb\nc\n"}


def test_a_generation_that_was_preserved_with_its_tail_may_give_way(archive: Archive) -> None:
    archive.base(b"a\n")
    tail = archive.segment(b"a\n", b"b\n")
    archive.preserve(b"a\nb\n")
    archive.base(b"x\n", 1)
    archive.bucket.delete(tail)
    archive.segment(b"x\n", b"y\n", 1)
    assert archive.contents == {0: b"a\nb\n", 1: b"x\ny\n"}


def test_a_dropped_segment_is_noticed(archive: Archive) -> None:
    archive.base(b"a\n")
    first = archive.segment(b"a\n", b"b\n")
    last = archive.segment(b"a\nb\n", b"c\n")
    _refused(lambda: archive.bucket.delete(last), "held by nothing")
    _refused(lambda: archive.bucket.delete(first), "held by nothing")


def test_a_segment_that_vanishes_unseen_is_noticed_at_the_next_write(archive: Archive) -> None:
    archive.base(b"a\n")
    del archive.bucket.objects[archive.segment(b"a\n", b"b\n")]
    _refused(lambda: archive.base(b"a\n"), HELD)


def test_a_segment_that_the_base_holds_otherwise_may_not_go(archive: Archive) -> None:
    archive.base(b"a\nb\n")
    late = archive.segment(b"a\n", b"x\n")
    _refused(lambda: archive.bucket.delete(late), "held by nothing")


def test_a_gap_is_noticed(archive: Archive) -> None:
    archive.base(b"a\n")
    _refused(lambda: archive.segment(b"a\nb\n", b"c\n"), "does not continue")


def test_a_segment_that_continues_something_else_is_noticed(archive: Archive) -> None:
    archive.base(b"a\n")
    _refused(lambda: archive.segment(b"x\n", b"b\n"), "does not continue")


def test_a_segment_inside_the_tail_is_noticed(archive: Archive) -> None:
    archive.base(b"a\n")
    archive.segment(b"a\n", b"bb\n")
    _refused(lambda: archive.segment(b"a\nb", b"\nc\n"), "does not continue")


@pytest.mark.parametrize("generation", [0, 1])
def test_a_segment_without_a_base_of_its_generation_is_noticed(generation: int) -> None:
    archive = Archive()
    if generation:
        archive.base(b"a\n")
    _refused(lambda: archive.segment(b"a\n", b"b\n", generation), "continues nothing")


@pytest.mark.parametrize("changed", [b"x\n", b"b\nc\n", b"b"])
def test_a_changed_segment_is_noticed(archive: Archive, changed: bytes) -> None:
    archive.base(b"a\n")
    archive.segment(b"a\n", b"b\n")
    archive.segment(b"a\n", b"b\n")  # the same once more is no change
    _refused(lambda: archive.segment(b"a\n", changed), "was changed")


@pytest.mark.parametrize("short", [b"a\n", b"a\nb\n", b"a\nb\nc\n", b"a\nb\nc\nd"])
def test_a_base_that_is_shorter_than_what_it_replaces_is_noticed(
    archive: Archive, short: bytes
) -> None:
    archive.base(b"a\nb\n")
    archive.segment(b"a\nb\n", b"c\nd\n")
    if short == b"a\nb\n":
        archive.base(short)  # the tail still continues it
    else:
        _refused(lambda: archive.base(short), HELD)


def test_a_base_with_other_bytes_than_its_tail_had_is_noticed(archive: Archive) -> None:
    archive.base(b"a\n")
    archive.segment(b"a\n", b"b\n")
    _refused(lambda: archive.base(b"a\nx\n"), HELD)


@pytest.mark.parametrize("kept", [None, b"a\n", b"a\nb", b"a\nx\n"])
def test_a_generation_that_gives_way_before_it_is_kept_with_its_tail_is_noticed(
    archive: Archive, kept: bytes | None
) -> None:
    archive.base(b"a\n")
    archive.segment(b"a\n", b"b\n")
    if kept is not None:
        archive.preserve(kept)
    _refused(lambda: archive.base(b"x\n", 1), HELD)


def test_a_kept_generation_may_be_made_whole_and_never_shorter(archive: Archive) -> None:
    archive.base(b"a\n")
    archive.segment(b"a\n", b"b\n")
    for half in (b"a", b"ab"):  # as a store does that cuts each piece short
        archive.bucket.objects.pop(generation_key(PREFIX, archive.key, 0), None)
        archive.preserve(half)
        archive.preserve(b"a\nb\n")
    _refused(lambda: archive.preserve(b"a\n"), "written twice")
    _refused(lambda: archive.preserve(b"a\nx\nyy"), "written twice")


def test_what_comes_late_to_a_kept_generation_is_not_content(archive: Archive) -> None:
    archive.base(b"a\n")
    archive.preserve(b"a\n")
    late = archive.segment(b"a\n", b"b\n")
    archive.segment(b"a\n", b"c\n")
    archive.segment(b"?", b"gap\n", start=9)
    archive.base(b"x\n", 1)
    archive.segment(b"a\n", b"d\n")
    archive.bucket.delete(late)
    assert archive.contents == {0: b"a\n", 1: b"x\n"}


def test_a_base_that_goes_on_in_a_kept_generation_may_not_give_way(archive: Archive) -> None:
    archive.base(b"a\n")
    archive.preserve(b"a\n")
    archive.base(b"a\nb\n")
    _refused(lambda: archive.base(b"x\n", 1), HELD)


def test_a_kept_generation_does_not_come_back_as_something_else(archive: Archive) -> None:
    archive.base(b"a\n")
    archive.preserve(b"a\n")
    _refused(lambda: archive.base(b"x\n"), "two contents")


def test_what_comes_late_behind_the_base_breaks_nothing(archive: Archive) -> None:
    archive.base(b"a\nb\nc\n")
    archive.segment(b"a\n", b"b\n")
    archive.segment(b"a\nb\n", b"other, and across the end\n")
    archive.segment(b"a\nb\nc\n", b"d\n")
    assert archive.contents == {0: b"a\nb\nc\nd\n"}


def test_a_number_of_a_generation_is_never_used_again(archive: Archive) -> None:
    archive.base(b"a\n", 3)
    archive.preserve(b"a\n", 3)
    archive.base(b"b\n", 4)
    archive.preserve(b"b\n", 4)
    _refused(lambda: archive.base(b"a\nx\n", 3), "used before")


def test_a_number_that_is_kept_or_in_the_tail_is_never_used_again(archive: Archive) -> None:
    archive.base(b"a\n")
    archive.preserve(b"a\n")
    archive.preserve(b"somebody's\n", 7)
    _refused(lambda: archive.base(b"b\n", 6), "used before")
    archive.base(b"b\n", 8)


def test_nothing_but_segments_is_ever_deleted(archive: Archive) -> None:
    archive.base(b"a\n")
    archive.preserve(b"a\n")
    archive.bucket.write(claim_key(PREFIX, archive.key, ME), b"{}", {})
    for key in list(archive.bucket.objects):
        _refused(partial(archive.bucket.delete, key), "was deleted")


def test_scratch_objects_of_the_probe_come_and_go() -> None:
    archive = Archive()
    for body in (b"1", b"2"):
        archive.bucket.write("history/.tail/.probe/a", body, {})
    archive.bucket.delete("history/.tail/.probe/a")


@pytest.mark.parametrize(
    "key", ["history/s/session.json", "history/.conflicts/s/session.json/m2.1.json"]
)
def test_a_document_without_its_messages_is_no_stream(key: str) -> None:
    archive = Archive()
    archive.bucket.write(key, b"{}", {})
    archive.bucket.write(key, b"[]", {})


def test_what_a_claim_said_stays_said(archive: Archive) -> None:
    key = claim_key(PREFIX, archive.key, ME)
    for body in (b'{"writer":"m1.0","replaces":[]}', b'{"writer":"m1.0","replaces":["m2.1"]}'):
        archive.bucket.write(key, body, {})
        archive.bucket.write(key, body, {})
    for less in (b'{"writer":"m1.0","replaces":[]}', b'{"writer":"m2.0","replaces":["m2.1"]}'):
        _refused(partial(archive.bucket.write, key, less, {}), "taken back")
        archive.bucket.objects[key] = Object(body, {})


def test_what_a_stranger_destroyed_is_not_our_doing(archive: Archive) -> None:
    archive.base(b"a\n")
    archive.segment(b"a\n", b"b\n")
    stranger = b"s\n"
    archive.bucket.overwrite(archive.key, stranger)
    _refused(lambda: archive.base(b"c\n", 1), "stranger")
    etag = archive.bucket.objects[archive.key].etag
    archive.bucket.write(foreign_key(PREFIX, archive.key, etag), stranger, {})
    _refused(lambda: archive.base(b"c\n"), "lost generation 0 .* was reused")


def test_what_a_stranger_overwrote_may_be_put_back_below_its_tail(archive: Archive) -> None:
    archive.base(b"a\n")
    archive.segment(b"a\n", b"b\n")
    archive.bucket.overwrite(archive.key, b"")
    archive.base(b"a\n")
    assert archive.contents == {0: b"a\nb\n"}


def test_another_machines_base_is_replaced_only_by_who_held_it(archive: Archive) -> None:
    archive.base(b"a\n")
    archive.segment(b"a\n", b"b\n")
    archive.preserve(b"a\nb\n")
    _refused(lambda: archive.base(b"x\n", 1, "m2.1"), "another machine's")
    archive = Archive(archive.key)
    archive.base(b"a\n")
    archive.preserve(b"a\n")
    archive.bucket.ledger.held("m2", b"a\nb\n")
    archive.base(b"x\n", 1, "m2.1")


def test_a_breach_is_remembered(archive: Archive) -> None:
    archive.base(b"a\n")
    _refused(lambda: archive.base(b""), HELD)
    assert len(archive.bucket.ledger.broken) == 1
