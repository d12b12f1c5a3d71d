"""Whose turn it is: nothing is dropped, nothing runs twice at once, and failures come again."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING

from transcriptd.debounce import Debounce
from transcriptd.errors import Unreachable
from transcriptd.model import Session
from transcriptd.pool import SETTLED_S, Pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from transcriptd.pool import Turn


def session(name: str) -> Session:
    return Session("codetether", name, "/r", f"{name}.json")


ONE, TWO = session("one"), session("two")


class Work:
    """What a turn does here: it is recorded, and lasts until `finish`, if it is held."""

    def __init__(self, *, held: bool = False) -> None:
        self.turns: list[Turn] = []
        self.failures: list[tuple[Session, BaseException]] = []
        self.errors: list[BaseException] = []
        self.answers: list[float | None] = []
        self.running = 0
        self.most = 0
        self._held = held
        self._may_finish = asyncio.Semaphore(0)
        self._changed = asyncio.Condition()

    async def attempt(self, turn: Turn) -> float | None:
        self.turns.append(turn)
        self.running += 1
        self.most = max(self.most, self.running)
        await self._tell()
        try:
            if self._held:
                await self._may_finish.acquire()
            if self.errors:
                raise self.errors.pop(0)
            return self.answers.pop(0) if self.answers else None
        finally:
            self.running -= 1
            await self._tell()

    def failed(self, of: Session, error: BaseException, pause_s: float) -> None:
        self.failures.append((of, error))

    def finish(self, times: int = 1) -> None:
        for _ in range(times):
            self._may_finish.release()

    async def until_turns(self, count: int) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.turns) >= count)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class Clock:
    """Time that stands still until the test moves it on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def working(
    work: Work,
    *,
    workers: int = 2,
    quiet: float = 0.0,
    max_wait: float = 60.0,
    clock: Callable[[], float] = monotonic,
) -> AsyncIterator[Pool]:
    pool = Pool(
        work.attempt,
        workers=workers,
        debounce=Debounce(quiet, max_wait),
        on_failure=work.failed,
        clock=clock,
    )
    running = asyncio.create_task(pool.run())
    try:
        yield pool
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_changed_session_gets_its_turn() -> None:
    work = Work()
    async with working(work) as pool:
        pool.touch(ONE)
        await pool.worked_off()
    assert [(turn.session, turn.settled) for turn in work.turns] == [(ONE, False)]


async def test_a_change_during_its_turn_gives_a_session_another_one() -> None:
    work = Work(held=True)
    async with working(work) as pool:
        pool.touch(ONE)
        await work.until_turns(1)
        pool.touch(ONE)
        pool.touch(ONE)
        work.finish(2)
        await pool.worked_off()
    assert len(work.turns) == 2


async def test_a_session_is_never_worked_on_twice_at_once() -> None:
    work = Work(held=True)
    async with working(work, workers=4) as pool:
        pool.touch(ONE)
        await work.until_turns(1)
        pool.touch(ONE, at_once=True)
        pool.touch(TWO, at_once=True)
        await work.until_turns(2)
        assert {turn.session for turn in work.turns} == {ONE, TWO}
        work.finish(3)
        await pool.worked_off()
    assert work.most == 2


async def test_no_more_sessions_are_worked_on_at_once_than_there_are_workers() -> None:
    work = Work(held=True)
    async with working(work, workers=3) as pool:
        for number in range(10):
            pool.touch(session(str(number)))
        await work.until_turns(3)
        work.finish(10)
        await pool.worked_off()
    assert (len(work.turns), work.most) == (10, 3)


async def test_a_failed_attempt_is_made_again_until_it_succeeds() -> None:
    work = Work()
    work.errors = [Unreachable("one"), Unreachable("two")]
    async with working(work) as pool:
        pool.touch(ONE)
        await pool.worked_off()
    assert len(work.turns) == 3
    assert [str(error) for _, error in work.failures] == ["one", "two"]


