"""CodeTether documents become lines without losing a byte, and only sessions count as sessions."""

from __future__ import annotations

import contextlib
import json
import os
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import documents
from transcriptd.errors import Unreadable
from transcriptd.layout import Names
from transcriptd.model import Session
from transcriptd.places import Places
from transcriptd.sources.codetether import CodeTether

DATA = Path(__file__).parents[1] / "data" / "codetether"
SAMPLES = sorted(path.stem for path in DATA.glob("*.json") if "." not in path.stem)
CANARY = "never-say-this-aloud"
NOTHING_KNOWN = Places(())

source = CodeTether([], {"HOME": "/nonexistent"})


def session(session_id: str) -> Session:
    return Session("codetether", session_id, "/sessions", f"{session_id}.json")


def content_of(data: bytes, *, known: int = 0, session_id: str = documents.SESSION_ID) -> bytes:
    content = source.lines(session(session_id), data, known).content
    return content.read(0, content.size)


def with_messages(*messages: bytes) -> bytes:
    return b'{"id":"%s","messages":[%s]}' % (documents.SESSION_ID.encode(), b",".join(messages))


def reason_of(data: bytes) -> str:
    with pytest.raises(Unreadable) as caught:
        content_of(data)
    return caught.value.reason


class TestLines:
    @pytest.mark.parametrize("name", SAMPLES)
    def test_a_sample_becomes_the_lines_that_were_written_down_for_it(self, name: str) -> None:
        data = (DATA / f"{name}.json").read_bytes()
        expected = (DATA / f"{name}.history.jsonl").read_bytes()
        assert content_of(data, session_id=name) == expected
        assert source.lines(session(name), data).records == expected.count(b"\n")

    @pytest.mark.parametrize("name", SAMPLES)
    def test_a_sample_has_the_rest_that_was_written_down_for_it(self, name: str) -> None:
        data = (DATA / f"{name}.json").read_bytes()
        assert source.document(session(name), data) == (DATA / f"{name}.session.json").read_bytes()

    @given(documents.conversations())
    def test_the_bytes_of_a_compact_document_pass_through_untouched(
        self, messages: list[documents.Message]
    ) -> None:
        data = documents.compact(documents.document(messages))
        content = content_of(data)
        assert content == documents.history(messages)
        assert b",".join(content.splitlines()) in data

    @given(documents.conversations())
    def test_a_pretty_printed_document_gives_the_lines_of_the_compact_one(
        self, messages: list[documents.Message]
    ) -> None:
        data = documents.pretty(documents.old(documents.document(messages)))
        assert content_of(data) == documents.history(messages)

    @given(st.lists(documents.spelled_objects(), max_size=4))
    def test_only_white_space_between_the_parts_of_a_message_is_removed(
        self, messages: list[documents.Spelled]
    ) -> None:
        expected = b"".join(message.compact + b"\n" for message in messages)
        assert content_of(with_messages(*(m.spaced for m in messages))) == expected
        assert content_of(with_messages(*(m.compact for m in messages))) == expected

    @pytest.mark.parametrize("number", documents.SPELLINGS)
    def test_a_number_keeps_its_spelling(self, number: str) -> None:
        spelled = b'{ "n" : %s }' % number.encode()
        assert content_of(with_messages(spelled)) == b'{"n":%s}\n' % number.encode()

    def test_a_key_that_stands_twice_stays_twice(self) -> None:
        assert content_of(with_messages(b'{"a": 1, "a": 2}')) == b'{"a":1,"a":2}\n'

    def test_a_line_separator_of_unicode_does_not_end_a_line(self) -> None:
        text = documents.message("user", "one\u2028still one\u2029and one")
        data = documents.compact(documents.document([text]))
        assert content_of(data) == documents.history([text])
        assert source.lines(session(documents.SESSION_ID), data).records == 1

    @given(st.data(), documents.conversations(max_size=3))
    def test_the_order_of_a_documents_fields_does_not_matter(
        self, data: st.DataObject, messages: list[documents.Message]
    ) -> None:
        fields = documents.document(messages, future={"id": "x", "messages": 1})
        shuffled = dict(data.draw(st.permutations(list(fields.items()))))
        assert content_of(documents.compact(shuffled)) == documents.history(messages)

    def test_nothing_but_id_and_messages_is_needed(self) -> None:
        assert content_of(with_messages(b"{}")) == b"{}\n"

    @given(st.lists(documents.spelled_objects(), max_size=4), st.integers(0, 4))
    def test_the_lines_are_what_each_message_by_itself_gives(
        self, messages: list[documents.Spelled], known: int
    ) -> None:
        data = with_messages(*(message.spaced for message in messages))
        raw = msgspec.json.decode(data, type=dict[str, msgspec.Raw])["messages"]
        each = [bytes(message) for message in msgspec.json.decode(raw, type=list[msgspec.Raw])]
        each[known:] = [msgspec.json.format(message, indent=-1) for message in each[known:]]
        assert content_of(data, known=known) == b"".join(message + b"\n" for message in each)

    @given(documents.conversations(), st.integers(0, 8))
    def test_what_is_known_of_a_compact_document_changes_none_of_its_lines(
        self, messages: list[documents.Message], known: int
    ) -> None:
        data = documents.compact(documents.document(messages))
        assert content_of(data, known=known) == content_of(data)

    def test_a_long_line_behind_many_short_ones_is_still_checked(self) -> None:
        short = [documents.compact(documents.message("user", "ä"))] * 3
        long = b'{"a":"' + b"x" * (3 << 20) + b'\xff"}'
        assert reason_of(with_messages(*short, long, *short)) == "invalid_utf8"


