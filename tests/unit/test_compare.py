"""How a source stands to its archive: what equals, what is a prefix, what differs, and whose."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import transcriptd.content
from tests.memory_store import MemoryStore, Object
from transcriptd.compare import Comparison, digest_of, open_segment, read_whole
from transcriptd.content import Held, Records, count_lines
from transcriptd.digest import digest
from transcriptd.errors import Damaged, Superseded, Unreachable
from transcriptd.layout import Meta, SegmentMeta, generation_key, history_key, segment_key
from transcriptd.model import Cursor, Session, Snapshot, Stat
from transcriptd.plan import Relation, Remote, TailSays
from transcriptd.snapshot import Look
from transcriptd.survey import survey

PREFIX = "history/"
KEY = history_key(PREFIX, "s1")
US, OTHER = "laptop.aaaa", "desk.cccc"
A, B, C = b"a\n", b"bb\n", b"ccc\n"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def put_base(
    store: MemoryStore, body: bytes, *, generation: int = 0, writer: str = US, bare: bool = False
) -> None:
    meta = Meta(generation, body.count(b"\n"), len(body), digest(body), writer, "codetether")
    store.objects[KEY] = Object(body, {} if bare else meta.encode())


def put_tail(
    store: MemoryStore,
    before: bytes,
    body: bytes,
    *,
    generation: int = 0,
    writer: str = US,
    pre: str | None = None,
) -> str:
    meta = SegmentMeta(writer, digest(before) if pre is None else pre)
    key = segment_key(PREFIX, KEY, generation, len(before))
    store.objects[key] = Object(body, meta.encode())
    return key


def look_at(source: bytes) -> Look:
    session = Session("codetether", "s1", "/r", "s1.json")
    stat = Stat(len(source), 0, 0, 0, 0)
    snapshot = Snapshot(session, stat, Held(source), source.count(b"\n"))
    return Look(snapshot, digest(source), extends=True)


async def compare(store: MemoryStore, source: bytes, known: Cursor | None = None) -> Remote:
    found = await survey(store, PREFIX, KEY)
    store.log.clear()
    remote = await Comparison(store, look_at(source)).with_archive(KEY, found, known)
    assert remote is not None
    return remote


def is_about(remote: Remote, content: bytes, *, segments: int = 0) -> bool:
    """Whether it says that just this content stands there and equals the source's beginning."""
    found = (remote.length, remote.records, remote.digest, remote.segments)
    return found == (len(content), content.count(b"\n"), digest(content), segments)


def reads(store: MemoryStore) -> list[str]:
    return [each.key for each in store.log if each.name == "read"]


async def test_where_nothing_stands_nothing_is_compared(store: MemoryStore) -> None:
    found = await survey(store, PREFIX, KEY)
    assert await Comparison(store, look_at(A)).with_archive(KEY, found, None) is None


class TestBases:
    @pytest.mark.parametrize("bare", [False, True])
    @pytest.mark.parametrize(
        ("base", "source", "relation"),
        [
            (A, A, Relation.EXTENDS),
            (A, A + B, Relation.EXTENDS),
            (b"", A, Relation.EXTENDS),
            (b"", b"", Relation.EXTENDS),
            (A + B, A, Relation.BEHIND),
            (A, b"", Relation.BEHIND),
            (B, A + A + A, Relation.DIFFERS),
            (A + B, C, Relation.DIFFERS),
            (A + B, A + C, Relation.DIFFERS),
        ],
    )
    async def test_a_base_stands_to_its_source_as_its_bytes_do(
        self, store: MemoryStore, base: bytes, source: bytes, relation: Relation, *, bare: bool
    ) -> None:
        put_base(store, base, bare=bare)
        remote = await compare(store, source)
        assert remote.relation is relation
        assert remote.base_length == len(base)
        assert remote.etag == store.objects[KEY].etag
        assert (remote.meta is None) is bare
        assert remote.writer == ("" if bare else US)
        if relation is Relation.EXTENDS:
            assert is_about(remote, base)

    async def test_a_base_with_our_metadata_that_the_source_reaches_is_not_read(
        self, store: MemoryStore
    ) -> None:
        put_base(store, A)
        await compare(store, A + B)
        assert reads(store) == []

    async def test_a_base_that_changes_while_it_is_read_is_asked_for_anew(
        self, store: MemoryStore
    ) -> None:
        put_base(store, A + B)
        found = await survey(store, PREFIX, KEY)
        put_base(store, A + C)
        with pytest.raises(Superseded):
            await Comparison(store, look_at(A)).with_archive(KEY, found, None)
        del store.objects[KEY]
        with pytest.raises(Superseded):
            await Comparison(store, look_at(A)).with_archive(KEY, found, None)

    async def test_a_store_that_fails_is_heard(self, store: MemoryStore) -> None:
        put_base(store, A + B)
        store.fail("read", Unreachable("no answer"))
        with pytest.raises(Unreachable):
            await compare(store, A)