async def test_an_error_nobody_expected_stops_neither_its_session_nor_the_others() -> None:
    work = Work()
    work.errors = [ZeroDivisionError()]
    async with working(work, workers=1) as pool:
        pool.touch(ONE)
        await work.until_turns(1)
        pool.touch(TWO)
        await work.until_turns(2)
        assert work.turns[1].session == TWO, "a session that rests holds no slot"
        pool.hurry()
        await pool.worked_off()
    assert [turn.session for turn in work.turns][:3] == [ONE, TWO, ONE]
    assert work.turns[-1].settled, "what was hurried is settled, too"


async def test_a_quiet_session_gets_a_settled_turn_when_it_asked_for_one() -> None:
    work = Work()
    work.answers = [0.01]
    async with working(work) as pool:
        pool.touch(ONE)
        await work.until_turns(2)
    assert [turn.settled for turn in work.turns] == [False, True]


async def test_hurry_does_at_once_what_waits_for_quiet() -> None:
    work = Work()
    work.answers = [SETTLED_S]
    async with working(work) as pool:
        pool.touch(ONE)
        await pool.worked_off()
        pool.hurry()
        await pool.worked_off()
    assert [turn.settled for turn in work.turns] == [False, True]


async def look_again(pool: Pool, work: Work, clock: Clock, now: float) -> list[Turn]:
    """Let it be `now`, let the pool see that, and return the turns that others than TWO got."""
    before = len(work.turns)
    clock.now = now
    pool.touch(TWO, at_once=True)
    await pool.worked_off()
    if pool.waiting():  # it was due at the same time
        await pool.worked_off()
    return [turn for turn in work.turns[before:] if turn.session != TWO]


async def test_a_settled_turn_that_asks_for_a_later_one_gets_it_and_not_before() -> None:
    work, clock = Work(), Clock()
    async with working(work, clock=clock) as pool:
        pool.settle(ONE)
        work.answers = [1700.0]
        await work.until_turns(1)
        assert work.turns[0].settled
        assert await look_again(pool, work, clock, 1060.0) == []
        assert await look_again(pool, work, clock, 2699.9) == []
        (later,) = await look_again(pool, work, clock, 2700.0)
        assert (later.session, later.settled) == (ONE, True)
        assert await look_again(pool, work, clock, 9999.0) == []


async def test_a_settled_turn_is_given_in_as_many_seconds_as_were_asked_for() -> None:
    work, clock = Work(), Clock()
    async with working(work, clock=clock) as pool:
        pool.settle(ONE, within=1700.0)
        assert await look_again(pool, work, clock, 2699.9) == []
        (turn,) = await look_again(pool, work, clock, 2700.0)
        assert (turn.session, turn.settled) == (ONE, True)


async def test_a_change_brings_the_settled_turn_a_minute_after_it() -> None:
    work, clock = Work(), Clock()
    async with working(work, clock=clock) as pool:
        pool.settle(ONE, within=1700.0)
        clock.now = 1100.0
        pool.touch(ONE)
        work.answers = [SETTLED_S]
        await pool.worked_off()
        assert [turn.settled for turn in work.turns] == [False]
        assert await look_again(pool, work, clock, 1159.9) == []
        (turn,) = await look_again(pool, work, clock, 1160.0)
        assert turn.settled


async def test_changes_do_not_put_off_a_turn_that_was_asked_for_soon() -> None:
    work, clock = Work(), Clock()
    async with working(work, clock=clock) as pool:
        for number in range(4):
            clock.now = 1000.0 + number
            pool.touch(ONE)
            work.answers = [2.0]
            await pool.worked_off()
            if number < 2:
                assert not any(turn.settled for turn in work.turns)
        assert any(turn.settled for turn in work.turns)


async def test_a_turn_that_was_asked_for_soon_does_not_wait_for_one_that_was_to_come_later() -> (
    None
):
    work, clock = Work(), Clock()
    async with working(work, clock=clock) as pool:
        pool.settle(ONE, within=1700.0)
        pool.touch(ONE)
        work.answers = [45.0]  # a stream that rests, because somebody else writes to its key
        await pool.worked_off()
        assert await look_again(pool, work, clock, 1044.9) == []
        (turn,) = await look_again(pool, work, clock, 1045.0)
        assert (turn.session, turn.settled) == (ONE, True)


