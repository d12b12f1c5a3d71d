"""What stands in the archive is asked in the order that keeps a seal from looking like a gap."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.memory_store import MemoryStore, Object
from transcriptd.digest import digest
from transcriptd.errors import AccessDenied, Unreachable
from transcriptd.layout import (
    Meta,
    SegmentMeta,
    claim_key,
    conflict_key,
    generation_key,
    generations_prefix,
    history_key,
    segment_key,
    tail_prefix,
)
from transcriptd.survey import list_tails, survey, trusted
from transcriptd.tail import Chain, Tails

if TYPE_CHECKING:
    from transcriptd.survey import Survey

PREFIX = "history/"
KEY = history_key(PREFIX, "s1")
US, OTHER = "laptop.aaaa", "desk.cccc"
SOMETHING = Object(b"x", {})


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def meta_of(body: bytes, generation: int = 0, writer: str = US) -> Meta:
    return Meta(generation, body.count(b"\n"), len(body), digest(body), writer, "codetether")


def put_base(store: MemoryStore, body: bytes, generation: int = 0, key: str = KEY) -> None:
    store.objects[key] = Object(body, meta_of(body, generation).encode())


def put_tail(
    store: MemoryStore, before: bytes, body: bytes, generation: int = 0, key: str = KEY
) -> None:
    where = segment_key(PREFIX, key, generation, len(before))
    store.objects[where] = Object(body, SegmentMeta(US, digest(before)).encode())


def close(store: MemoryStore, generation: int, body: bytes = b"a\n") -> None:
    where = generation_key(PREFIX, KEY, generation)
    store.objects[where] = Object(body, meta_of(body, generation).encode())


async def ask(store: MemoryStore) -> Survey:
    return await survey(store, PREFIX, KEY)


def requests(store: MemoryStore) -> list[tuple[str, str]]:
    return [(each.name, each.key) for each in store.log]


async def test_of_nothing_there_is_nothing(store: MemoryStore) -> None:
    found = await ask(store)
    assert (found.head, found.meta, found.tails, found.chain) == (None, None, Tails(), Chain())
    assert (found.closed, found.used, found.may_list) == (-1, -1, True)


async def test_tails_are_listed_before_the_base_is_looked_at(store: MemoryStore) -> None:
    put_base(store, b"a\n")
    await ask(store)
    assert requests(store)[0] == ("list", tail_prefix(PREFIX, KEY))
    assert sorted(requests(store)[1:]) == [
        ("head", KEY),
        ("list", generations_prefix(PREFIX, KEY)),
    ]


async def test_a_seal_in_between_shows_as_what_the_base_holds_and_never_as_a_gap(
    store: MemoryStore,
) -> None:
    put_base(store, b"a\n")
    put_tail(store, b"a\n", b"b\n")
    held = store.hold("head", key="history.jsonl$")

    async def seal() -> None:
        await held.arrived.wait()
        put_base(store, b"a\nb\n")
        del store.objects[segment_key(PREFIX, KEY, 0, 2)]
        held.release()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(seal())
        asking = tasks.create_task(ask(store))
    chain = asking.result().chain
    assert (len(chain.folded), chain.content, chain.astray, chain.end) == (1, (), (), 4)


async def test_the_tail_of_the_generation_of_the_base_is_its_chain(store: MemoryStore) -> None:
    put_base(store, b"a\n", generation=1)
    put_tail(store, b"a\n", b"b\n", generation=1)
    put_tail(store, b"a\nb\n", b"c\n", generation=1)
    put_tail(store, b"a\n", b"old\n", generation=0)
    found = await ask(store)
    assert [s.start for s in found.chain.content] == [2, 4]
    assert (found.chain.end, len(found.tails.segments)) == (6, 3)


async def test_claims_are_found_beside_the_segments(store: MemoryStore) -> None:
    for writer in (US, OTHER):
        store.objects[claim_key(PREFIX, KEY, writer)] = SOMETHING
    assert (await ask(store)).tails.claims == (OTHER, US)


async def test_what_lies_beside_another_stream_is_not_ours(store: MemoryStore) -> None:
    put_base(store, b"a\n")
    aside = conflict_key(PREFIX, KEY, OTHER)
    longer = history_key(PREFIX, "s12")
    for key in (aside, longer):
        put_base(store, b"a\n", key=key)
        put_tail(store, b"a\n", b"b\n", key=key)
        store.objects[generation_key(PREFIX, key, 7)] = SOMETHING
    found = await ask(store)
    assert (found.tails, found.closed, found.used) == (Tails(), -1, 0)


@pytest.mark.parametrize("numbers", [[0], [0, 1, 2], [2], [0, 5], [999_999, 1_000_000]])
async def test_the_highest_finished_generation_is_found(
    store: MemoryStore, numbers: list[int]
) -> None:
    for number in numbers:
        close(store, number)
    found = await ask(store)
    assert (found.closed, found.used) == (numbers[-1], numbers[-1])


async def test_what_else_lies_below_generations_is_no_generation(store: MemoryStore) -> None:
    close(store, 1)
    store.objects[f"{generations_prefix(PREFIX, KEY)}notes.txt"] = SOMETHING
    assert (await ask(store)).closed == 1


@pytest.mark.parametrize(
    ("closed", "base", "tail", "used"),
    [(4, 2, None, 4), (-1, 6, 3, 6), (1, 2, 9, 9), (-1, None, 3, 3)],
)
async def test_the_highest_number_that_stands_anywhere_is_found(
    store: MemoryStore, closed: int, base: int | None, tail: int | None, used: int
) -> None:
    if closed >= 0:
        close(store, closed)
    if base is not None:
        put_base(store, b"a\n", generation=base)
    if tail is not None:
        where = segment_key(PREFIX, KEY, tail, 2)
        store.objects[where] = SOMETHING
    assert (await ask(store)).used == used


async def test_a_base_without_our_metadata_has_none_and_no_chain(store: MemoryStore) -> None:
    store.objects[KEY] = Object(b"a\n", {})
    store.objects[segment_key(PREFIX, KEY, 0, 2)] = SOMETHING
    found = await ask(store)
    assert found.head is not None
    assert (found.meta, found.chain) == (None, Chain(end=2))
    assert len(found.tails.segments) == 1


@pytest.mark.parametrize("cut", [b"", b"a", b"a\nb\nc\n"])
async def test_a_base_that_is_not_as_long_as_it_says_is_not_believed(
    store: MemoryStore, cut: bytes
) -> None:
    store.objects[KEY] = Object(cut, meta_of(b"a\nb\n").encode())
    assert (await ask(store)).meta is None


async def test_a_base_of_a_later_format_is_not_believed(store: MemoryStore) -> None:
    metadata = {**meta_of(b"a\n").encode(), "td-format": "2"}
    store.objects[KEY] = Object(b"a\n", metadata)
    assert (await ask(store)).meta is None


def test_nothing_that_is_not_there_is_trusted() -> None:
    assert trusted(None) is None


class TestWithoutPermissionToList:
    @pytest.fixture(autouse=True)
    def _denied(self, store: MemoryStore) -> None:
        store.fail("list", AccessDenied("no"), times=None)

    async def test_nothing_is_known_of_tails(self, store: MemoryStore) -> None:
        put_base(store, b"a\n")
        put_tail(store, b"a\n", b"b\n")
        found = await ask(store)
        assert not found.may_list
        assert (found.tails, found.chain) == (Tails(), Chain(end=2))
        assert found.meta == meta_of(b"a\n")

    async def test_where_nothing_stands_there_is_nothing(self, store: MemoryStore) -> None:
        found = await ask(store)
        assert (found.head, found.meta, found.chain, found.closed) == (None, None, Chain(), -1)

    @pytest.mark.parametrize(("base", "numbers", "closed"), [
        (0, [], -1), (1, [0], 0), (1, [0, 1], 1), (2, [0, 1, 2, 3, 4], 4), (None, [0, 1], 1),
    ])  # fmt: skip
    async def test_finished_generations_are_asked_for_one_by_one_from_the_base_on(
        self, store: MemoryStore, base: int | None, numbers: list[int], closed: int
    ) -> None:
        for number in numbers:
            close(store, number)
        if base is not None:
            put_base(store, b"a\n", generation=base)
        found = await ask(store)
        assert found.closed == closed
        assert store.count("head") <= len(numbers) - (base or 0) + 2


@pytest.mark.parametrize("name", ["head", "list"])
@pytest.mark.parametrize("error", [Unreachable("no answer"), AccessDenied("no")])
async def test_an_error_comes_out_as_itself(
    store: MemoryStore, name: str, error: Exception
) -> None:
    store.fail(name, error, key="history.jsonl/?$")
    if name == "list" and isinstance(error, AccessDenied):
        assert not (await ask(store)).may_list
        return
    with pytest.raises(type(error)):
        await ask(store)


async def test_a_list_of_generations_that_is_denied_is_an_error_of_its_own(
    store: MemoryStore,
) -> None:
    store.fail("list", AccessDenied("no"), key=r"\.generations/")
    with pytest.raises(AccessDenied):
        await ask(store)


async def test_listing_tails_is_one_request(store: MemoryStore) -> None:
    put_tail_at = segment_key(PREFIX, KEY, 0, 2)
    store.objects[put_tail_at] = SOMETHING
    tails = await list_tails(store, PREFIX, KEY)
    assert [each.key for each in tails.segments] == [put_tail_at]
    assert requests(store) == [("list", tail_prefix(PREFIX, KEY))]
