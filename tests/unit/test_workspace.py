"""Which workspace a session belongs to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.documents import compact, document, old, pretty
from transcriptd.workspace import is_within, named_in, named_in_file, owner_of


def test_a_document_names_the_directory_whatever_its_order_and_spaces() -> None:
    today = document([], metadata={"directory": "/srv/app", "model": None})
    for data in (compact(today), pretty(old(today)), compact({"metadata": today["metadata"]})):
        assert named_in(data) == "/srv/app"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"{}",
        b'{"metadata":null}',
        b'{"metadata":[]}',
        b'{"metadata":{"directory":7}}',
        b'{"metadata":{"directory":""}}',
        b'{"metadata":{"directory":"."}}',
    ],
)
def test_what_names_no_directory_is_no_error(data: bytes) -> None:
    assert named_in(data) is None


def test_a_sessions_directory_inside_of_a_workspace_belongs_to_it() -> None:
    assert owner_of("/srv/app/.codetether-agent/sessions") == "/srv/app"
    assert owner_of("/home/u/.local/share/codetether-agent/sessions") is None


def test_a_file_that_is_gone_too_large_or_no_file_names_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    assert named_in_file(path, 999) is None
    path.write_bytes(b'{"metadata":{"directory":"/srv/app"}}')
    assert named_in_file(path, 999) == "/srv/app"
    assert named_in_file(path, 10) is None
    os.mkfifo(tmp_path / "fifo")
    assert named_in_file(tmp_path / "fifo", 999) is None


def test_a_directory_is_within_itself_and_those_above_it_alone() -> None:
    assert is_within("/srv/app", Path("/srv/app"))
    assert is_within("/srv/app/sub/", Path("/srv/app"))
    assert not is_within("/srv/app", Path("/srv/app/sub"))
    assert not is_within("/srv/app-2", Path("/srv/app"))


def test_a_workspace_may_be_named_relatively_and_through_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    for named in (tmp_path / "real", tmp_path / "link"):
        for workspace in (Path(), tmp_path / "real", tmp_path / "link"):
            assert is_within(str(named), workspace)