class TestTails:
    async def test_a_tail_that_the_source_holds_is_walked_to_its_end(
        self, store: MemoryStore
    ) -> None:
        put_base(store, A)
        put_tail(store, A, B)
        put_tail(store, A + B, C)
        for source in (A + B + C, A + B + C + A):
            remote = await compare(store, source)
            assert (remote.relation, remote.blocked_to) == (Relation.EXTENDS, None)
            assert is_about(remote, A + B + C, segments=2)
            assert remote.base_length == len(A)

    async def test_the_last_writer_is_his_who_wrote_what_was_compared_last(
        self, store: MemoryStore
    ) -> None:
        put_base(store, A)
        put_tail(store, A, B, writer=OTHER)
        put_tail(store, A + B, C)
        assert (await compare(store, A + B + C)).writer == US
        assert (await compare(store, A + C)).writer == OTHER
        assert (await compare(store, A + B + A + A)).writer == US
        assert (await compare(store, B + B)).writer == US

    @pytest.mark.parametrize("source", [A, A + B])
    async def test_a_source_that_ends_between_two_segments_is_behind(
        self, store: MemoryStore, source: bytes
    ) -> None:
        put_base(store, A)
        put_tail(store, A, B)
        put_tail(store, A + B, C)
        assert (await compare(store, source)).relation is Relation.BEHIND

    @pytest.mark.parametrize("length", range(len(A) + 1, len(A + B + C)))
    async def test_a_source_that_ends_in_the_middle_of_a_segment_is_behind(
        self, store: MemoryStore, length: int
    ) -> None:
        put_base(store, A)
        put_tail(store, A, B + C)
        assert (await compare(store, (A + B + C)[:length])).relation is Relation.BEHIND

    async def test_a_source_that_ends_in_a_segment_and_differs_from_it_differs(
        self, store: MemoryStore
    ) -> None:
        put_base(store, A)
        put_tail(store, A, B + C, writer=OTHER)
        remote = await compare(store, A + b"x")
        assert (remote.relation, remote.writer) == (Relation.DIFFERS, OTHER)

    async def test_where_the_base_differs_the_tail_does_not_matter(
        self, store: MemoryStore
    ) -> None:
        put_base(store, A)
        put_tail(store, A, B)
        remote = await compare(store, C + B)
        assert (remote.relation, reads(store)) == (Relation.DIFFERS, [])

    async def test_tails_of_other_generations_are_not_looked_at(self, store: MemoryStore) -> None:
        put_base(store, A, generation=1)
        put_tail(store, A, B, generation=0)
        put_tail(store, A, B, generation=2)
        remote = await compare(store, A)
        assert is_about(remote, A)
        assert (remote.blocked_to, reads(store)) == (None, [])

    async def test_folded_segments_are_not_looked_at(self, store: MemoryStore) -> None:
        put_base(store, A + B)
        put_tail(store, A, B)
        remote = await compare(store, A + B)
        assert is_about(remote, A + B)
        assert (remote.blocked_to, reads(store)) == (None, [])

    async def test_a_segment_that_went_or_changed_since_the_listing_is_asked_for_anew(
        self, store: MemoryStore
    ) -> None:
        put_base(store, A)
        key = put_tail(store, A, B)
        found = await survey(store, PREFIX, KEY)
        store.objects[key] = Object(B + B, store.objects[key].metadata)
        with pytest.raises(Superseded):
            await Comparison(store, look_at(A + B)).with_archive(KEY, found, None)
        del store.objects[key]
        with pytest.raises(Superseded):
            await Comparison(store, look_at(A + B)).with_archive(KEY, found, None)


