"""Whatever a listing says, each of its objects is sorted once, and content never has a gap."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcriptd.layout import claim_key, history_key, segment_key, tail_prefix
from transcriptd.stores import Entry
from transcriptd.tail import Chain, Segment, Tails, chain, tails_of

PREFIX = "history/"
BASE = history_key(PREFIX, "s1")
HEAD = tail_prefix(PREFIX, BASE)


def entry(key: str, size: int) -> Entry:
    return Entry(key, size, f"etag of {key}", 0.0)


def segment_entry(generation: int, start: int, size: int) -> Entry:
    return entry(segment_key(PREFIX, BASE, generation, start), size)


def segment(start: int, end: int, generation: int = 0) -> Segment:
    key = segment_key(PREFIX, BASE, generation, start)
    return Segment(generation, start, end, key, f"etag of {key}")


strangers = st.sampled_from(
    ["notes.txt", "writer-", "000000-5.jsonl", "000000-00000000000000000005", "0-x.jsonl",
     "000000-00000000000000000005.jsonl.bak", "00000-00000000000000000005.jsonl", "", "a/b",
     "sub/000000-00000000000000000005.jsonl", "Writer-m1.0f"],
)  # fmt: skip
listed = st.lists(
    st.builds(segment_entry, st.integers(0, 3), st.integers(0, 30), st.integers(0, 9))
    | st.sampled_from(["m1.0f", "m2.aa", "desk.bb"]).map(
        lambda writer: entry(claim_key(PREFIX, BASE, writer), 100)
    )
    | strangers.map(lambda name: entry(HEAD + name, 7)),
    unique_by=lambda each: each.key,
    max_size=20,
)
segments = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 9)), unique_by=lambda each: each[0], max_size=12
).map(lambda each: [segment(start, start + size) for start, size in each])


class TestTailsOf:
    @given(listed)
    def test_nothing_that_is_listed_is_lost_or_sorted_twice(self, entries: list[Entry]) -> None:
        tails = tails_of(PREFIX, BASE, entries)
        found = [s.key for s in tails.segments]
        found += [segment_key(PREFIX, BASE, *place) for place in tails.stops]
        found += [claim_key(PREFIX, BASE, writer) for writer in tails.claims]
        found += tails.strangers
        assert sorted(found) == sorted(each.key for each in entries)

    @given(listed)
    def test_a_segment_is_what_its_name_and_size_say(self, entries: list[Entry]) -> None:
        by_key = {each.key: each for each in entries}
        for found in tails_of(PREFIX, BASE, entries).segments:
            listed = by_key[found.key]
            assert found.key == segment_key(PREFIX, BASE, found.generation, found.start)
            assert (found.end - found.start, found.etag) == (listed.size, listed.etag)
            assert found.end > found.start

    @given(listed)
    def test_the_order_of_a_listing_does_not_matter(self, entries: list[Entry]) -> None:
        there, back = tails_of(PREFIX, BASE, entries), tails_of(PREFIX, BASE, entries[::-1])
        assert (there.segments, there.claims) == (back.segments, back.claims)
        assert sorted(there.strangers) == sorted(back.strangers)

    @given(listed)
    def test_segments_come_by_generation_and_start(self, entries: list[Entry]) -> None:
        tails = tails_of(PREFIX, BASE, entries)
        places = [(each.generation, each.start) for each in tails.segments]
        assert places == sorted(places)
        assert tails.highest == max((g for g, _ in places), default=-1)
        for generation in range(5):
            assert tails.of(generation) == tuple(
                each for each in tails.segments if each.generation == generation
            )

    def test_starts_are_compared_as_numbers(self) -> None:
        entries = [segment_entry(0, 10**12, 1), segment_entry(0, 9, 1), segment_entry(10, 0, 1)]
        places = [(s.generation, s.start) for s in tails_of(PREFIX, BASE, entries).segments]
        assert places == [(0, 9), (0, 10**12), (10, 0)]

    def test_an_empty_object_at_the_place_of_a_segment_is_a_stop_and_no_segment(self) -> None:
        tails = tails_of(PREFIX, BASE, [segment_entry(3, 5, 0)])
        assert tails == Tails(stops=frozenset({(3, 5)}))
        assert (tails.highest, tails.of(3)) == (-1, ())

    def test_claims_are_known_by_their_writers(self) -> None:
        keys = [claim_key(PREFIX, BASE, writer) for writer in ("m2.aa", "m1.0f")]
        assert tails_of(PREFIX, BASE, [entry(k, 1) for k in keys]).claims == ("m1.0f", "m2.aa")

    @given(strangers)
    def test_what_is_neither_is_a_stranger(self, name: str) -> None:
        assert tails_of(PREFIX, BASE, [entry(HEAD + name, 7)]).strangers == (HEAD + name,)

    def test_of_nothing_there_is_nothing(self) -> None:
        tails = tails_of(PREFIX, BASE, [])
        assert (tails, tails.highest, tails.of(0)) == (Tails(), -1, ())


class TestChain:
    @given(segments, st.integers(0, 40))
    def test_every_segment_is_content_folded_or_astray(
        self, tail: list[Segment], length: int
    ) -> None:
        found = chain(tail, length)
        everything = [*found.content, *found.folded, *found.astray]
        assert sorted(everything) == sorted(tail)

    @given(segments, st.integers(0, 40))
    def test_content_continues_the_base_without_a_gap(
        self, tail: list[Segment], length: int
    ) -> None:
        found, end = chain(tail, length), length
        for each in found.content:
            assert each.start == end
            end = each.end
        assert found.end == end

    @given(segments, st.integers(0, 40))
    def test_content_ends_only_where_no_segment_goes_on(
        self, tail: list[Segment], length: int
    ) -> None:
        found = chain(tail, length)
        assert all(each.start != found.end for each in tail)

    @given(segments, st.integers(0, 40))
    def test_folded_is_just_what_lies_wholly_below_the_end_of_the_base(
        self, tail: list[Segment], length: int
    ) -> None:
        assert set(chain(tail, length).folded) == {each for each in tail if each.end <= length}

    @given(segments, st.integers(0, 40))
    def test_astray_lies_behind_a_gap_or_across_an_end(
        self, tail: list[Segment], length: int
    ) -> None:
        found = chain(tail, length)
        ends = {length, *(each.end for each in found.content)}
        for each in found.astray:
            across = any(each.start < end < each.end for end in ends)
            inside = length <= each.start and each.end <= found.end
            assert each.start > found.end or across or inside

    @given(segments, st.integers(0, 40), st.integers(0, 60))
    def test_something_is_in_the_way_where_a_stray_segment_begins_there_or_behind(
        self, tail: list[Segment], length: int, end: int
    ) -> None:
        found = chain(tail, length)
        assert found.ahead_of(end) is any(each.start >= end for each in found.astray)

    @given(segments, st.integers(0, 40))
    def test_the_order_of_the_segments_does_not_matter(
        self, tail: list[Segment], length: int
    ) -> None:
        assert chain(tail[::-1], length) == chain(tail, length)

    @given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(0, 40), st.data())
    def test_whatever_prefix_was_sealed_the_rest_is_content(
        self, sizes: list[int], length: int, data: st.DataObject
    ) -> None:
        ends = [length + sum(sizes[:n]) for n in range(len(sizes) + 1)]
        tail = [segment(start, end) for start, end in pairwise(ends)]
        sealed = data.draw(st.sampled_from(ends))
        found = chain(tail, sealed)
        assert (found.end, found.astray) == (ends[-1], ())
        assert [each.end <= sealed for each in tail].count(True) == len(found.folded)

    @pytest.mark.parametrize(
        ("tail", "expected"),
        [
            ([(10, 20), (20, 25)], ("content", "content")),
            ([(0, 10), (10, 20)], ("folded", "content")),
            ([(10, 20), (21, 25)], ("content", "astray")),
            ([(9, 20)], ("astray",)),
            ([(5, 10), (8, 12)], ("folded", "astray")),
            ([(10, 20), (15, 20), (20, 21)], ("content", "astray", "content")),
        ],
    )
    def test_beside_a_base_of_ten_bytes(
        self, tail: list[tuple[int, int]], expected: tuple[str, ...]
    ) -> None:
        found = chain([segment(*each) for each in tail], 10)
        kinds = dict.fromkeys(found.content, "content")
        kinds |= dict.fromkeys(found.folded, "folded")
        kinds |= dict.fromkeys(found.astray, "astray")
        assert tuple(kinds[segment(*each)] for each in tail) == expected

    def test_without_segments_the_content_is_the_base(self) -> None:
        assert chain([], 7) == Chain((), (), (), 7)