class TestUnreadable:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "empty"),
            (b"\0" * 4096, "blank"),
            (b" \n\t", "blank"),
            (b"{", "invalid_json"),
            (b"nonsense", "invalid_json"),
            (b"[]", "wrong_type"),
            (b"null", "wrong_type"),
            (b'"text"', "wrong_type"),
            (b'{"messages":[]}', "wrong_type"),
            (b'{"id":"%s"}' % documents.SESSION_ID.encode(), "wrong_type"),
            (b'{"id":5,"messages":[]}', "wrong_type"),
            (b'{"id":"a","messages":null}', "wrong_type"),
            (b'{"id":"a","messages":{}}', "wrong_type"),
            (b'{"id":"another","messages":[]}', "wrong_id"),
            (b'{"id":"../../x","messages":[]}', "wrong_id"),
            (b'{"id":"","messages":[]}', "wrong_id"),
            (b'{"id":"\xff","messages":[]}', "invalid_utf8"),
            (b'{"id":"\\ud800","messages":[]}', "invalid_json"),
            (with_messages(b"null"), "wrong_type"),
            (with_messages(b'"text"'), "wrong_type"),
            (with_messages(b"[]"), "wrong_type"),
            (with_messages(b"{}", b"7"), "wrong_type"),
            (with_messages(b'{"a":NaN}'), "invalid_json"),
            (with_messages(b'{"a":-Infinity}'), "invalid_json"),
            (with_messages(b'{"a":01}'), "invalid_json"),
            (with_messages(b'{"a":1.}'), "invalid_json"),
            (with_messages(b'{"a":"\\ud800"}'), "invalid_json"),
            (with_messages(b'{"a":"\\udc00 x"}'), "invalid_json"),
            (with_messages(b'{"a":"\\ud800\\u0041"}'), "invalid_json"),
            (with_messages(b'{"a":"\xed\xa0\x80"}'), "invalid_utf8"),
            (with_messages(b'{"a":"\xff"}'), "invalid_utf8"),
            (with_messages(b'{"\xc3":1}'), "invalid_utf8"),
            (with_messages(b'{"a":"x\ny"}'), "invalid_json"),
            (with_messages(b'{"a":"x\0y"}'), "invalid_json"),
            (with_messages(b"{1:2}"), "invalid_json"),
            (with_messages(b"{}") + b"{}", "invalid_json"),
            (with_messages(b"{}") + b"\0\0", "invalid_json"),
            (b"\xef\xbb\xbf" + with_messages(b"{}"), "invalid_json"),
            (documents.compact(documents.document([])).decode().encode("utf-16"), "invalid_json"),
        ],
    )
    def test_a_document_that_is_none_has_its_reason(self, data: bytes, reason: str) -> None:
        assert reason_of(data) == reason

    @pytest.mark.parametrize("closed", [True, False])
    @pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
    def test_nesting_of_ten_thousand_is_refused(
        self, opening: bytes, closing: bytes, *, closed: bool
    ) -> None:
        deep = opening * 10_000 + b"1" + (closing * 10_000 if closed else b"")
        for data in (
            with_messages(b'{"a":' + deep + b"}"),
            b'{"id":"x","future":' + deep + b',"messages":[]}',
            deep,
        ):
            with pytest.raises(Unreadable):
                source.lines(session("x"), data)
            with pytest.raises(Unreadable):
                source.document(session("x"), data)

    def test_nesting_of_a_hundred_is_nothing_special(self) -> None:
        deep = b'{"a":' + b"[" * 100 + b"]" * 100 + b"}"
        assert content_of(with_messages(deep)) == deep + b"\n"

    @pytest.mark.parametrize(
        "data",
        [
            b'{"id":"%s","messages":[]}' % CANARY.encode(),
            b'{"id":["%s"],"messages":[]}' % CANARY.encode(),
            with_messages(b'{"%s":"%s\xff"}' % (CANARY.encode(), CANARY.encode())),
            with_messages(b'{"%s":"%s\\ud800"}' % (CANARY.encode(), CANARY.encode())),
            with_messages(b'"%s"' % CANARY.encode()),
            with_messages(b'{"a":%s}' % CANARY.encode()),
            b'{"%s":1' % CANARY.encode(),
            CANARY.encode(),
        ],
    )
    def test_the_reason_never_quotes_the_document(self, data: bytes) -> None:
        with pytest.raises(Unreadable) as caught:
            content_of(data)
        said = f"{caught.value.reason} {caught.value!r} {caught.value.__cause__!r}"
        assert CANARY not in said