class TestWhatLiesInTheWay:
    async def test_a_segment_that_does_not_fit_what_it_hangs_on_is_no_content(
        self, store: MemoryStore
    ) -> None:
        put_base(store, A)
        put_tail(store, A, B, pre=digest(C))
        put_tail(store, A + B, C)
        for source in (A, A + B):
            remote = await compare(store, source)
            assert remote.relation is Relation.EXTENDS
            assert is_about(remote, A)
            assert remote.blocked_to == len(A + B + C)

    async def test_a_misfit_behind_what_fits_ends_the_content_there(
        self, store: MemoryStore
    ) -> None:
        put_base(store, A)
        put_tail(store, A, B)
        put_tail(store, A + B, C, pre=digest(b"x"))
        remote = await compare(store, A + B + C)
        assert is_about(remote, A + B, segments=1)
        assert remote.blocked_to == len(A + B + C)

    @pytest.mark.parametrize(
        "metadata",
        [
            {},
            {"td-format": "1", "td-writer": US},
            {"td-format": "2", "td-writer": US, "td-pre": digest(A)},
            {"td-format": "x", "td-writer": US, "td-pre": digest(A)},
        ],
    )
    async def test_a_segment_whose_metadata_cannot_be_read_is_no_content(
        self, store: MemoryStore, metadata: dict[str, str]
    ) -> None:
        put_base(store, A)
        key = put_tail(store, A, B)
        store.objects[key] = Object(B, metadata)
        remote = await compare(store, A + B)
        assert is_about(remote, A)
        assert (remote.relation, remote.blocked_to) == (Relation.EXTENDS, len(A + B))

    async def test_a_segment_behind_a_gap_is_no_content(self, store: MemoryStore) -> None:
        put_base(store, A)
        put_tail(store, A + B, C)
        for source in (A, A + B + C):
            remote = await compare(store, source)
            assert is_about(remote, A)
            assert (remote.relation, remote.blocked_to) == (Relation.EXTENDS, len(A + B + C))
            assert reads(store) == []

    async def test_a_segment_across_the_end_of_the_base_is_not_in_the_way(
        self, store: MemoryStore
    ) -> None:
        put_base(store, A + B)
        put_tail(store, A, B + C)
        remote = await compare(store, A + B + C)
        assert is_about(remote, A + B)
        assert (remote.relation, remote.blocked_to) == (Relation.EXTENDS, None)

    async def test_a_stop_at_the_end_of_the_content_ends_the_generation(
        self, store: MemoryStore
    ) -> None:
        put_base(store, A)
        put_tail(store, A, B)
        store.objects[segment_key(PREFIX, KEY, 0, len(A + B))] = Object(b"", {})
        remote = await compare(store, A + B + C)
        assert is_about(remote, A + B, segments=1)
        assert (remote.is_stopped, remote.blocked_to) == (True, None)

    async def test_a_stop_elsewhere_ends_nothing(self, store: MemoryStore) -> None:
        put_base(store, A, generation=1)
        for generation, start in ((0, len(A)), (1, 0), (1, 1), (2, len(A))):
            store.objects[segment_key(PREFIX, KEY, generation, start)] = Object(b"", {})
        remote = await compare(store, A + B)
        assert (remote.is_stopped, remote.blocked_to) == (False, None)


