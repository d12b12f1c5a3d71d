"""A claim says who writes to a stream; what was said once stays said."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.memory_store import Bucket, MemoryStore, Object
from transcriptd.claim import put_claim, taken_over
from transcriptd.errors import AccessDenied, ConditionFailed, Unreachable
from transcriptd.layout import Names, claim_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transcriptd.stores import Head

US = Names("history/", "laptop.aaaa")
THEM = Names("history/", "desk.bbbb")
KEY = "history/s1/history.jsonl"
WHERE = claim_key(US.prefix, KEY, US.writer)
A, B, C = (frozenset({writer}) for writer in ("a.1", "b.2", "c.3"))


class Unwatched(Bucket):
    """A bucket in which something may have gone wrong before: nobody watches over it."""

    def write(
        self, key: str, body: bytes, metadata: Mapping[str, str], *, apart: bool = False
    ) -> Head:
        self.objects[key] = written = Object(bytes(body), dict(metadata), apart)
        return written.head


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def unwatched() -> MemoryStore:
    return MemoryStore(Unwatched())


def said(store: MemoryStore, where: str = WHERE) -> dict[str, object]:
    found: dict[str, object] = json.loads(store.objects[where].body)
    return found


def damage(store: MemoryStore, body: bytes) -> None:
    store.objects[WHERE] = Object(body, {})


async def test_a_claim_says_who_writes_here_since_when_and_whom_it_replaces(
    store: MemoryStore,
) -> None:
    await put_claim(store, US, KEY, replaces=A | B, takes_over=dict.fromkeys(C, 3))
    claim = said(store)
    since = datetime.fromisoformat(str(claim.pop("since")))
    assert abs(datetime.now(since.tzinfo) - since) < timedelta(minutes=5)
    assert since.utcoffset() == timedelta(0)
    assert claim == {
        "writer": "laptop.aaaa",
        "replaces": ["a.1", "b.2"],
        "takes_over": {"c.3": 3},
        "format": 1,
    }


async def test_a_claim_has_the_metadata_of_our_format(store: MemoryStore) -> None:
    await put_claim(store, US, KEY)
    assert store.objects[WHERE].metadata == {"td-format": "1", "td-writer": "laptop.aaaa"}


async def test_each_writer_has_a_claim_of_its_own(store: MemoryStore) -> None:
    await put_claim(store, US, KEY)
    await put_claim(store, THEM, KEY)
    assert said(store)["writer"] == "laptop.aaaa"
    assert said(store, claim_key(THEM.prefix, KEY, THEM.writer))["writer"] == "desk.bbbb"


async def test_a_claim_that_stands_is_left_as_it_is(store: MemoryStore) -> None:
    await put_claim(store, US, KEY, replaces=A)
    before = store.objects[WHERE]
    await put_claim(store, US, KEY)
    await put_claim(store, US, KEY, replaces=A)
    assert store.objects[WHERE] is before
    assert (store.count("put"), store.count("read")) == (3, 1)


async def test_it_is_said_whether_a_claim_is_the_first_one_of_its_writer(
    store: MemoryStore,
) -> None:
    assert await put_claim(store, US, KEY)
    assert not await put_claim(store, US, KEY)
    assert not await put_claim(store, US, KEY, replaces=A)
    assert await put_claim(store, THEM, KEY)


async def test_a_claim_that_stands_costs_one_request(store: MemoryStore) -> None:
    await put_claim(store, US, KEY)
    store.log.clear()
    await put_claim(store, US, KEY)
    assert [(each.name, each.outcome) for each in store.log] == [("put", "ConditionFailed")]


async def test_what_an_earlier_claim_says_stays_said(store: MemoryStore) -> None:
    await put_claim(store, US, KEY, replaces=A, takes_over=dict.fromkeys(C, 3))
    since = said(store)["since"]
    await put_claim(store, US, KEY, replaces=B)
    await put_claim(store, US, KEY, takes_over=dict.fromkeys(A, 3))
    claim = said(store)
    assert claim["since"] == since
    assert (claim["replaces"], claim["takes_over"]) == (["a.1", "b.2"], {"a.1": 3, "c.3": 3})


async def test_whom_we_took_a_stream_over_from_is_read_from_our_claim(store: MemoryStore) -> None:
    assert await taken_over(store, US, KEY, 3) == frozenset()
    await put_claim(store, US, KEY, replaces=B)
    assert await taken_over(store, US, KEY, 3) == frozenset()
    await put_claim(store, US, KEY, takes_over=dict.fromkeys(A | C, 3))
    assert await taken_over(store, US, KEY, 3) == A | C


async def test_what_others_took_over_is_not_ours(store: MemoryStore) -> None:
    await put_claim(store, THEM, KEY, takes_over=dict.fromkeys(A, 3))
    assert await taken_over(store, US, KEY, 3) == frozenset()


DAMAGES = [
    b"", b"\0" * 100, b"{", b"[]", b"null", b'{"writer":1}', b'{"since":"x"}', b"\xff\xfe",
    b'{"writer":"laptop.aaaa","since":"x","takes_over":"a.1"}',
]  # fmt: skip


@pytest.mark.parametrize("body", DAMAGES)
async def test_a_damaged_claim_takes_nothing_over(store: MemoryStore, body: bytes) -> None:
    damage(store, body)
    assert await taken_over(store, US, KEY, 3) == frozenset()


@pytest.mark.parametrize("body", DAMAGES)
async def test_a_damaged_claim_is_made_whole_when_there_is_something_to_say(
    unwatched: MemoryStore, body: bytes
) -> None:
    damage(unwatched, body)
    await put_claim(unwatched, US, KEY)
    assert unwatched.objects[WHERE].body == body, "it makes a writer visible as it is"
    await put_claim(unwatched, US, KEY, replaces=A, takes_over=dict.fromkeys(C, 3))
    claim = said(unwatched)
    assert (claim["writer"], claim["replaces"]) == ("laptop.aaaa", ["a.1"])
    assert await taken_over(unwatched, US, KEY, 3) == C


async def test_what_a_later_version_adds_to_a_claim_does_not_hide_the_rest(
    store: MemoryStore,
) -> None:
    body = b'{"writer":"laptop.aaaa","since":"x","takes_over":{"a.1":3},"format":1,"new":{"x":[]}}'
    damage(store, body)
    assert await taken_over(store, US, KEY, 3) == A


async def test_a_claim_that_changes_between_reading_and_writing_is_not_overwritten(
    store: MemoryStore,
) -> None:
    await put_claim(store, US, KEY)
    reading = store.hold("read", answer=True)
    late = asyncio.create_task(put_claim(store, US, KEY, replaces=A))
    await reading.arrived.wait()
    await put_claim(MemoryStore(store.remote), US, KEY, replaces=B)
    reading.release()
    with pytest.raises(ConditionFailed):
        await late
    assert said(store)["replaces"] == ["b.2"]


@pytest.mark.parametrize("error", [Unreachable("no answer"), AccessDenied("no")])
async def test_a_store_that_fails_is_heard(store: MemoryStore, error: Exception) -> None:
    store.fail("put", error)
    with pytest.raises(type(error)):
        await put_claim(store, US, KEY)
    store.fail("read", error)
    with pytest.raises(type(error)):
        await taken_over(store, US, KEY, 3)


async def test_a_claim_that_cannot_be_read_is_not_written_over(store: MemoryStore) -> None:
    await put_claim(store, US, KEY, replaces=A)
    store.fail("read", Unreachable("no answer"))
    with pytest.raises(Unreachable):
        await put_claim(store, US, KEY, replaces=B)
    assert said(store)["replaces"] == ["a.1"]


async def test_an_answer_that_was_lost_leaves_the_claim_that_was_meant(store: MemoryStore) -> None:
    store.lose_answer("put")
    with pytest.raises(Unreachable):
        await put_claim(store, US, KEY, takes_over=dict.fromkeys(A, 3))
    await put_claim(store, US, KEY, takes_over=dict.fromkeys(A, 3))
    assert await taken_over(store, US, KEY, 3) == A


async def test_what_was_taken_over_is_what_stood_there_then(store: MemoryStore) -> None:
    """Whoever takes it back later writes a later generation, which is not ours to replace."""
    await put_claim(store, US, KEY, takes_over=dict.fromkeys(A, 3))
    assert await taken_over(store, US, KEY, 3) == A
    assert await taken_over(store, US, KEY, 4) == frozenset()