class TestDocument:
    @given(documents.conversations(max_size=2), documents.texts())
    def test_the_rest_of_a_document_holds_all_but_messages_and_pages(
        self, messages: list[documents.Message], title: str
    ) -> None:
        value = documents.document(messages, title=title, future=[1.0, {"messages": "kept"}])
        rest = source.document(session(documents.SESSION_ID), documents.pretty(value))
        expected = {k: v for k, v in value.items() if k not in {"messages", "pages"}}
        assert rest == documents.compact(expected)

    @pytest.mark.parametrize(
        "metadata",
        [
            '{"history_sink":"%s"}',
            '{"model":"m","history_sink":{"secret_key":"%s"}}',
            '{ "history_sink" : ["%s"] , "model" : "m" }',
            '{"history\\u005fsink":"%s"}',
            '{"history_sink":1,"history_sink":"%s","model":"m"}',
        ],
    )
    @pytest.mark.parametrize("name", ["metadata", r"meta\u0064ata"])
    def test_the_credentials_of_a_sink_are_never_in_it(self, metadata: str, name: str) -> None:
        data = f'{{"id":"x","{name}":{metadata % CANARY},"messages":[]}}'.encode()
        rest = source.document(session("x"), data)
        assert rest is not None
        assert CANARY.encode() not in rest
        assert "history_sink" not in json.loads(rest)["metadata"]

    def test_metadata_that_stand_twice_hide_no_credentials(self) -> None:
        sink = f'"metadata":{{"history_sink":"{CANARY}"}}'
        for fields in (f'{sink},"metadata":{{}}', f'"metadata":{{}},{sink}'):
            rest = source.document(session("x"), f'{{"id":"x",{fields},"messages":[]}}'.encode())
            assert rest == b'{"id":"x","metadata":{}}'

    @pytest.mark.parametrize("metadata", ["null", "[]", '"text"', "7"])
    def test_metadata_of_another_type_pass_through(self, metadata: str) -> None:
        data = f'{{"id":"x","metadata": {metadata},"messages":[]}}'.encode()
        assert source.document(session("x"), data) == f'{{"id":"x","metadata":{metadata}}}'.encode()

    @given(st.binary(max_size=40) | st.binary(max_size=20).map(lambda b: b'{"metadata":' + b))
    def test_whatever_stands_in_a_file_it_is_read_or_unreadable(self, data: bytes) -> None:
        for read in (source.lines, source.document):
            with contextlib.suppress(Unreadable):
                read(session("x"), data)