async def test_hurry_makes_no_session_seal_unless_that_was_asked_for() -> None:
    work = Work()
    async with working(work) as pool:
        pool.settle(ONE, within=1700.0)
        pool.hurry()
        await pool.worked_off()
    assert [(turn.settled, turn.sealing) for turn in work.turns] == [(True, False)]


async def test_hurry_with_seal_gives_a_sealing_turn_to_all_that_waits_or_settles() -> None:
    work = Work()
    async with working(work, quiet=3600.0, max_wait=3600.0) as pool:
        pool.settle(ONE, within=1700.0)
        pool.touch(TWO)
        pool.hurry(seal=True)
        await pool.worked_off()
    assert {(turn.session, turn.settled, turn.sealing) for turn in work.turns} == {
        (ONE, True, True),
        (TWO, True, True),
    }


async def test_a_turn_seals_once_where_it_was_asked_for_once() -> None:
    work = Work()
    async with working(work) as pool:
        pool.touch(ONE)
        pool.hurry(seal=True)
        await pool.worked_off()
        pool.touch(ONE)
        await pool.worked_off()
    assert [(turn.settled, turn.sealing) for turn in work.turns] == [(True, True), (False, False)]


async def test_a_session_that_is_worked_on_gets_a_sealing_turn_after_this_one() -> None:
    work = Work(held=True)
    async with working(work) as pool:
        pool.touch(ONE)
        await work.until_turns(1)
        pool.hurry(seal=True)
        work.finish(2)
        await pool.worked_off()
    assert [turn.sealing for turn in work.turns] == [False, True]


async def test_a_sealing_turn_that_fails_is_a_sealing_turn_when_it_is_made_again() -> None:
    work = Work()
    work.errors = [Unreachable("one")]
    async with working(work) as pool:
        pool.touch(ONE)
        pool.hurry(seal=True)
        await pool.worked_off()
    assert [(turn.settled, turn.sealing) for turn in work.turns] == [(True, True)] * 2


async def test_a_seal_that_is_asked_for_during_a_sealing_turn_is_made_after_it() -> None:
    work = Work(held=True)
    async with working(work) as pool:
        pool.touch(ONE)
        pool.hurry(seal=True)
        await work.until_turns(1)
        pool.touch(ONE)  # it was saved again since that turn read it
        pool.hurry(seal=True)
        work.finish(2)
        await pool.worked_off()
    assert [(turn.settled, turn.sealing) for turn in work.turns] == [(True, True)] * 2


async def test_hurry_ends_the_debounce() -> None:
    work = Work()
    async with working(work, quiet=3600.0, max_wait=3600.0) as pool:
        pool.touch(ONE)
        pool.hurry()
        await pool.worked_off()
    assert len(work.turns) == 1


async def test_waiting_tells_how_long_until_the_work_is_done() -> None:
    work = Work(held=True)
    async with working(work) as pool:
        pool.touch(ONE)
        assert list(pool.waiting()) == [ONE]
        await work.until_turns(1)
        assert list(pool.waiting()) == [ONE]
        assert list(pool.working_since) == [ONE]
        work.finish()
        await pool.worked_off()
        assert (pool.waiting(), pool.working_since) == ({}, {})


async def test_worked_off_does_not_wait_for_changes_that_came_later() -> None:
    work = Work(held=True)
    async with working(work) as pool:
        pool.touch(ONE)
        await work.until_turns(1)
        done = asyncio.create_task(pool.worked_off())
        await asyncio.sleep(0)
        pool.touch(TWO)
        pool.touch(ONE)
        work.finish()
        async with asyncio.timeout(10):
            await done
        work.finish(5)


async def test_with_nothing_to_do_there_is_nothing_to_wait_for() -> None:
    async with working(Work()) as pool:
        await pool.worked_off()