class TestWhatIsKnown:
    def cursor(self, base: bytes, tail: bytes, segments: int) -> Cursor:
        content = base + tail
        return Cursor(
            key=KEY,
            generation=0,
            records=content.count(b"\n"),
            length=len(content),
            digest=digest(content),
            etag="",
            writer=US,
            tail_length=len(tail),
            segments=segments,
        )

    async def test_what_is_known_is_not_read_again(self, store: MemoryStore) -> None:
        put_base(store, A)
        put_tail(store, A, B)
        new = put_tail(store, A + B, C)
        remote = await compare(store, A + B + C, self.cursor(A, B, 1))
        assert is_about(remote, A + B + C, segments=2)
        assert reads(store) == [new]

    async def test_where_all_is_known_nothing_is_read(self, store: MemoryStore) -> None:
        put_base(store, A)
        put_tail(store, A, B)
        remote = await compare(store, A + B + C, self.cursor(A, B, 1))
        assert is_about(remote, A + B, segments=1)
        assert (remote.relation, reads(store)) == (Relation.EXTENDS, [])

    async def test_a_known_base_is_not_read_again(self, store: MemoryStore) -> None:
        put_base(store, A)
        remote = await compare(store, A + B, self.cursor(A, b"", 0))
        assert is_about(remote, A)
        assert reads(store) == []


class TestBasesThatSomebodyOverwrote:
    """What the tail of a base that is not there any more proves about the source."""

    async def says(self, store: MemoryStore, source: bytes) -> TailSays:
        return (await compare(store, source)).tail_says

    @pytest.mark.parametrize("base", [A, C, A + B, b"", A + B + C])
    async def test_a_source_that_holds_the_whole_tail_agrees(
        self, store: MemoryStore, base: bytes
    ) -> None:
        put_base(store, base, bare=True)
        put_tail(store, A, B)
        put_tail(store, A + B, C)
        for source in (A + B + C, A + B + C + A):
            assert await self.says(store, source) is TailSays.AGREES

    @pytest.mark.parametrize(
        "source", [b"", A, A + B, A + B + C[:1], C + B + C, A + C + C, A + B + A + A]
    )
    async def test_a_source_that_does_not_is_contradicted(
        self, store: MemoryStore, source: bytes
    ) -> None:
        put_base(store, A, bare=True)
        put_tail(store, A, B)
        put_tail(store, A + B, C)
        assert await self.says(store, source) is TailSays.CONTRADICTS

    async def test_a_tail_proves_what_it_hangs_on_also_where_its_first_part_was_folded(
        self, store: MemoryStore
    ) -> None:
        put_base(store, C, bare=True)
        put_tail(store, A + B, C)
        assert await self.says(store, A + B + C) is TailSays.AGREES
        assert await self.says(store, A + A + C) is TailSays.CONTRADICTS

    async def test_without_a_tail_nothing_is_said(self, store: MemoryStore) -> None:
        put_base(store, C, bare=True)
        assert await self.says(store, A) is TailSays.NOTHING

    async def test_the_tail_of_a_finished_generation_says_nothing(self, store: MemoryStore) -> None:
        put_base(store, C, bare=True)
        put_tail(store, A, B, generation=1)
        store.objects[generation_key(PREFIX, KEY, 1)] = Object(A + B, {})
        assert await self.says(store, A + B) is TailSays.NOTHING

    async def test_the_newest_generation_is_the_one_that_counts(self, store: MemoryStore) -> None:
        put_base(store, C, bare=True)
        put_tail(store, A, B, generation=1)
        put_tail(store, A, C, generation=2)
        assert await self.says(store, A + C) is TailSays.AGREES
        assert await self.says(store, A + B) is TailSays.CONTRADICTS

    async def test_a_segment_whose_metadata_cannot_be_read_proves_nothing(
        self, store: MemoryStore
    ) -> None:
        put_base(store, C, bare=True)
        key = put_tail(store, A, B)
        store.objects[key] = Object(B, {})
        assert await self.says(store, A + B) is TailSays.CONTRADICTS

    async def test_a_base_that_says_another_length_than_it_has_is_somebody_elses(
        self, store: MemoryStore
    ) -> None:
        put_base(store, A)
        store.objects[KEY] = replace(store.objects[KEY], body=A + B)
        put_tail(store, A, B)
        remote = await compare(store, A + B)
        assert (remote.meta, remote.tail_says) == (None, TailSays.AGREES)


lines = st.lists(st.sampled_from([A, B, C]), max_size=5).map(b"".join)