class TestNames:
    @pytest.mark.parametrize(
        "name",
        ["a.json", f"{documents.SESSION_ID}.json", "_.json", "-.json", "sitzung-ü.json",
         "会話.json", "x" * 128 + ".json"],
    )  # fmt: skip
    def test_a_session_is_known_by_its_stem(self, name: str) -> None:
        found = source.session(Path("/r"), name)
        assert found == Session("codetether", name.removesuffix(".json"), "/r", name)

    @pytest.mark.parametrize(
        "name",
        ["a.checkpoint.json", "a.journal.jsonl", "a.tasks.jsonl", "a.json.tmp", ".json", "a", "",
         ".workspace_index.json", ".listing_cache.json", "../a.json", "a/b.json", "..json",
         "a b.json", "a\n.json", "a.json\n", "a\x00.json", "\u202ea.json", "x" * 129 + ".json",
         "\udcff.json", "a.JSON", "recall", "a%2f.json"],
    )  # fmt: skip
    def test_every_other_name_is_no_session(self, name: str) -> None:
        assert source.session(Path("/r"), name) is None

    @given(st.text(max_size=140), st.sampled_from([".json", ""]))
    def test_whatever_the_name_its_key_is_three_segments_below_the_prefix(
        self, stem: str, suffix: str
    ) -> None:
        found = source.session(Path("/r"), stem + suffix)
        if found is not None:
            prefix, segment, name = source.key(Names("history/", "m.0"), found).split("/")
            assert (prefix, name) == ("history", "history.jsonl")
            assert segment.isprintable()
            assert not segment.startswith(".")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory; the working directory is a plain one below it."""
    path = tmp_path / "home"
    (path / "work").mkdir(parents=True)
    monkeypatch.chdir(path / "work")
    return path


def roots(home: Path, *configured: str, known: Places = NOTHING_KNOWN, **env: str) -> list[Path]:
    return list(CodeTether(configured, {"HOME": str(home), **env}).places(known).roots)


def sessions_of(directory: Path) -> Path:
    return directory / ".codetether-agent" / "sessions"


def index_of(home: Path) -> Path:
    index = home / ".local" / "share" / "codetether-agent" / "session-locations"
    index.mkdir(parents=True, exist_ok=True)
    return index


def saved_session(directory: Path, session_id: str) -> Path:
    path = sessions_of(directory)
    path.mkdir(parents=True, exist_ok=True)
    return documents.save(path, documents.document([], session_id))


class TestPlaces:
    def test_roots_come_in_the_order_in_which_the_agent_looks(self, home: Path) -> None:
        found = roots(home, "/configured", CODETETHER_DATA_DIR=" /data ")
        assert found == [
            Path("/configured"),
            Path("/data/sessions"),
            sessions_of(home / "work"),
            home / ".local/share/codetether-agent/sessions",
            home / ".local/share/codetether/sessions",
        ]

    def test_a_data_directory_of_blanks_is_none(self, home: Path) -> None:
        assert roots(home, CODETETHER_DATA_DIR="  ") == roots(home)

    def test_a_root_that_is_named_twice_is_one(self, home: Path) -> None:
        data_dir = home / ".local" / "share" / "codetether-agent"
        found = roots(home, str(data_dir / "sessions"), CODETETHER_DATA_DIR=str(data_dir))
        assert found.count(data_dir / "sessions") == 1

    def test_the_nearest_ancestor_with_a_repository_is_the_workspace(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for repository in (home / "work", home / "work" / "inner"):
            (repository / ".git").mkdir(parents=True)
        deep = home / "work" / "inner" / "a" / "b"
        deep.mkdir(parents=True)
        monkeypatch.chdir(deep)
        assert sessions_of(home / "work" / "inner") in roots(home)
        assert sessions_of(home / "work") not in roots(home)

    def test_a_worktrees_git_file_counts_as_a_repository(self, home: Path) -> None:
        (home / "work" / ".git").write_text("gitdir: elsewhere\n")
        assert sessions_of(home / "work") in roots(home)

    def test_a_repository_at_home_is_no_workspace(self, home: Path) -> None:
        (home / ".git").mkdir()
        assert sessions_of(home) not in roots(home)
        assert sessions_of(home / "work") in roots(home)

    def test_a_working_directory_that_is_gone_names_no_root(self, home: Path) -> None:
        (home / "work").rmdir()
        assert home / ".local/share/codetether-agent/sessions" in roots(home)

    def test_each_worktree_of_a_repository_has_a_root(self, home: Path) -> None:
        trees = [home / "work" / ".codetether-worktrees" / name for name in ("one", "two")]
        for tree in trees:
            saved_session(tree, "a")
        (home / "work" / ".codetether-worktrees" / "no-sessions").mkdir()
        found = roots(home)
        assert [root for root in found if root.is_dir()] == [sessions_of(tree) for tree in trees]

    def test_the_index_names_roots_of_other_workspaces(self, home: Path) -> None:
        path = saved_session(home / "elsewhere", "a")
        (index_of(home) / "a.path").write_text(f"{path}\n")
        assert sessions_of(home / "elsewhere") in roots(home)

    def test_the_worktrees_of_a_named_root_count_too(self, home: Path) -> None:
        tree = home / "elsewhere" / ".codetether-worktrees" / "one"
        saved_session(tree, "b")
        (index_of(home) / "a.path").write_text(str(saved_session(home / "elsewhere", "a")))
        assert sessions_of(tree) in roots(home)

    @pytest.mark.parametrize(
        "target",
        ["{dir}/b.json", "{dir}/missing/a.json", "a.json", "", "\n", "{dir}", "\0",
         "{dir}/a.json\0", "x" * 5000, "{dir}/a.json.tmp", "{dir}/../a.json"],
    )  # fmt: skip
    def test_an_entry_that_leads_to_no_session_does_not_count(
        self, home: Path, target: str
    ) -> None:
        root = saved_session(home / "elsewhere", "a").parent
        saved_session(home / "elsewhere", "b")
        entry = index_of(home) / "a.path"
        entry.write_text(target.format(dir=root))
        before = roots(home)
        assert not [found for found in before if "elsewhere" in str(found)]
        assert source.root_named_by(entry) is None

    @pytest.mark.parametrize("name", ["a.txt", "a.path.tmp", ".path", "a.b.path", "a b.path"])
    def test_an_entry_with_another_name_does_not_count(self, home: Path, name: str) -> None:
        entry = index_of(home) / name
        entry.write_text(str(saved_session(home / "elsewhere", "a")))
        assert sessions_of(home / "elsewhere") not in roots(home)
        assert source.root_named_by(entry) is None

    def test_a_pipe_in_the_index_blocks_nobody(self, home: Path) -> None:
        os.mkfifo(index_of(home) / "a.path")
        assert source.root_named_by(index_of(home) / "a.path") is None
        assert roots(home)

    def test_a_link_in_the_index_does_not_count(self, home: Path) -> None:
        (home / "pointer").write_text(str(saved_session(home / "elsewhere", "a")))
        (index_of(home) / "a.path").symlink_to(home / "pointer")
        assert sessions_of(home / "elsewhere") not in roots(home)

    def test_a_path_that_is_not_unicode_is_a_root_all_the_same(self, home: Path) -> None:
        path = saved_session(home / os.fsdecode(b"caf\xe9"), "a")
        (index_of(home) / "a.path").write_bytes(os.fsencode(path))
        assert path.parent in roots(home)

    def test_one_bad_entry_hides_no_other(self, home: Path) -> None:
        index = index_of(home)
        (index / "a.path").mkdir()
        (index / "b.path").symlink_to(home / "nowhere")
        (index / "c.path").write_text(str(saved_session(home / "elsewhere", "c")))
        assert sessions_of(home / "elsewhere") in roots(home)

    def test_only_entries_that_changed_since_are_read_again(self, home: Path) -> None:
        index, source_ = index_of(home), CodeTether([], {"HOME": str(home)})
        paths = [saved_session(home / name, "a") for name in ("one", "two")]
        (index / "a.path").write_text(str(paths[0]))
        os.utime(index / "a.path", ns=(1000, 1000))
        first = source_.places(NOTHING_KNOWN)
        (index / "a.path").write_text(str(paths[1]))
        os.utime(index / "a.path", ns=(999, 999))
        assert paths[1].parent not in source_.places(first).roots
        os.utime(index / "a.path", ns=(1001, 1001))
        assert paths[1].parent in source_.places(first).roots

    def test_a_root_that_was_known_stays_known(self, home: Path) -> None:
        assert Path("/once/sessions") in roots(home, known=Places((Path("/once/sessions"),)))

    @settings(max_examples=30)
    @given(st.lists(st.integers(0, 50), max_size=8))
    def test_the_watermark_never_falls(
        self, tmp_path_factory: pytest.TempPathFactory, times: list[int]
    ) -> None:
        home = tmp_path_factory.mktemp("home")
        index, source_ = index_of(home), CodeTether([], {"HOME": str(home)})
        seen = [NOTHING_KNOWN]
        for number, time in enumerate(times):
            (index / f"{number}.path").write_text("nothing")
            os.utime(index / f"{number}.path", ns=(time, time))
            seen.append(source_.places(seen[-1]))
        assert all(a.watermark <= b.watermark for a, b in pairwise(seen))
        assert seen[-1].watermark == max(times, default=0)
