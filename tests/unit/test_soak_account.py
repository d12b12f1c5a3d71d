"""What was saved, what was said to be archived, and what is missing of it."""

from __future__ import annotations

from tests.soak.account import Account, lines_of

KEY = "history/m1/raw/claude/p/one.jsonl"
A, B, C, D = b"a\n", b"bb\n", b"ccc\n", b"dddd\n"


def account(*states: list[bytes]) -> Account:
    """Return the account of a file that was in these states."""
    made = Account("one", "/one.jsonl")
    for lines in states:
        made.becomes(lines)
    return made


def faults(of: Account, *generations: bytes, key: str = KEY) -> list[str]:
    return list(of.faults({key: dict(enumerate(generations)), "history/m1/raw/other.jsonl": {}}))


def test_what_was_saved_and_is_archived_is_no_fault() -> None:
    one = account([A], [A, B], [A, B, C])
    one.archived(0, 5)
    assert faults(one, A + B + C) == []


def test_what_was_undone_stands_in_the_generation_before() -> None:
    one = account([A, B], [A, C])
    one.archived(0, 5)
    one.archived(1, 6)
    assert faults(one, A + B, A + C) == []
    assert faults(one, A, A + C) == [
        "one: 5 bytes of generation 0 were archived, of which the first 2 are there"
    ]


def test_what_was_promised_and_is_another_now_is_a_fault() -> None:
    one = account([A, B], [A, C, D])
    one.archived(0, 5)
    assert faults(one, A + C + D) == [
        "one: 5 bytes of generation 0 were archived, of which the first 2 are there"
    ]


def test_bytes_that_no_file_ever_said_are_a_fault() -> None:
    one = account([A, B])
    assert faults(one, A + C, A + B) == [
        "one: no file ever said the 6 bytes of generation 0, the first 2 at most"
    ]


def test_what_was_saved_last_and_is_not_archived_is_a_fault() -> None:
    one = account([A], [A, B])
    assert faults(one, A) == [
        "one: its file said 5 bytes at last, of which the first 2 are archived, in [2]"
    ]
    assert faults(one) == [
        "one: its file said 5 bytes at last, of which the first 0 are archived, in []"
    ]


def test_what_was_saved_last_counts_in_the_current_generation_alone() -> None:
    one = account([A, B], [A, C], [A, B])
    assert faults(one, A + B, A + C, A + B) == []
    assert len(faults(one, A + B, A + C)) == 1


def test_a_session_that_was_deleted_first_need_not_be_archived_and_one_deleted_later_must() -> None:
    one = account([A], [A, B])
    one.is_gone = True
    assert faults(one, A) == []
    one.archived(0, 5)
    assert len(faults(one, A)) == 2


def test_a_file_that_was_moved_has_all_under_one_of_its_names() -> None:
    one = account([A, B])
    one.archived(0, 5)
    there, here = {0: A}, {0: A + B}
    assert list(one.faults({KEY: there, f"history/m1/raw/codex{KEY}": here})) == []


def test_a_length_that_two_contents_have_promises_neither() -> None:
    one = account([A, B], [A, b"xx\n"])
    one.archived(1, 5)
    assert (one.promises, one.unclear) == ({}, 1)


def test_what_two_contents_have_in_common_is_promised_of_the_later_one() -> None:
    one = account([A, B], [A, C])
    one.archived(1, 2)
    assert not one.is_archived
    one.archived(1, 6)
    assert one.is_archived


def test_a_part_of_a_line_promises_nothing() -> None:
    one = account([A, B])
    one.archived(0, 4)
    assert one.promises == {}


def test_a_line_ends_in_a_line_feed_and_in_nothing_else() -> None:
    assert lines_of(b"a\r\x0b\xe2\x80\xa8\nb\n\nhalf") == [b"a\r\x0b\xe2\x80\xa8\n", b"b\n", b"\n"]
