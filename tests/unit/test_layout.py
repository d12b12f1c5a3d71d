"""Keys and metadata are a contract with readers that do not run this program."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcriptd.layout import (
    MAX_KEY,
    Meta,
    Redaction,
    SegmentMeta,
    claim_key,
    claimed_by,
    closed_generation,
    conflict_key,
    copy_key,
    document_digest,
    document_key,
    foreign_key,
    generation_key,
    generations_prefix,
    history_key,
    machine_of,
    mirror_key,
    probe_prefix,
    segment_key,
    segment_place,
    tail_prefix,
)

BASE = history_key("history/", "s1")
META = Meta(
    generation=3, records=7, length=900, digest="ab" * 32, writer="laptop.0f0f", source="codetether"
)

names = st.from_regex(r"[a-z][a-z0-9.-]{0,40}", fullmatch=True)
redactions = st.builds(
    Redaction,
    st.sampled_from(["off", "report", "mask"]),
    st.binary(min_size=6, max_size=6).map(bytes.hex),
    st.binary(max_size=36).map(bytes.hex),
)
metas = st.builds(
    Meta,
    generation=st.integers(0, 10**9),
    records=st.integers(0, 10**12),
    length=st.integers(0, 10**15),
    digest=st.binary(min_size=32, max_size=32).map(bytes.hex),
    writer=names,
    source=names,
    redaction=redactions,
)
segments = st.binary(min_size=1, max_size=255).filter(lambda s: s not in {b".", b".."})
paths = st.lists(segments.map(lambda s: s.replace(b"/", b"_")), min_size=1, max_size=7)


class TestKeys:
    def test_each_object_has_the_key_that_the_format_says(self) -> None:
        assert BASE == "history/s1/history.jsonl"
        assert document_key("history/", "s1") == "history/s1/session.json"
        assert generations_prefix("history/", BASE) == "history/.generations/s1/history.jsonl/"
        assert (
            generation_key("history/", BASE, 4)
            == "history/.generations/s1/history.jsonl/000004.jsonl"
        )
        assert (
            conflict_key("history/", BASE, "m1.0f")
            == "history/.conflicts/s1/history.jsonl/m1.0f.jsonl"
        )
        assert (
            foreign_key("history/", BASE, '"9a-2"')
            == "history/.conflicts/s1/history.jsonl/foreign-9a-2.jsonl"
        )
        assert probe_prefix("history/") == "history/.tail/.probe/"
        assert tail_prefix("history/", BASE) == "history/.tail/s1/history.jsonl/"
        assert (
            segment_key("history/", BASE, 4, 16385)
            == "history/.tail/s1/history.jsonl/000004-00000000000000016385.jsonl"
        )
        assert claim_key("history/", BASE, "m1.0f") == "history/.tail/s1/history.jsonl/writer-m1.0f"

    @given(st.integers(0, 10**7))
    def test_the_number_of_a_finished_generation_is_read_back_from_its_key(self, n: int) -> None:
        assert closed_generation(generation_key("history/", BASE, n)) == n

    @pytest.mark.parametrize(
        "key", [BASE, "history/.generations/s1/history.jsonl/note", "x/12.jsonl", "x/0000a1", ""]
    )
    def test_other_keys_are_no_finished_generation(self, key: str) -> None:
        assert closed_generation(key) is None

    @given(st.integers(0, 10**7), st.integers(0, 5 * 10**13))
    def test_the_place_of_a_segment_is_read_back_from_its_name(self, n: int, start: int) -> None:
        name = segment_key("history/", BASE, n, start).removeprefix(tail_prefix("history/", BASE))
        assert segment_place(name) == (n, start)
        assert claimed_by(name) is None

    @given(st.lists(st.integers(0, 5 * 10**13), min_size=2, unique=True))
    def test_segments_are_listed_in_the_order_of_their_starts(self, starts: list[int]) -> None:
        keys = [segment_key("history/", BASE, 0, start) for start in sorted(starts)]
        assert keys == sorted(keys)

    @pytest.mark.parametrize(
        "name",
        [
            "", "writer-m1.0f", "000000-00000000000000000005", "000000-5.jsonl",
            "00000-00000000000000000005.jsonl", "000000-00000000000000000005.jsonl.gz",
            "x000000-00000000000000000005.jsonl", "000000-00000000000000000005.jsonl\n",
            "000000--0000000000000000005.jsonl", "a/000000-00000000000000000005.jsonl",
        ],
    )  # fmt: skip
    def test_other_names_are_no_segment(self, name: str) -> None:
        assert segment_place(name) is None

    @given(names)
    def test_a_writer_is_read_back_from_the_name_of_its_claim(self, writer: str) -> None:
        name = claim_key("history/", BASE, writer).removeprefix(tail_prefix("history/", BASE))
        assert (claimed_by(name), segment_place(name)) == (writer, None)

    @pytest.mark.parametrize("name", ["", "writer-", "Writer-m1", "xwriter-m1", "m1.0f"])
    def test_other_names_are_no_claim(self, name: str) -> None:
        assert claimed_by(name) is None

    def test_a_conflict_stream_has_a_tail_of_its_own(self) -> None:
        aside = conflict_key("history/", BASE, "m1.0f")
        key = segment_key("history/", aside, 0, 5)
        assert key.startswith("history/.tail/.conflicts/s1/history.jsonl/m1.0f.jsonl/")
        assert not key.startswith(tail_prefix("history/", BASE))

    def test_a_conflict_stream_has_generations_of_its_own(self) -> None:
        aside = conflict_key("history/", BASE, "m1.0f")
        key = generation_key("history/", aside, 0)
        assert key.startswith("history/.generations/.conflicts/s1/history.jsonl/m1.0f.jsonl/")
        assert not key.startswith(generations_prefix("history/", BASE))

    @given(st.text(max_size=60))
    def test_whatever_an_etag_holds_it_stays_one_segment_of_a_key(self, etag: str) -> None:
        key = foreign_key("history/", BASE, etag)
        assert re.fullmatch(
            r"history/\.conflicts/s1/history\.jsonl/foreign-[A-Za-z0-9._-]+\.jsonl", key
        )

    def test_two_copies_of_a_session_have_streams_of_their_own(self) -> None:
        keys = {copy_key("history/", BASE, "m1.0f", root) for root in ("/a", "/b", "/caf\udce9")}
        assert len(keys | {BASE, conflict_key("history/", BASE, "m1.0f")}) == 5

    @pytest.mark.parametrize(
        ("writer", "machine"), [("laptop.0f", "laptop"), ("a.b.0f", "a.b"), ("nothing", "")]
    )
    def test_a_writer_names_its_machine_before_the_last_dot(
        self, writer: str, machine: str
    ) -> None:
        assert machine_of(writer) == machine

    def test_a_document_is_known_by_its_sha256(self) -> None:
        empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        assert document_digest(b"") == empty


class TestMirrorKeys:
    def test_bytes_outside_the_plain_ones_are_escaped(self) -> None:
        key = mirror_key("history/", "m1", "claude", b"-srv-app/caf\xc3\xa9 %/a.jsonl")
        assert key == "history/m1/raw/claude/-srv-app/caf%C3%A9%20%25/a.jsonl"

    @given(paths)
    def test_a_path_that_fits_is_read_back_from_its_key(self, path: list[bytes]) -> None:
        key = mirror_key("history/", "m1", "claude", b"/".join(path))
        below = key.removeprefix("history/m1/raw/claude/")
        if "~" not in below:
            assert unquote_to_bytes(below) == b"/".join(path)

    @given(paths)
    def test_a_key_is_never_longer_than_allowed(self, path: list[bytes]) -> None:
        assert len(mirror_key("history/", "m1", "claude", b"/".join(path))) <= MAX_KEY

    @given(st.lists(paths, min_size=2, max_size=4, unique_by=tuple))
    def test_two_paths_never_share_a_key(self, several: list[list[bytes]]) -> None:
        keys = {mirror_key("history/", "m1", "claude", b"/".join(path)) for path in several}
        assert len(keys) == len(several)

    @given(paths)
    def test_no_segment_of_a_key_is_empty_or_climbs(self, path: list[bytes]) -> None:
        key = mirror_key("history/", "m1", "claude", b"/".join(path))
        assert not {"", ".", ".."} & set(key.split("/"))
        assert key.isascii()

    def test_directories_that_are_many_and_not_long_become_one_mark(self) -> None:
        path = b"/".join([b"x" * 70] * 20)
        key = mirror_key("history/", "m1", "claude", path)
        assert re.fullmatch(f"history/m1/raw/claude/~[0-9a-f]{{32}}/{'x' * 70}", key)
        assert key != mirror_key("history/", "m1", "claude", b"y" + path)

    @given(st.integers(1, 300), st.integers(1, 400))
    def test_no_path_is_too_deep_for_a_key(self, length: int, depth: int) -> None:
        key = mirror_key("history/", "m1", "claude", b"/".join([b"x" * length] * depth))
        assert len(key) <= MAX_KEY

    def test_only_the_longest_segments_are_shortened(self) -> None:
        path = b"/".join([b"a" * 200, b"b" * 255, b"c" * 255, b"d" * 250])
        shortened = ["~" in segment for segment in mirror_key("h/", "m", "x", path).split("/")[4:]]
        assert shortened == [False, True, False, False]

    @pytest.mark.parametrize("path", [b"", b"/a", b"a/", b"a//b", b".", b"..", b"a/../b", b"./a"])
    def test_a_path_that_could_climb_is_refused(self, path: bytes) -> None:
        with pytest.raises(ValueError):
            mirror_key("history/", "m1", "claude", path)


class TestMeta:
    def test_a_base_says_about_itself_what_the_format_says(self) -> None:
        assert META.encode() == {
            "td-format": "1",
            "td-generation": "3",
            "td-records": "7",
            "td-length": "900",
            "td-digest": "ab" * 32,
            "td-writer": "laptop.0f0f",
            "td-source": "codetether",
            "td-redaction": "off",
            "td-rules": "0",
        }

    @given(metas)
    def test_metadata_are_read_back_as_they_were_written(self, meta: Meta) -> None:
        assert Meta.decode(meta.encode()) == meta

    @given(metas)
    def test_metadata_travel_through_every_server(self, meta: Meta) -> None:
        encoded = meta.encode()
        assert all(re.fullmatch(r"[a-z-]+", name) for name in encoded)
        assert all(v and v.isascii() and len(v) <= 255 for v in encoded.values())
        assert sum(len(name) + len(value) for name, value in encoded.items()) < 2048

    def test_a_server_may_change_the_case_of_names(self) -> None:
        shouted = {name.upper(): value for name, value in META.encode().items()}
        assert Meta.decode(shouted) == META

    def test_names_of_somebody_else_do_not_matter(self) -> None:
        assert Meta.decode({**META.encode(), "mtime": "12.5", "td-future": "x"}) == META

    @pytest.mark.parametrize("missing", META.encode())
    def test_metadata_that_miss_a_name_are_not_ours(self, missing: str) -> None:
        assert Meta.decode({k: v for k, v in META.encode().items() if k != missing}) is None

    @pytest.mark.parametrize("name", ["format", "generation", "records", "length"])
    @pytest.mark.parametrize("value", ["", "x", "1.5", "2e3"])
    def test_metadata_with_no_number_for_a_number_are_not_ours(self, name: str, value: str) -> None:
        assert Meta.decode({**META.encode(), f"td-{name}": value}) is None

    def test_metadata_of_another_format_are_not_ours(self) -> None:
        assert Meta.decode({**META.encode(), "td-format": "2"}) is None


SEGMENT = SegmentMeta(writer="laptop.0f0f", pre="ab" * 32)
REDACTION = {"td-redaction": "off", "td-rules": "0"}
segment_metas = st.builds(
    SegmentMeta,
    names,
    st.binary(min_size=32, max_size=32).map(lambda digest: digest.hex()),
    redactions,
)


class TestSegmentMeta:
    def test_a_segment_says_about_itself_what_the_format_says(self) -> None:
        assert SEGMENT.encode() == {
            "td-format": "1",
            "td-writer": "laptop.0f0f",
            "td-pre": "ab" * 32,
            **REDACTION,
        }

    def test_a_segment_from_before_there_was_redaction_is_one_without(self) -> None:
        early = {k: v for k, v in SEGMENT.encode().items() if k not in REDACTION}
        assert SegmentMeta.decode(early) == SEGMENT

    @given(segment_metas)
    def test_metadata_are_read_back_as_they_were_written(self, meta: SegmentMeta) -> None:
        assert SegmentMeta.decode(meta.encode()) == meta

    @given(segment_metas)
    def test_metadata_travel_through_every_server(self, meta: SegmentMeta) -> None:
        encoded = meta.encode()
        assert all(re.fullmatch(r"[a-z-]+", name) for name in encoded)
        assert all(v and v.isascii() and len(v) <= 255 for v in encoded.values())

    def test_a_server_may_change_the_case_of_names(self) -> None:
        shouted = {name.upper(): value for name, value in SEGMENT.encode().items()}
        assert SegmentMeta.decode(shouted) == SEGMENT

    def test_names_of_somebody_else_do_not_matter(self) -> None:
        assert SegmentMeta.decode({**SEGMENT.encode(), "mtime": "12.5"}) == SEGMENT

    @pytest.mark.parametrize("missing", sorted(SEGMENT.encode().keys() - REDACTION))
    def test_metadata_that_miss_a_name_are_not_ours(self, missing: str) -> None:
        left = {k: v for k, v in SEGMENT.encode().items() if k != missing}
        assert SegmentMeta.decode(left) is None

    @pytest.mark.parametrize("said", ["0", "2", "10", "", "x", "1.0"])
    def test_metadata_of_another_format_are_not_decoded(self, said: str) -> None:
        assert SegmentMeta.decode({**SEGMENT.encode(), "td-format": said}) is None
        assert Meta.decode({**META.encode(), "td-format": said}) is None

    def test_a_base_is_no_segment_and_a_segment_no_base(self) -> None:
        assert SegmentMeta.decode(META.encode()) is None
        assert Meta.decode(SEGMENT.encode()) is None
