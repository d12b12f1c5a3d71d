"""A file is read whole and unchanged, or not at all, and the reason is said."""

from __future__ import annotations

import json
import os
import resource
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests import documents
from tests.people import SOMEBODY, SOMEBODY_ELSE, as_somebody, needs_root, public_directory
from transcriptd.digest import digest
from transcriptd.errors import Changing, SourceError, Unreadable, Vanished
from transcriptd.files import stat_of
from transcriptd.model import Cursor, Session
from transcriptd.snapshot import Look, look, read
from transcriptd.sources.codetether import CodeTether

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_BYTES = 1 << 20
SOURCE = CodeTether([], {"HOME": "/nonexistent"})
MESSAGES = documents.conversation(3)
DOCUMENT = documents.compact(documents.document(MESSAGES))


def session_at(path: Path) -> Session:
    return Session("codetether", path.name.removesuffix(".json"), str(path.parent), path.name)


def look_at(path: Path, cursor: Cursor | None = None, *, max_bytes: int = MAX_BYTES) -> Look:
    return look(SOURCE, session_at(path), cursor, max_bytes=max_bytes)


def held(seen: Look) -> bytes:
    content = seen.snapshot.content
    return content.read(0, content.size)


def reason_of(path: Path, cursor: Cursor | None = None, *, max_bytes: int = MAX_BYTES) -> str:
    with pytest.raises(Unreadable) as caught:
        look_at(path, cursor, max_bytes=max_bytes)
    assert str(caught.value)
    return caught.value.reason


def cursor_after(content: bytes) -> Cursor:
    return Cursor(
        key="k",
        generation=0,
        records=content.count(b"\n"),
        length=len(content),
        digest=digest(content),
        etag="e",
        writer="m.0",
    )


