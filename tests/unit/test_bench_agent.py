"""Sessions that benchmarks save: what they say of themselves is what stands in their files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.bench.agent import Document, history
from tests.bench.marker import Marker, markers_in

if TYPE_CHECKING:
    from pathlib import Path


def grown(directory: Path, pieces: int = 4) -> Document:
    document = Document(directory, "s")
    document.grow(pieces * 300, pieces)
    return document


def numbers(data: bytes) -> list[int]:
    """Return those of the messages, in their order, each of which must have one marker."""
    found = [markers_in(json.dumps(m).encode()) for m in json.loads(data)["messages"]]
    return [number for ((_, number),) in found]


def test_each_message_has_a_marker_of_its_own(tmp_path: Path) -> None:
    document = grown(tmp_path)
    document.save()
    assert numbers(document.path.read_bytes()) == [1, 2, 3, 4]


def test_messages_are_about_as_long_as_was_asked_for(tmp_path: Path) -> None:
    document = Document(tmp_path, "s")
    document.grow(1_000_000, 400)
    assert abs(document.save().history_length - 1_000_000) < 1000


def test_a_save_says_what_it_saved(tmp_path: Path) -> None:
    document = grown(tmp_path)
    save = document.save()
    data = document.path.read_bytes()
    assert (save.number, save.length) == (4, len(data))
    assert save.history_length == len(history(data))


def test_lines_are_those_of_the_messages(tmp_path: Path) -> None:
    document = grown(tmp_path)
    document.save()
    data = document.path.read_bytes()
    assert list(map(json.loads, history(data).splitlines())) == json.loads(data)["messages"]


def test_no_number_is_used_twice_after_an_undo(tmp_path: Path) -> None:
    document = grown(tmp_path)
    document.save()
    document.undo(2)
    document.grow(300)
    assert document.save().number == 5
    assert numbers(document.path.read_bytes()) == [1, 2, 5]


def test_a_save_after_an_undo_has_nothing_that_tells_of_it(tmp_path: Path) -> None:
    document = grown(tmp_path)
    document.save()
    document.undo(1)
    assert document.save().number == 0


def test_a_summary_replaces_the_older_half(tmp_path: Path) -> None:
    document = grown(tmp_path)
    document.save()
    document.compact()
    document.save()
    assert numbers(document.path.read_bytes()) == [5, 3, 4]


def test_what_was_in_some_save_is_remembered_after_it_is_gone(tmp_path: Path) -> None:
    document = grown(tmp_path)
    length = document.save().history_length
    document.undo(4)
    document.grow(300)
    document.undo(1)  # never saved
    document.grow(300)
    length += document.save().history_length
    assert document.saved == {1, 2, 3, 4, 6}
    assert document.new_bytes == length


def test_what_is_saved_again_is_not_new(tmp_path: Path) -> None:
    document = grown(tmp_path)
    document.save()
    document.grow(300)
    assert document.new_bytes < document.save().history_length == document.new_bytes


def test_a_deleted_session_may_be_saved_again(tmp_path: Path) -> None:
    document = grown(tmp_path)
    document.save()
    document.delete()
    assert not document.path.exists()
    document.grow(300)
    document.save()
    assert Marker("s", 5) in markers_in(document.path.read_bytes())
