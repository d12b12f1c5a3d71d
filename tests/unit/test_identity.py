"""The writer's id is made once and outlives the journal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from transcriptd.identity import writer

if TYPE_CHECKING:
    from pathlib import Path


def test_the_writer_is_the_machine_and_a_random_id(tmp_path: Path) -> None:
    assert re.fullmatch(r"laptop\.[0-9a-f]{12}", writer(tmp_path, "laptop"))


def test_the_id_is_made_once(tmp_path: Path) -> None:
    assert writer(tmp_path, "laptop") == writer(tmp_path, "laptop")


def test_the_id_stays_when_the_machine_is_named_anew(tmp_path: Path) -> None:
    before, after = writer(tmp_path, "laptop"), writer(tmp_path, "desk.example")
    assert before.removeprefix("laptop.") == after.removeprefix("desk.example.")


def test_two_state_directories_are_two_writers(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert writer(tmp_path / "a", "laptop") != writer(tmp_path / "b", "laptop")


@pytest.mark.parametrize(
    "damage", [b"", b"\0" * 13, b"\xff\xfe", b"not an id\n", b"0123456789a\n", b"0123456789ab0\n"]
)
def test_a_damaged_id_is_made_anew_and_kept(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "writer").write_bytes(damage)
    made = writer(tmp_path, "laptop")
    assert re.fullmatch(r"laptop\.[0-9a-f]{12}", made)
    assert writer(tmp_path, "laptop") == made


def test_what_a_crash_left_half_written_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "writer.new").write_bytes(b"0123")
    assert writer(tmp_path, "laptop") == writer(tmp_path, "laptop")
    assert [path.name for path in tmp_path.iterdir()] == ["writer"]


def test_nobody_else_may_read_the_id(tmp_path: Path) -> None:
    writer(tmp_path, "laptop")
    assert (tmp_path / "writer").stat().st_mode & 0o777 == 0o600


def test_an_id_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        writer(tmp_path / "missing", "laptop")