@settings(max_examples=200, deadline=None)
@given(lines, lines, st.lists(st.integers(0, 20), max_size=4), st.booleans())
async def test_however_a_stream_lies_in_pieces_it_stands_to_its_source_as_its_bytes_do(
    archived: bytes,
    source: bytes,
    cuts: list[int],
    grows: bool,  # noqa: FBT001 - hypothesis passes by position
) -> None:
    store = MemoryStore()
    source = archived + source if grows else source
    places = sorted({min(cut, len(archived)) for cut in cuts} | {len(archived)})
    put_base(store, archived[: places[0]])
    for start, end in pairwise(places):
        put_tail(store, archived[:start], archived[start:end])
    remote = await compare(store, source)
    if source.startswith(archived):
        assert remote.relation is Relation.EXTENDS
        assert is_about(remote, archived, segments=len(places) - 1)
    else:
        behind = archived.startswith(source)
        assert remote.relation is (Relation.BEHIND if behind else Relation.DIFFERS)


@given(st.lists(st.sampled_from([b"", b"a", b"\n", b"b\nc", b"\n\n"]), max_size=6))
def test_records_are_the_same_in_whatever_pieces_a_stream_comes(pieces: list[bytes]) -> None:
    records = Records()
    for piece in pieces:
        records.update(piece)
    content = b"".join(pieces)
    assert records.count == count_lines(Held(content), len(content))


@given(st.binary(max_size=40).map(lambda data: data.replace(b"a", b"\n")), st.data())
def test_records_are_lines_and_a_rest_without_an_end(content: bytes, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(content)))
    found = content[:end].split(b"\n")
    with mock.patch.object(transcriptd.content, "BLOCK", 3):
        assert count_lines(Held(content), end) == len(found) - (found[-1] == b"")


class TestReading:
    async def test_a_generation_is_read_as_far_as_each_piece_fits(self, store: MemoryStore) -> None:
        put_base(store, A)
        put_tail(store, A, B)
        put_tail(store, A + B, C, pre=digest(b"x"))
        put_tail(store, A + B + C, A)
        found = await survey(store, PREFIX, KEY)
        assert found.head is not None
        whole = await read_whole(store, KEY, found.head, found.chain.content)
        content = A + B
        assert (whole.length, whole.records, whole.digest) == (len(content), 2, digest(content))
        assert whole.segments == found.chain.content[:1]

    async def test_a_rest_without_an_end_is_a_record_wherever_the_pieces_end(
        self, store: MemoryStore
    ) -> None:
        content = b"a\nbb\nccc"
        for cut in range(len(content)):
            store.objects.clear()
            put_base(store, content[:cut])
            put_tail(store, content[:cut], content[cut:])
            found = await survey(store, PREFIX, KEY)
            assert found.head is not None
            whole = await read_whole(store, KEY, found.head, found.chain.content)
            assert (whole.records, whole.length) == (3, len(content))

    async def test_a_segment_is_read_with_what_it_says_of_itself(self, store: MemoryStore) -> None:
        put_base(store, A)
        put_tail(store, A, B, writer=OTHER)
        (segment,) = (await survey(store, PREFIX, KEY)).chain.content
        async with open_segment(store, segment) as (meta, chunks):
            assert meta == SegmentMeta(OTHER, digest(A))
            assert b"".join([chunk async for chunk in chunks]) == B

    @pytest.mark.parametrize("length", [0, 1, len(A), None])
    async def test_the_digest_of_an_object_is_that_of_its_first_bytes(
        self, store: MemoryStore, length: int | None
    ) -> None:
        put_base(store, A + B)
        etag = store.objects[KEY].etag
        assert await digest_of(store, KEY, length, etag) == digest((A + B)[:length])

    async def test_an_object_that_is_no_longer_what_it_was_has_no_digest(
        self, store: MemoryStore
    ) -> None:
        put_base(store, A + B)
        for key, etag in ((KEY, "another"), (f"{KEY}x", "any")):
            with pytest.raises(Superseded):
                await digest_of(store, key, None, etag)

    async def test_a_body_that_is_shorter_than_promised_is_heard(self, store: MemoryStore) -> None:
        put_base(store, A)
        put_tail(store, A, B)
        store.fail("read", Damaged("the body is short"), key=r"\.tail/")
        with pytest.raises(Damaged):
            await compare(store, A + B)
