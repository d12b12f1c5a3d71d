"""Opening an agent's file: nothing outside its root is ever read, and every trouble has a name."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.people import SOMEBODY, SOMEBODY_ELSE, as_somebody, needs_root, public_directory
from transcriptd.errors import Changing, SourceError, Unreadable, Vanished
from transcriptd.files import open_content, open_file, stat_at, stat_of
from transcriptd.model import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = b"of somebody else's\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "c.jsonl").write_bytes(b"line\n")
    return root


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    outside = tmp_path / "outside" / "b"
    outside.mkdir(parents=True)
    (outside / "c.jsonl").write_bytes(SECRET)
    return outside.parent


def session(root: Path, name: str) -> Session:
    return Session("agent", "a", str(root), name)


def contents(root: Path, name: str = "a/b/c.jsonl") -> bytes:
    content = open_content(session(root, name))
    return content.read(0, content.size)


def reason_of(root: Path, name: str = "a/b/c.jsonl") -> str:
    with pytest.raises(Unreadable) as caught:
        contents(root, name)
    return caught.value.reason


def descriptors() -> int:
    return len([*Path("/dev/fd").iterdir()])


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


class TestLinks:
    def test_a_link_in_place_of_a_file_is_refused(self, root: Path, outside: Path) -> None:
        (root / "c.jsonl").symlink_to(outside / "b" / "c.jsonl")
        assert reason_of(root, "c.jsonl") == "not_a_file"

    @pytest.mark.parametrize("link", ["a", "a/b"])
    def test_a_link_in_place_of_a_directory_is_not_followed(
        self, root: Path, outside: Path, link: str
    ) -> None:
        target = outside if link == "a" else outside / "b"
        (root / link).rename(root / "before")
        (root / link).symlink_to(target)
        assert (root / "a/b/c.jsonl").read_bytes() == SECRET
        with pytest.raises(Vanished):
            contents(root)

    def test_a_link_that_replaces_a_directory_while_a_file_is_read_is_not_followed(
        self, root: Path, outside: Path
    ) -> None:
        content = open_content(session(root, "a/b/c.jsonl"))
        (root / "a").rename(root / "before")
        (root / "a").symlink_to(outside)
        with pytest.raises(SourceError):
            content.read(0, content.size)

    def test_a_root_may_be_a_link(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(root)
        assert contents(tmp_path / "link") == b"line\n"

    def test_a_link_that_leads_nowhere_is_refused(self, root: Path) -> None:
        (root / "c.jsonl").symlink_to("nowhere")
        assert reason_of(root, "c.jsonl") == "not_a_file"


class TestWhatIsNoFile:
    def test_a_pipe_is_refused_and_not_waited_for(self, root: Path) -> None:
        os.mkfifo(root / "a" / "pipe.jsonl")
        assert reason_of(root, "a/pipe.jsonl") == "not_a_file"

    def test_a_directory_is_refused(self, root: Path) -> None:
        assert reason_of(root, "a/b") == "not_a_file"

    def test_a_socket_is_refused(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(root)  # a socket's path must be short
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("s.jsonl")
            assert reason_of(root, "s.jsonl") == "not_a_file"

    @needs_root
    def test_a_device_is_refused(self, root: Path) -> None:
        try:
            os.mknod(root / "null.jsonl", 0o20600, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("needs mknod, which is not permitted here")
        assert reason_of(root, "null.jsonl") == "not_a_file"

    @pytest.mark.parametrize("name", ["gone.jsonl", "gone/c.jsonl", "a/b/c.jsonl/d.jsonl"])
    def test_what_is_not_there_has_vanished(self, root: Path, name: str) -> None:
        with pytest.raises(Vanished):
            contents(root, name)

    def test_a_file_whose_root_is_not_there_has_vanished(self, tmp_path: Path) -> None:
        for name in ("c.jsonl", "a/c.jsonl"):
            with pytest.raises(Vanished):
                contents(tmp_path / "gone", name)

    @pytest.mark.parametrize("name", ["n\nl.jsonl", "\u202eright.jsonl", "é" * 100, "a\\b", "-"])
    def test_any_name_that_is_text_can_be_read(self, root: Path, name: str) -> None:
        (root / "a" / name).write_bytes(b"x")
        assert contents(root, f"a/{name}") == b"x"


class TestOwners:
    @needs_root
    def test_a_file_of_somebody_else_is_refused(self, root: Path) -> None:
        os.chown(root / "a/b/c.jsonl", SOMEBODY, -1)
        assert reason_of(root) == "foreign_owner"

    @needs_root
    def test_a_file_of_the_owner_of_the_root_is_read(self, root: Path) -> None:
        os.chown(root / "a/b/c.jsonl", SOMEBODY, -1)
        os.chown(root, SOMEBODY, -1)
        assert contents(root) == b"line\n"
        os.chown(root / "a/b/c.jsonl", SOMEBODY_ELSE, -1)
        assert reason_of(root) == "foreign_owner"

    @pytest.mark.parametrize("what", ["a/b/c.jsonl", "a/b", "a"])
    def test_what_may_not_be_read_or_entered_is_denied(self, what: str) -> None:
        with public_directory() as root:
            (root / "a" / "b").mkdir(parents=True)
            (root / "a/b/c.jsonl").write_bytes(b"line\n")
            with as_somebody():
                assert contents(root) == b"line\n"
            (root / what).chmod(0)
            with as_somebody():
                assert reason_of(root) == "denied"


class TestReading:
    def test_a_content_is_as_long_as_the_file_was(self, root: Path) -> None:
        content = open_content(session(root, "a/b/c.jsonl"))
        with (root / "a/b/c.jsonl").open("ab") as file:
            file.write(b"more\n")
        assert (content.size, content.read(0, content.size)) == (5, b"line\n")
        assert (content.read(1, 3), content.read(5, 5)) == (b"in", b"")

    def test_a_shorter_file_is_changing(self, root: Path) -> None:
        content = open_content(session(root, "a/b/c.jsonl"))
        os.truncate(root / "a/b/c.jsonl", 4)
        with pytest.raises(Changing):
            content.read(0, 5)

    def test_another_file_in_its_place_is_changing(self, root: Path) -> None:
        content = open_content(session(root, "a/b/c.jsonl"))
        (root / "new").write_bytes(b"line\n")
        (root / "new").rename(root / "a/b/c.jsonl")
        with pytest.raises(Changing):
            content.read(0, 5)

    def test_a_lack_of_descriptors_says_nothing_about_the_file(self, root: Path) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(Changing):
                open_file(session(root, "a/b/c.jsonl"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_no_descriptor_is_left_open_whatever_comes(self, root: Path, outside: Path) -> None:
        (root / "link").symlink_to(outside)
        os.mkfifo(root / "a" / "pipe")
        names = ["a/b/c.jsonl", "a/b", "a/gone/c", "a/b/c.jsonl/d", "link/b/c.jsonl", "a/pipe", "x"]
        with no_descriptor_left():
            for name in names:
                with suppress(SourceError):
                    contents(root, name)
        with no_descriptor_left():
            content = open_content(session(root, "a/b/c.jsonl"))
            os.truncate(root / "a/b/c.jsonl", 1)
            with suppress(Changing):
                content.read(0, 5)

    @needs_root
    def test_no_descriptor_is_left_open_by_what_is_refused(self, root: Path) -> None:
        os.chown(root / "a/b/c.jsonl", SOMEBODY, -1)
        with no_descriptor_left():
            assert reason_of(root) == "foreign_owner"

    def test_as_many_contents_as_there_are_hold_no_descriptor(self, root: Path) -> None:
        with no_descriptor_left():
            held = [open_content(session(root, "a/b/c.jsonl")) for _ in range(100)]
            assert {each.read(0, 5) for each in held} == {b"line\n"}


class TestStats:
    def test_what_stands_at_a_path_is_told_of_the_link_itself(self, root: Path) -> None:
        (root / "link").symlink_to("a")
        assert stat_at(root / "link") == stat_of(os.lstat(root / "link"))

    @pytest.mark.parametrize("name", ["gone", "gone/x", "a/b/c.jsonl/x"])
    def test_nothing_stands_where_nothing_is(self, root: Path, name: str) -> None:
        assert stat_at(root / name) is None