def in_the_past(path: Path) -> Path:
    """Let a file be as old as one that has been quiet; reading a newer one waits for a tick."""
    os.utime(path, (1, 1))
    return path


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return in_the_past(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / f"{documents.SESSION_ID}.json"


@pytest.fixture(scope="module")
def shared_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One path for all examples of a property."""
    return tmp_path_factory.mktemp("sessions") / f"{documents.SESSION_ID}.json"


@contextmanager
def limited(what: int, soft: int) -> Iterator[None]:
    before, hard = resource.getrlimit(what)
    resource.setrlimit(what, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (before, hard))


@contextmanager
def running(loop: Callable[[], None]) -> Iterator[threading.Event]:
    """Run something again and again beside the test; set the event to see one more round."""
    ended, turned = threading.Event(), threading.Event()

    def run() -> None:
        while not ended.is_set():
            loop()
            turned.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert turned.wait(10)
        yield turned
    finally:
        ended.set()
        thread.join()


class TestLook:
    def test_a_snapshot_holds_the_whole_stream_and_its_digest(self, path: Path) -> None:
        seen = look_at(write(path, DOCUMENT))
        expected = documents.history(MESSAGES)
        assert held(seen) == expected
        assert (seen.snapshot.records, seen.digest) == (3, digest(expected))
        assert seen.extends

    def test_a_snapshot_says_which_state_of_the_file_it_is(self, path: Path) -> None:
        assert look_at(write(path, DOCUMENT)).snapshot.stat == stat_of(path.stat())

    def test_the_rest_of_the_document_is_there_where_it_was_asked_for(self, path: Path) -> None:
        session = session_at(write(path, DOCUMENT))
        with_rest = look(SOURCE, session, None, max_bytes=MAX_BYTES, with_document=True)
        assert with_rest.snapshot.document == SOURCE.document(session, DOCUMENT)
        assert look_at(path).snapshot.document is None

    @settings(deadline=None)
    @given(documents.rewrites(), st.booleans(), st.booleans())
    def test_what_is_remembered_changes_nothing_but_says_whether_it_still_stands(
        self,
        shared_path: Path,
        story: tuple[list[documents.Message], list[documents.Message]],
        pretty: bool,  # noqa: FBT001 - hypothesis passes by position
        forgotten: bool,  # noqa: FBT001 - hypothesis passes by position
    ) -> None:
        before, after = map(documents.history, story)
        encode = documents.pretty if pretty else documents.compact
        write(shared_path, encode(documents.document(story[1])))
        seen = look_at(shared_path, None if forgotten else cursor_after(before))
        assert held(seen) == after
        assert (seen.snapshot.records, seen.digest) == (len(story[1]), digest(after))
        assert seen.extends is (forgotten or after.startswith(before))

    def test_a_document_that_was_compact_and_is_pretty_now_still_extends(self, path: Path) -> None:
        more = documents.conversation(5)
        write(path, documents.pretty(documents.document(more)))
        seen = look_at(path, cursor_after(documents.history(MESSAGES)))
        assert (seen.extends, held(seen)) == (True, documents.history(more))

    def test_a_text_replaced_by_one_of_equal_length_does_not_extend(self, path: Path) -> None:
        changed = DOCUMENT.replace(b"the parser", b"the linker")
        assert len(changed) == len(DOCUMENT)
        seen = look_at(write(path, changed), cursor_after(documents.history(MESSAGES)))
        assert not seen.extends


class TestBrokenDocuments:
    @pytest.mark.parametrize("remembered", [None, cursor_after(documents.history(MESSAGES[:2]))])
    def test_a_document_that_is_cut_anywhere_is_unreadable(
        self, path: Path, remembered: Cursor | None
    ) -> None:
        for length in range(len(DOCUMENT)):
            assert reason_of(write(path, DOCUMENT[:length]), remembered)

    @pytest.mark.parametrize("remembered", [None, cursor_after(documents.history(MESSAGES[:2]))])
    def test_a_document_whose_end_is_nul_bytes_is_unreadable(
        self, path: Path, remembered: Cursor | None
    ) -> None:
        for length in range(len(DOCUMENT)):
            padded = DOCUMENT[:length].ljust(len(DOCUMENT), b"\0")
            assert reason_of(write(path, padded), remembered)

    @settings(max_examples=300, deadline=None)
    @given(
        st.integers(0, len(DOCUMENT) - 1),
        st.integers(1, 255),
        st.sampled_from([None, cursor_after(documents.history(MESSAGES[:2]))]),
    )
    @example(len(DOCUMENT) - 1, 255, None)
    def test_a_document_with_a_flipped_byte_is_read_as_json_reads_it_or_unreadable(
        self, shared_path: Path, place: int, flip: int, remembered: Cursor | None
    ) -> None:
        data = bytearray(DOCUMENT)
        data[place] ^= flip
        write(shared_path, bytes(data))
        with suppress(Unreadable):
            seen = look_at(shared_path, remembered)
            lines = held(seen).decode().split("\n")[:-1]
            expected = json.loads(data.decode(errors="replace"))["messages"]
            assert [json.loads(line) for line in lines] == expected

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=64), st.integers(0, len(DOCUMENT)), st.integers(0, 64))
    def test_whatever_stands_in_a_file_nothing_but_a_source_error_is_raised(
        self, shared_path: Path, noise: bytes, place: int, removed: int
    ) -> None:
        write(shared_path, DOCUMENT[:place] + noise + DOCUMENT[place + removed :])
        with suppress(SourceError):
            look_at(shared_path)

    @pytest.mark.parametrize("number", range(3))
    def test_a_message_that_is_not_utf8_is_unreadable_whether_it_was_archived_or_not(
        self, path: Path, number: int
    ) -> None:
        spoilt = [documents.compact(message) for message in MESSAGES]
        spoilt[number] = spoilt[number].replace(b':"', b':"\xff')
        write(
            path, DOCUMENT.replace(b",".join(map(documents.compact, MESSAGES)), b",".join(spoilt))
        )
        remembered = cursor_after(documents.history(MESSAGES[:2]))
        assert [reason_of(path), reason_of(path, remembered)] == ["invalid_utf8"] * 2

    @pytest.mark.parametrize("number", range(3))
    def test_a_message_that_is_no_object_is_unreadable_whether_it_was_archived_or_not(
        self, path: Path, number: int
    ) -> None:
        spoilt: list[object] = [*MESSAGES]
        spoilt[number] = "text"
        write(path, documents.compact({"id": documents.SESSION_ID, "messages": spoilt}))
        remembered = cursor_after(documents.history(MESSAGES[:2]))
        assert [reason_of(path), reason_of(path, remembered)] == ["wrong_type"] * 2

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "empty"),
            (b"\0" * 512, "blank"),
            (documents.compact(documents.document(MESSAGES, "another")), "wrong_id"),
            (b'{"a":' * 10_000, "too_deep"),
            (DOCUMENT.replace(b'"title":"parser"', b'"title":NaN'), "invalid_json"),
            (DOCUMENT.replace(b'"title":"parser"', b'"title":"\\ud800"'), "invalid_json"),
        ],
    )
    def test_a_document_that_is_none_has_its_reason(
        self, path: Path, data: bytes, reason: str
    ) -> None:
        assert reason_of(write(path, data)) == reason


class TestFilesThatAreNone:
    def test_a_symbolic_link_is_refused_also_where_it_leads_to_a_session(self, path: Path) -> None:
        target = write(path.with_name("target"), DOCUMENT)
        path.symlink_to(target)
        assert reason_of(path) == "not_a_file"

    def test_a_link_that_leads_nowhere_is_refused(self, path: Path) -> None:
        path.symlink_to("nowhere")
        assert reason_of(path) == "not_a_file"

    def test_a_pipe_is_refused_without_waiting_for_its_writer(self, path: Path) -> None:
        os.mkfifo(path)
        assert reason_of(path) == "not_a_file"

    def test_a_directory_is_refused(self, path: Path) -> None:
        path.mkdir()
        assert reason_of(path) == "not_a_file"

    def test_a_socket_is_refused(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(path.parent)  # a socket's path must be short
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
            assert reason_of(path) == "not_a_file"

    def test_a_file_that_is_not_there_has_vanished(self, path: Path) -> None:
        with pytest.raises(Vanished):
            look_at(path)

    def test_a_file_whose_directory_is_not_there_has_vanished(self, path: Path) -> None:
        with pytest.raises(Vanished):
            look_at(path.parent / "gone" / path.name)

    def test_a_file_whose_directory_became_a_file_has_vanished(self, path: Path) -> None:
        with pytest.raises(Vanished):
            look_at(write(path, DOCUMENT) / path.name)

    def test_a_file_we_may_not_read_is_refused(self) -> None:
        with public_directory() as directory:
            write(directory / "s.json", DOCUMENT).chmod(0)
            with as_somebody():
                assert reason_of(directory / "s.json") == "denied"

    def test_a_second_name_of_a_file_of_ours_is_read(self, path: Path) -> None:
        path.hardlink_to(write(path.with_name("first"), DOCUMENT))
        assert held(look_at(path)) == documents.history(MESSAGES)

    @needs_root
    def test_a_file_of_somebody_else_is_refused(self, path: Path) -> None:
        os.chown(write(path, DOCUMENT), SOMEBODY, -1)
        assert reason_of(path) == "foreign_owner"

    @needs_root
    def test_a_second_name_of_somebody_elses_file_is_refused(self, path: Path) -> None:
        target = write(path.with_name("first"), DOCUMENT)
        os.chown(target, SOMEBODY, -1)
        path.hardlink_to(target)
        assert reason_of(path) == "foreign_owner"

    @needs_root
    def test_a_file_of_the_owner_of_its_directory_is_read(self, path: Path) -> None:
        os.chown(write(path, DOCUMENT), SOMEBODY, -1)
        os.chown(path.parent, SOMEBODY, -1)
        assert look_at(path).snapshot.records == 3

    @needs_root
    def test_a_third_persons_file_is_refused_in_somebodys_directory(self, path: Path) -> None:
        os.chown(write(path, DOCUMENT), SOMEBODY_ELSE, -1)
        os.chown(path.parent, SOMEBODY, -1)
        assert reason_of(path) == "foreign_owner"

    def test_a_file_that_is_too_large_is_refused_unread(self, path: Path) -> None:
        write(path, b"")
        os.truncate(path, 1 << 40)
        assert reason_of(path) == "too_large"

    def test_a_file_of_just_the_allowed_size_is_read(self, path: Path) -> None:
        write(path, DOCUMENT)
        assert look_at(path, max_bytes=len(DOCUMENT)).snapshot.records == 3
        assert reason_of(path, max_bytes=len(DOCUMENT) - 1) == "too_large"

    def test_no_descriptor_is_left_open(self, path: Path) -> None:
        before = _descriptors()
        for data in (DOCUMENT, b"", b"x" * (MAX_BYTES + 1)):
            write(path, data)
            with suppress(Unreadable):
                look_at(path)
        assert _descriptors() == before

    def test_a_lack_of_descriptors_says_nothing_about_the_file(self, path: Path) -> None:
        write(path, DOCUMENT)
        with limited(resource.RLIMIT_NOFILE, 3), pytest.raises(Changing):
            look_at(path)
        assert look_at(path).snapshot.records == 3

    def test_numbers_of_a_file_fit_the_journal_on_every_file_system(self, path: Path) -> None:
        seen = write(path, DOCUMENT).stat()
        huge = os.stat_result((seen.st_mode, (1 << 64) - 1, (1 << 64) - 1, *seen[3:]))
        assert max(stat_of(huge).inode, stat_of(huge).device) < 1 << 63


class TestFilesThatChange:
    def test_a_file_that_is_renamed_over_in_a_loop_is_always_whole(self, path: Path) -> None:
        versions = [documents.conversation(n) for n in (1, 40, 400)]
        expected = {documents.history(version) for version in versions}
        saves = iter(range(10**9))

        def save() -> None:
            version = versions[next(saves) % 3]
            documents.save(path.parent, documents.document(version))

        seen: set[bytes] = set()
        with running(save):
            while len(seen) < 3:
                with suppress(Changing):
                    seen.add(held(look_at(path)))
        assert seen == expected

    def test_a_file_that_is_rewritten_in_place_in_a_loop_is_whole_or_changing(
        self, path: Path
    ) -> None:
        whole = [letter * (1 << 18) for letter in (b"a", b"b")]
        write(path, whole[0])
        descriptor = os.open(path, os.O_WRONLY)
        writes = iter(range(10**9))
        with running(lambda: _write_over(descriptor, whole[next(writes) % 2])):
            for _ in range(5):
                with suppress(Changing):
                    assert read(session_at(path), MAX_BYTES)[0] in whole
        os.close(descriptor)
        assert read(session_at(path), MAX_BYTES)[0] in whole

    def test_a_file_that_changes_between_two_pieces_is_read_again(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, after = (letter * 1000 for letter in (b"a", b"b"))
        write(path, before)
        pread, pieces = os.pread, []

        def read_a_piece(descriptor: int, size: int, offset: int) -> bytes:
            pieces.append(pread(descriptor, min(size, 500), offset))
            if len(pieces) == 1:
                path.write_bytes(after)
            return pieces[-1]

        monkeypatch.setattr(os, "pread", read_a_piece)
        assert read(session_at(path), MAX_BYTES)[0] == after
        assert pieces[:2] == [b"a" * 500, b"b" * 500]

    @pytest.mark.parametrize("size", [0, 400, 600, 1500])
    def test_a_file_that_gets_another_size_between_two_pieces_is_read_again(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, size: int
    ) -> None:
        write(path, b"a" * 1000)
        pread, pieces = os.pread, []

        def read_a_piece(descriptor: int, size_: int, offset: int) -> bytes:
            pieces.append(pread(descriptor, min(size_, 500), offset))
            if len(pieces) == 1:
                os.truncate(path, size)
            return pieces[-1]

        monkeypatch.setattr(os, "pread", read_a_piece)
        assert read(session_at(path), MAX_BYTES)[0] == (b"a" * 1000).ljust(size, b"\0")[:size]

    def test_a_file_that_never_stands_still_is_changing(self, path: Path) -> None:
        write(path, DOCUMENT)
        with path.open("ab") as growing, running(lambda: _grow(growing.fileno())):
            assert any(_is_changing(path) for _ in range(100))

    def test_a_file_that_was_written_a_moment_ago_is_read_as_it_is(self, path: Path) -> None:
        path.write_bytes(DOCUMENT)
        assert held(look_at(path)) == documents.history(MESSAGES)

    def test_a_file_from_the_future_is_read(self, path: Path) -> None:
        path.write_bytes(DOCUMENT)
        os.utime(path, (1 << 33, 1 << 33))
        assert look_at(path).snapshot.records == 3


def _write_over(descriptor: int, data: bytes) -> None:
    os.pwrite(descriptor, data, 0)


def _is_changing(path: Path) -> bool:
    try:
        read(session_at(path), 1 << 40)
    except Changing:
        return True
    return False


def _descriptors() -> int:
    with os.scandir("/dev/fd") as entries:
        return len(list(entries))


def _grow(descriptor: int) -> None:
    os.write(descriptor, b" ")
