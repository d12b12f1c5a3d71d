"""Streams with tails: what is content, what is a fault, and reading while the tail moves."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.memory_store import Bucket, MemoryStore, Object
from transcriptd.archive import Span, Stray, open_stream
from transcriptd.digest import digest
from transcriptd.errors import (
    AccessDenied,
    ConditionFailed,
    NotFound,
    RangeInvalid,
    Superseded,
)
from transcriptd.layout import (
    Meta,
    SegmentMeta,
    claim_key,
    generation_key,
    history_key,
    segment_key,
)
from transcriptd.lines import between
from transcriptd.stores import Reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from transcriptd.stores import Entry, Head

PREFIX = "history/"
KEY = history_key(PREFIX, "s")
LINES = [b'{"n":%04d}\n' % number for number in range(200)]
WHOLE = b"".join(LINES)
OTHER = b'{"other":true}\n' * 200
FIRST, SECOND, THIRD, LAST = 500, 800, 1200, 2000
ENDS = (FIRST, SECOND, THIRD, LAST)  # of the base and of each segment


class Archive:
    """A bucket with one stream, and the one who writes it."""

    def __init__(self) -> None:
        self.bucket = Bucket(PREFIX)
        self.writer = MemoryStore(self.bucket)
        self.reader = Reader(self.bucket)

    async def base(self, content: bytes, generation: int = 0) -> None:
        await self.writer.put(KEY, content, said_of(content, generation))

    async def segment(self, content: bytes, start: int, end: int, generation: int = 0) -> None:
        said = SegmentMeta("m.0", digest(content[:start])).encode()
        await self.writer.put(segment_key(PREFIX, KEY, generation, start), content[start:end], said)

    def stray(
        self, content: bytes, start: int, end: int, generation: int = 0, *, pre: str = ""
    ) -> str:
        """Place a segment as no writer of ours does; returns its key."""
        said = SegmentMeta("m.0", pre or digest(content[:start])).encode()
        key = segment_key(PREFIX, KEY, generation, start)
        self.place(key, content[start:end], said)
        return key

    def place(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        """Place an object behind the back of all rules."""
        self.bucket.objects[key] = Object(body, metadata)

    async def stream(self) -> None:
        """Write a base and a tail of three segments."""
        await self.base(WHOLE[:FIRST])
        for start, end in pairwise(ENDS):
            await self.segment(WHOLE, start, end)

    async def seal(self, end: int = LAST) -> None:
        await self.base(WHOLE[:end])
        await self.remove_tail(end)

    async def remove_tail(self, end: int = LAST) -> None:
        for start, its_end in pairwise(ENDS):
            if its_end <= end:
                await self.writer.delete(segment_key(PREFIX, KEY, 0, start))

    async def preserve(self, content: bytes = WHOLE[:LAST]) -> None:
        await self.writer.put(generation_key(PREFIX, KEY, 0), content, said_of(content))

    async def undo(self) -> None:
        """Begin the next generation, as a writer does: preserve, replace, remove."""
        await self.preserve()
        await self.base(OTHER, 1)
        await self.remove_tail()

    async def read(
        self,
        start: int = 0,
        end: int | None = None,
        generation: int | None = None,
        attempts: int = 5,
    ) -> tuple[bytes, list[Stray]]:
        span = Span(KEY, start, end, generation)
        async with open_stream(
            self.reader, PREFIX, span, attempts=attempts, sleep=at_once
        ) as stream:
            return b"".join([chunk async for chunk in stream.chunks]), stream.faults

    async def content(
        self, start: int = 0, end: int | None = None, generation: int | None = None
    ) -> bytes:
        found, faults = await self.read(start, end, generation)
        assert faults == []
        return found


class Reader(MemoryStore):
    """A client of the bucket, and what befalls it."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(bucket)
        self.before: Callable[[int], Awaitable[object]] | None = None
        """What happens before each request, by its number."""
        self.cut: dict[str, int] = {}
        """By key: after how many bytes the next body ends."""
        self.unlisted: set[str] = set()
        """Keys that listings do not show yet."""
        self.requests = 0

    async def list(self, prefix: str) -> AsyncIterator[Entry]:
        await self._happens()
        async for entry in super().list(prefix):
            if entry.key not in self.unlisted:
                yield entry

    async def head(self, key: str) -> Head | None:
        await self._happens()
        return await super().head(key)

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, end: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator[Reading]:
        await self._happens()
        async with super().read(key, start, end, etag=etag) as reading:
            yield Reading(reading.head, self._shortened(key, reading.chunks))

    async def _shortened(self, key: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        left = self.cut.pop(key, None)
        async for chunk in chunks:
            yield chunk[:left]
            if left is not None:
                return

    async def _happens(self) -> None:
        number, self.requests = self.requests, self.requests + 1
        if self.before:
            await self.before(number)


def said_of(content: bytes, generation: int = 0) -> dict[str, str]:
    records = content.count(b"\n")
    return Meta(generation, records, len(content), digest(content), "m.0", "codetether").encode()


async def at_once(_seconds: float) -> None: ...


@pytest.fixture
def archive() -> Archive:
    return Archive()


async def test_the_content_is_the_base_and_the_segments_that_continue_it(archive: Archive) -> None:
    await archive.stream()
    async with open_stream(archive.reader, PREFIX, Span(KEY)) as stream:
        assert (stream.generation, stream.length) == (0, LAST)
        assert b"".join([chunk async for chunk in stream.chunks]) == WHOLE[:LAST]
    assert stream.faults == []


async def test_a_stream_is_given_line_by_line(archive: Archive) -> None:
    await archive.stream()
    async with open_stream(archive.reader, PREFIX, Span(KEY)) as stream:
        lines = [line async for line in stream.lines()]
    assert lines == WHOLE[:LAST].splitlines(keepends=True)


async def test_of_lines_no_more_is_read_than_they_need(archive: Archive) -> None:
    await archive.stream()
    async with open_stream(archive.reader, PREFIX, Span(KEY)) as stream:
        found = [piece async for piece in between(stream.chunks, 50, 60)]
    assert b"".join(found) == b"".join(LINES[50:60])
    assert archive.reader.count("read") == 2  # the base, and the segment in which they end


@pytest.mark.parametrize("start", [0, 1, FIRST - 1, FIRST, SECOND - 1, SECOND + 7, LAST - 1])
@pytest.mark.parametrize("end", [1, FIRST, FIRST + 1, THIRD, LAST - 1, LAST, 9999, None])
async def test_every_range_gives_its_bytes(archive: Archive, start: int, end: int | None) -> None:
    await archive.stream()
    if end is None or start < end:
        assert await archive.content(start, end) == WHOLE[:LAST][start:end]


async def test_a_range_is_read_from_the_segments_that_hold_it_alone(archive: Archive) -> None:
    await archive.stream()
    archive.reader.traffic.received_bytes = 0
    assert await archive.content(SECOND + 10, SECOND + 60) == WHOLE[SECOND + 10 : SECOND + 60]
    assert archive.reader.traffic.received_bytes == 50
    assert [o.key for o in archive.reader.log if o.name == "read"] == [
        segment_key(PREFIX, KEY, 0, SECOND)
    ]


async def test_a_range_that_starts_at_the_end_of_the_tail_is_invalid(archive: Archive) -> None:
    await archive.stream()
    with pytest.raises(RangeInvalid):
        await archive.read(LAST)


async def test_what_the_base_took_in_is_read_once(archive: Archive) -> None:
    await archive.stream()
    await archive.base(WHOLE[:THIRD])
    assert await archive.content() == WHOLE[:LAST]
    await archive.base(WHOLE[:LAST])
    assert await archive.content() == WHOLE[:LAST]


async def test_a_segment_of_another_generation_is_not_content(archive: Archive) -> None:
    await archive.stream()
    await archive.undo()
    archive.stray(WHOLE, FIRST, SECOND)
    archive.stray(OTHER, LAST, LAST + 90, generation=2)
    assert await archive.content() == OTHER
    assert await archive.read(generation=0) == (WHOLE[:LAST], [])


async def test_claims_and_strangers_beside_the_tail_are_not_content(archive: Archive) -> None:
    await archive.stream()
    archive.place(claim_key(PREFIX, KEY, "m.0"), b"{}", {})
    archive.place(segment_key(PREFIX, KEY, 0, LAST), b"", {})
    archive.place(f"{PREFIX}.tail/s/history.jsonl/note.txt", b"hello", {})
    assert await archive.content() == WHOLE[:LAST]


@pytest.mark.parametrize("start", [FIRST - 100, SECOND - 100])
async def test_a_segment_across_an_end_is_told_and_stops_nobody(
    archive: Archive, start: int
) -> None:
    await archive.stream()
    stray = archive.stray(WHOLE, start, start + 150)
    assert await archive.read() == (WHOLE[:LAST], [Stray(stray, "overlaps")])
    assert await archive.read(0, start) == (WHOLE[:start], [])


async def test_a_segment_that_does_not_fit_what_is_before_it_ends_the_stream(
    archive: Archive,
) -> None:
    await archive.stream()
    stray = archive.stray(WHOLE, SECOND, THIRD, pre=digest(OTHER[:SECOND]))
    assert await archive.read() == (WHOLE[:SECOND], [Stray(stray, "other_bytes_before_it")])


async def test_a_base_that_was_damaged_is_noticed_by_what_it_says_and_by_its_tail(
    archive: Archive,
) -> None:
    await archive.stream()
    said = archive.bucket.objects[KEY].metadata
    archive.place(KEY, OTHER[:FIRST], said)
    stray = segment_key(PREFIX, KEY, 0, FIRST)
    told = [Stray(KEY, "other_bytes_than_it_says"), Stray(stray, "other_bytes_before_it")]
    assert await archive.read() == (OTHER[:FIRST], told)


@pytest.mark.parametrize("generation", [None, 0])
async def test_what_was_damaged_is_noticed_also_where_nothing_follows_it(
    archive: Archive, generation: int | None
) -> None:
    await archive.base(WHOLE)
    key = KEY
    if generation is not None:
        await archive.preserve(WHOLE)
        await archive.base(OTHER, 1)
        key = generation_key(PREFIX, KEY, generation)
    damaged = b"!" + WHOLE[1:]
    archive.place(key, damaged, archive.bucket.objects[key].metadata)
    told = [Stray(key, "other_bytes_than_it_says")]
    assert await archive.read(generation=generation) == (damaged, told)
    assert await archive.read(0, len(WHOLE), generation) == (damaged, told)


async def test_a_tail_that_hung_on_another_base_is_noticed_in_a_range_of_its_first_segment(
    archive: Archive,
) -> None:
    await archive.stream()
    archive.place(KEY, OTHER[:FIRST], said_of(OTHER[:FIRST]))
    stray = segment_key(PREFIX, KEY, 0, FIRST)
    faults = [Stray(stray, "other_bytes_before_it")]
    assert await archive.read(FIRST - 10, THIRD) == (OTHER[FIRST - 10 : FIRST], faults)
    assert await archive.read(FIRST + 10, THIRD) == (b"", faults)


@pytest.mark.parametrize("metadata", [{}, {"td-format": "2", "td-writer": "m.0", "td-pre": "00"}])
async def test_a_segment_of_a_format_that_is_not_known_ends_the_stream(
    archive: Archive, metadata: dict[str, str]
) -> None:
    await archive.stream()
    stray = segment_key(PREFIX, KEY, 0, SECOND)
    archive.place(stray, WHOLE[SECOND:THIRD], metadata)
    assert await archive.read() == (WHOLE[:SECOND], [Stray(stray, "unknown_format")])
    assert await archive.read(SECOND + 1) == (b"", [Stray(stray, "unknown_format")])


async def test_a_gap_that_stays_is_an_error_and_what_is_before_it_can_be_read(
    archive: Archive,
) -> None:
    await archive.stream()
    archive.bucket.objects.pop(segment_key(PREFIX, KEY, 0, SECOND))
    with pytest.raises(Superseded, match=f"gap at byte {SECOND}"):
        await archive.read(attempts=3)
    assert archive.reader.count("list") == 3
    assert await archive.content(10, SECOND) == WHOLE[10:SECOND]


async def test_a_gap_that_closes_is_waited_for(archive: Archive) -> None:
    await archive.stream()
    archive.bucket.objects.pop(segment_key(PREFIX, KEY, 0, SECOND))

    async def heal(number: int) -> None:
        if number == 5:
            archive.stray(WHOLE, SECOND, THIRD)

    archive.reader.before = heal
    assert await archive.content() == WHOLE[:LAST]
    assert archive.reader.count("list") > 1


@pytest.mark.parametrize("unlisted", [(LAST - 800,), (FIRST,), (FIRST, SECOND, THIRD)])
async def test_what_a_listing_does_not_show_yet_is_found(
    archive: Archive, unlisted: tuple[int, ...]
) -> None:
    await archive.stream()
    archive.reader.unlisted = {segment_key(PREFIX, KEY, 0, start) for start in unlisted}
    assert await archive.content() == WHOLE[:LAST]
    assert await archive.content(LAST - 5, LAST) == WHOLE[LAST - 5 : LAST]


async def test_a_range_inside_of_what_is_known_asks_no_further(archive: Archive) -> None:
    await archive.stream()
    archive.reader.log.clear()
    await archive.content(3, LAST)
    assert [o.name for o in archive.reader.log] == ["list", "head", "read", "read", "read", "read"]


async def test_without_permission_to_list_the_base_is_all_there_is(archive: Archive) -> None:
    await archive.stream()
    archive.reader.fail("list", AccessDenied("no"), times=None)
    assert await archive.content() == WHOLE[:FIRST]
    assert archive.reader.count("head", r"\.tail/") == 0
    await archive.undo()
    assert await archive.read(generation=0) == (WHOLE[:LAST], [])


async def test_the_base_of_somebody_else_goes_on_with_a_tail_that_fits_it(archive: Archive) -> None:
    await archive.stream()
    archive.bucket.overwrite(KEY, WHOLE[:FIRST])
    assert await archive.content() == WHOLE[:LAST]
    archive.bucket.overwrite(KEY, OTHER[:FIRST])
    stray = Stray(segment_key(PREFIX, KEY, 0, FIRST), "other_bytes_before_it")
    assert await archive.read() == (OTHER[:FIRST], [stray])


@pytest.mark.parametrize("key", ["", "history/../s", "/s", "history//s"])
async def test_a_key_that_cannot_be_is_refused_before_anything_is_asked(
    archive: Archive, key: str
) -> None:
    with pytest.raises(ValueError):
        async with open_stream(archive.reader, PREFIX, Span(key)):
            pass
    assert archive.reader.requests == 0


async def test_a_tail_without_a_base_is_no_stream(archive: Archive) -> None:
    archive.stray(WHOLE, 0, 100)
    with pytest.raises(NotFound):
        await archive.read()


async def test_a_generation_that_never_was_is_not_found_at_once(archive: Archive) -> None:
    await archive.stream()
    with pytest.raises(NotFound):
        await archive.read(generation=3)
    assert archive.reader.count("list") == 1


async def grow(archive: Archive) -> None:
    await archive.segment(WHOLE, LAST, len(WHOLE))


async def seal_a_part(archive: Archive) -> None:
    await archive.seal(THIRD)


async def seal(archive: Archive) -> None:
    await archive.seal()


async def seal_and_undo(archive: Archive) -> None:
    await archive.seal()
    await archive.undo()


async def undo(archive: Archive) -> None:
    await archive.undo()


async def undo_to_the_base(archive: Archive) -> None:
    """The next generation begins with the very bytes, and the ETag, of the base before it."""
    await archive.preserve()
    await archive.base(WHOLE[:FIRST], 1)
    await archive.remove_tail()


MOVES = (grow, seal_a_part, seal, seal_and_undo, undo, undo_to_the_base)


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("generation", [None, 0])
async def test_whatever_moves_between_two_requests_one_state_is_read_whole(
    move: Callable[[Archive], Awaitable[None]], generation: int | None
) -> None:
    """Once for each request of a reader that is not disturbed, with the move right before it."""
    undisturbed = Archive()
    await undisturbed.stream()
    await undisturbed.content(generation=generation)
    for step in range(undisturbed.reader.requests):
        archive = Archive()
        await archive.stream()

        async def act(number: int, step: int = step, archive: Archive = archive) -> None:
            if number == step:
                await move(archive)

        archive.reader.before = act
        found = await archive.content(generation=generation)
        after = await archive.content(generation=generation)
        assert found in {WHOLE[:LAST], after}
        if step > 3:  # the base has been opened: the reader stays with what it found
            assert found == WHOLE[:LAST]


@pytest.mark.parametrize("first", range(12))
async def test_a_reader_meets_a_writer_at_each_of_its_steps(archive: Archive, first: int) -> None:
    """From its request `first` on, one step of the writer before each request of the reader."""
    await archive.stream()
    steps: Iterator[Callable[[], Awaitable[object]]] = iter(
        [
            lambda: archive.segment(WHOLE, LAST, len(WHOLE)),
            lambda: archive.base(WHOLE),
            *(partial(archive.writer.delete, segment_key(PREFIX, KEY, 0, s)) for s in ENDS),
            lambda: archive.preserve(WHOLE),
            lambda: archive.base(OTHER, 1),
        ]
    )

    async def act(number: int) -> None:
        if number >= first and (step := next(steps, None)):
            await step()

    archive.reader.before = act
    assert await archive.content() in {WHOLE[:LAST], WHOLE, OTHER}
    assert await archive.content(0, LAST, 0) == WHOLE[:LAST]


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("key", [KEY, *(segment_key(PREFIX, KEY, 0, s) for s in ENDS[:-1])])
@pytest.mark.parametrize("after", [0, 1, 250])
async def test_a_reader_that_was_cut_off_goes_on_wherever_its_bytes_are_by_then(
    archive: Archive, move: Callable[[Archive], Awaitable[None]], key: str, after: int
) -> None:
    await archive.stream()
    moved = await once_cut(archive, key, after, lambda: move(archive))
    assert await archive.content() == WHOLE[:LAST]
    assert moved


async def test_a_foreign_base_that_changes_while_its_tail_is_read_is_not_mixed(
    archive: Archive,
) -> None:
    await archive.stream()
    archive.bucket.overwrite(KEY, WHOLE[:FIRST])
    await once_cut(archive, segment_key(PREFIX, KEY, 0, SECOND), 5, lambda: overwrite(archive))
    with pytest.raises(ConditionFailed):
        await archive.read()


async def test_our_base_that_somebody_overwrites_while_it_is_read_is_not_mixed(
    archive: Archive,
) -> None:
    await archive.stream()
    await once_cut(archive, KEY, 5, lambda: overwrite(archive))
    with pytest.raises(Superseded):
        await archive.read(attempts=2)


async def test_a_foreign_base_that_changes_before_it_is_opened_is_looked_at_again(
    archive: Archive,
) -> None:
    archive.bucket.overwrite(KEY, WHOLE[:FIRST])

    async def act(number: int) -> None:
        if number == 2:  # after the listing and the look
            await overwrite(archive)

    archive.reader.before = act
    assert await archive.content() == OTHER


async def test_a_segment_that_is_not_what_was_listed_is_looked_at_again(archive: Archive) -> None:
    await archive.stream()

    async def act(number: int) -> None:
        if number == 4:  # after the listing, two looks and the base
            archive.stray(WHOLE, FIRST, THIRD)  # whoever may have done that

    archive.reader.before = act
    overlapping = segment_key(PREFIX, KEY, 0, SECOND)
    assert await archive.read() == (WHOLE[:LAST], [Stray(overlapping, "overlaps")])


async def test_an_archive_that_shows_less_than_before_ends_the_attempts(archive: Archive) -> None:
    await archive.stream()

    async def lose() -> None:
        for start in ENDS[:-1]:
            del archive.bucket.objects[segment_key(PREFIX, KEY, 0, start)]

    await once_cut(archive, KEY, 10, lose)
    with pytest.raises(Superseded):
        await archive.read(attempts=3)


async def overwrite(archive: Archive) -> None:
    archive.bucket.overwrite(KEY, OTHER)


async def once_cut(
    archive: Archive, key: str, after: int, move: Callable[[], Awaitable[None]]
) -> list[int]:
    """Cut the next body of an object; then, before the next request, `move`. Gives when."""
    archive.reader.cut[key] = after
    moved: list[int] = []

    async def act(number: int) -> None:
        if not archive.reader.cut and not moved:
            moved.append(number)
            await move()

    archive.reader.before = act
    return moved
