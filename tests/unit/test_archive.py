"""The reading side over a local archive: which bytes, of which generation, what is not there.

Tails are in `test_archive_tails`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from transcriptd.archive import Span, open_stream, span_of
from transcriptd.digest import digest
from transcriptd.errors import (
    AccessDenied,
    ConditionFailed,
    Damaged,
    NotFound,
    RangeInvalid,
    Superseded,
)
from transcriptd.layout import Meta, generation_key, history_key
from transcriptd.pointer import PointerHandle
from transcriptd.stores import Reading
from transcriptd.stores.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

PREFIX = "history/"
KEY = history_key(PREFIX, "s")
OLD, NEW = b'{"n":1}\n{"n":2}\n', b'{"n":1}\n{"n":3}\n{"n":4}\n'


def meta(generation: int, content: bytes) -> dict[str, str]:
    lines = content.count(b"\n")
    return Meta(generation, lines, len(content), digest(content), "m.0", "codetether").encode()


@pytest.fixture
def store(tmp_path: Path) -> Unsteady:
    return Unsteady(tmp_path / "archive", prefix=PREFIX)


class Unsteady(LocalStore):
    """A store that can be made to fail at a read: `before` runs ahead of each, `cut` shortens."""

    before: Callable[[int], object] | None = None
    cut: tuple[int, int] | None = None  # at which read, after how many bytes
    reads = 0

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, end: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator[Reading]:
        number, self.reads = self.reads, self.reads + 1
        if self.before and (waited := self.before(number)):
            await waited  # type: ignore[misc]  # a coroutine, as the test knows
        async with super().read(key, start, end, etag=etag) as reading:
            yield Reading(reading.head, self._cut(number, reading.chunks))

    async def _cut(self, number: int, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            if self.cut and self.cut[0] == number:
                yield chunk[: self.cut[1]]
                return
            yield chunk


async def at_once(_seconds: float) -> None: ...


async def read(store: LocalStore, span: Span, attempts: int = 5) -> tuple[int | None, bytes]:
    async with open_stream(store, PREFIX, span, attempts=attempts, sleep=at_once) as stream:
        return stream.generation, b"".join([chunk async for chunk in stream.chunks])


async def undo(store: LocalStore) -> None:
    """Close the old generation and put the new one, as the writer does."""
    head = await store.head(KEY)
    assert head is not None
    await store.put(generation_key(PREFIX, KEY, 0), OLD, head.metadata)
    await store.put(KEY, NEW, meta(1, NEW))


@pytest.mark.parametrize(
    ("what", "span"),
    [
        ("abc-1", Span("history/abc-1/history.jsonl")),
        ("history/x/history.jsonl", Span("history/x/history.jsonl")),
        (PointerHandle("b", "k/x", (3, 5), 2), Span("k/x", 3, 5, 2)),
        (PointerHandle("b", "k/x"), Span("k/x")),
    ],
)
def test_a_session_a_key_and_a_handle_each_mean_a_span(
    what: str | PointerHandle, span: Span
) -> None:
    assert span_of(PREFIX, what) == span


@pytest.mark.parametrize("what", ["", "..", "a.b", "x" * 129, "{"])
def test_what_means_nothing_is_refused(what: str) -> None:
    with pytest.raises(ValueError):
        span_of(PREFIX, what)


async def test_the_base_is_read_whole_and_in_part(store: Unsteady) -> None:
    await store.put(KEY, OLD, meta(0, OLD))
    assert await read(store, Span(KEY)) == (0, OLD)
    assert await read(store, Span(KEY, 3, 9)) == (0, OLD[3:9])
    assert await read(store, Span(KEY, 3)) == (0, OLD[3:])
    assert await read(store, Span(KEY, 3, 999)) == (0, OLD[3:])


async def test_an_empty_base_is_an_empty_stream(store: Unsteady) -> None:
    await store.put(KEY, b"", meta(0, b""))
    assert await read(store, Span(KEY)) == (0, b"")


async def test_what_is_not_there_is_said(store: Unsteady) -> None:
    with pytest.raises(NotFound):
        await read(store, Span(KEY))
    await store.put(KEY, OLD, meta(0, OLD))
    with pytest.raises(RangeInvalid):
        await read(store, Span(KEY, len(OLD)))
    with pytest.raises(NotFound):
        await read(store, Span(KEY, generation=1))


async def test_each_generation_is_read_wherever_it_is(store: Unsteady) -> None:
    await store.put(KEY, OLD, meta(0, OLD))
    assert await read(store, Span(KEY, 8, 12, generation=0)) == (0, OLD[8:12])
    await undo(store)
    assert await read(store, Span(KEY, 8, 12, generation=0)) == (0, OLD[8:12])
    assert await read(store, Span(KEY, generation=1)) == (1, NEW)
    assert await read(store, Span(KEY)) == (1, NEW)


async def test_a_base_of_somebody_else_is_the_generation_after_the_last(store: Unsteady) -> None:
    await store.put(KEY, OLD, meta(0, OLD))
    await undo(store)
    await store.put(KEY, b"theirs\n", {})
    assert await read(store, Span(KEY)) == (None, b"theirs\n")
    assert await read(store, Span(KEY, generation=1)) == (1, b"theirs\n")
    assert await read(store, Span(KEY, generation=0)) == (0, OLD)


@pytest.mark.parametrize("after", [0, 5])
async def test_a_short_body_is_read_on_where_it_ended(store: Unsteady, after: int) -> None:
    await store.put(KEY, OLD, meta(0, OLD))
    store.cut = (0, after)
    assert await read(store, Span(KEY, 1, 14)) == (0, OLD[1:14])
    assert store.reads == 2


async def test_reading_goes_on_in_the_generation_it_began_in(store: Unsteady) -> None:
    await store.put(KEY, OLD, meta(0, OLD))
    store.cut = (0, 10)
    store.before = lambda number: undo(store) if number == 1 else None
    assert await read(store, Span(KEY)) == (0, OLD)
    assert store.reads > 2


async def test_a_stream_that_grows_while_it_is_read_ends_where_it_ended_at_first(
    store: Unsteady,
) -> None:
    await store.put(KEY, OLD, meta(0, OLD))
    grown = OLD + b'{"n":5}\n'
    store.cut = (0, 10)
    store.before = lambda number: store.put(KEY, grown, meta(0, grown)) if number == 1 else None
    assert await read(store, Span(KEY)) == (0, OLD)


async def test_a_base_of_somebody_else_that_changes_while_it_is_read_is_not_mixed(
    store: Unsteady,
) -> None:
    await store.put(KEY, b"one\ntwo\n", {})
    store.cut = (0, 4)
    store.before = lambda number: store.put(KEY, b"uno\ndos\n", {}) if number == 1 else None
    with pytest.raises(ConditionFailed):
        await read(store, Span(KEY))


async def test_an_archive_that_changes_at_every_look_ends_the_attempts(store: Unsteady) -> None:
    await store.put(KEY, OLD, meta(0, OLD))
    store.before = lambda number: store.put(KEY, OLD, meta(number + 1, OLD))
    with pytest.raises(Superseded):
        await read(store, Span(KEY), attempts=2)
    assert store.reads == 2


async def test_a_base_that_is_shorter_than_it_says_is_damaged(store: Unsteady) -> None:
    await store.put(KEY, OLD[:-1], meta(0, OLD))
    with pytest.raises(Damaged):
        await read(store, Span(KEY), attempts=2)
    with pytest.raises(Damaged):
        await read(store, Span(KEY, 0, 1), attempts=2)


async def test_what_stands_behind_the_length_a_base_says_is_not_content(store: Unsteady) -> None:
    await store.put(KEY, OLD + NEW, meta(0, OLD))
    assert await read(store, Span(KEY)) == (0, OLD)
    assert await read(store, Span(KEY, 3, 999)) == (0, OLD[3:])


async def test_a_body_that_is_always_short_ends_the_attempts(store: Unsteady) -> None:
    await store.put(KEY, OLD, meta(0, OLD))

    def again(number: int) -> None:
        store.cut = (number, 0)

    store.before = again
    with pytest.raises(Damaged):
        await read(store, Span(KEY), attempts=2)
    assert store.reads == 2


async def test_a_refusal_is_not_tried_again(store: Unsteady) -> None:
    def refuse(_: int) -> None:
        raise AccessDenied("no")

    await store.put(KEY, OLD, meta(0, OLD))
    store.before = refuse
    with pytest.raises(AccessDenied):
        await read(store, Span(KEY))
    assert store.reads == 1
