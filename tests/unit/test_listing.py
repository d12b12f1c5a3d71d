"""What a listing of the archive shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transcriptd.layout import (
    claim_key,
    conflict_key,
    document_key,
    generation_key,
    history_key,
    mirror_key,
    probe_prefix,
    segment_key,
)
from transcriptd.listing import Archived, streams_in
from transcriptd.stores import Entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

PREFIX = "history/"
ONE, TWO, DASH = (history_key(PREFIX, name) for name in ("one", "two", "-dash"))


def entry(key: str, size: int = 10, modified: float = 1.0) -> Entry:
    return Entry(key, size, "etag", modified)


def segment(base: str, generation: int, start: int, size: int, modified: float = 1.0) -> Entry:
    return entry(segment_key(PREFIX, base, generation, start), size, modified)


async def shown(entries: Iterable[Entry]) -> list[Archived]:
    async def listing() -> AsyncIterator[Entry]:
        for each in sorted(entries, key=lambda each: each.key.encode()):
            yield each

    return [archived async for archived in streams_in(listing(), PREFIX)]


async def test_a_base_is_a_session_and_nothing_else_is() -> None:
    (only,) = await shown(
        [
            entry(ONE, 120, 7.0),
            entry(document_key(PREFIX, "one")),
            entry(f"{PREFIX}one/notes.txt"),
            entry(f"{PREFIX}history.jsonl"),
            entry(f"{PREFIX}a/b/history.jsonl"),
            entry(f"{probe_prefix(PREFIX)}x/y"),
            entry(claim_key(PREFIX, ONE, "m.0")),
            entry(claim_key(PREFIX, TWO, "m.0")),
        ]
    )
    assert (only.key, only.name, only.source) == (ONE, "one", "codetether")
    assert (only.size, only.length, only.tail, only.closed) == (120, 120, 0, ())
    assert (only.generation, only.modified, only.conflicts) == (0, 7.0, ())


async def test_the_tail_counts_as_far_as_it_continues_the_base() -> None:
    (only,) = await shown(
        [
            entry(ONE, 100, 5.0),
            segment(ONE, 0, 60, 40, 4.0),
            segment(ONE, 0, 100, 50, 6.0),
            segment(ONE, 0, 150, 25, 8.0),
            segment(ONE, 0, 200, 10),
            segment(ONE, 0, 175, 0, 9.0),
        ]
    )
    assert (only.tail, only.length, only.modified) == (75, 175, 8.0)


async def test_the_generation_is_the_one_behind_the_finished_ones_or_that_of_the_tail() -> None:
    closed = [entry(generation_key(PREFIX, ONE, number), 30) for number in (2, 0)]
    (only,) = await shown([entry(ONE, 100), *closed, segment(ONE, 2, 100, 50)])
    assert (only.closed, only.closed_bytes, only.generation, only.tail) == ((0, 2), 60, 3, 0)
    (only,) = await shown([entry(ONE, 100), *closed, segment(ONE, 7, 100, 50)])
    assert (only.generation, only.tail) == (7, 50)


async def test_a_conflict_stands_with_its_session_and_has_a_tail_and_generations() -> None:
    theirs = conflict_key(PREFIX, ONE, "m2.abc")
    foreign = f"{PREFIX}.conflicts/one/history.jsonl/foreign-0a.jsonl"
    (only,) = await shown(
        [
            entry(ONE, 100),
            entry(theirs, 40),
            segment(theirs, 1, 40, 5),
            entry(generation_key(PREFIX, theirs, 0), 20),
            entry(foreign, 3),
        ]
    )
    assert only.length == 100
    names = [(each.name, each.length, each.generation) for each in only.conflicts]
    assert names == [("foreign-0a", 3, 0), ("m2.abc", 45, 1)]


async def test_sessions_come_in_the_order_of_their_keys_also_those_before_the_dot() -> None:
    closed = [entry(generation_key(PREFIX, key, 0)) for key in (ONE, DASH)]
    found = await shown([entry(ONE), entry(TWO), entry(DASH), *closed])
    assert [each.name for each in found] == ["-dash", "one", "two"]
    assert [each.closed for each in found] == [(0,), (0,), ()]
    (alone,) = await shown([entry(DASH), closed[1]])
    assert alone.closed == (0,)


async def test_a_mirrored_file_is_named_by_its_key_and_its_agent() -> None:
    key = mirror_key(PREFIX, "m1", "claude", "-srv-app/ü.jsonl".encode())
    (only,) = await shown([entry(key, 9), segment(key, 0, 9, 2)])
    assert (only.name, only.source, only.length) == (key.removeprefix(PREFIX), "claude", 11)


@pytest.mark.parametrize("path", ["../x", "%2E%2E/x", "p/%61.jsonl", "p/a%2Fb", "p/%00", "p//x"])
async def test_what_no_file_can_be_mirrored_as_is_no_stream(path: str) -> None:
    assert await shown([entry(f"{PREFIX}m1/raw/claude/{path}")]) == []


async def test_a_key_that_had_to_be_shortened_is_a_stream() -> None:
    key = mirror_key(PREFIX, "m1", "claude", b"/".join([b"p" * 250] * 5))
    (only,) = await shown([entry(key)])
    assert (only.key, only.source) == (key, "claude")


async def test_what_has_lost_its_base_is_shown_at_the_end() -> None:
    found = await shown(
        [
            entry(TWO),
            entry(generation_key(PREFIX, ONE, 0), 30),
            entry(conflict_key(PREFIX, DASH, "m2.abc"), 4),
            segment(history_key(PREFIX, "three"), 0, 5, 5),
        ]
    )
    assert [(each.name, each.size) for each in found] == [
        ("two", 10),
        ("-dash", None),
        ("one", None),
    ]
    assert found[1].conflicts[0].name == "m2.abc"
    assert found[2].closed == (0,)
