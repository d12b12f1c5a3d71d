"""Bytes are lent in order, never too many at once, and always come back."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcriptd.budget import Budget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIMIT = 100


class Borrower:
    """A task that holds its bytes until it is told to give them back."""

    def __init__(self, budget: Budget, size: int, served: list[Borrower]) -> None:
        self.size = size
        self.holds = False
        self._budget = budget
        self._served = served
        self._enough = asyncio.Event()
        self.task = asyncio.create_task(self._borrow())

    async def _borrow(self) -> None:
        async with self._budget.borrow(self.size):
            self.holds = True
            self._served.append(self)
            try:
                await self._enough.wait()
            finally:
                self.holds = False

    def give_back(self) -> None:
        self._enough.set()


class Bank:
    """A budget and those who borrow from it."""

    def __init__(self) -> None:
        self.budget = Budget(LIMIT)
        self.served: list[Borrower] = []
        self.borrowers: list[Borrower] = []

    def borrow(self, size: int) -> Borrower:
        self.borrowers.append(Borrower(self.budget, size, self.served))
        return self.borrowers[-1]

    async def settle(self) -> None:
        """Let all tasks run as far as they can."""
        for _ in range(len(self.borrowers) * 2 + 5):
            await asyncio.sleep(0)


@asynccontextmanager
async def opened() -> AsyncIterator[Bank]:
    bank = Bank()
    yield bank
    for borrower in bank.borrowers:
        borrower.give_back()
    await asyncio.gather(*(b.task for b in bank.borrowers), return_exceptions=True)


async def test_what_fits_is_lent_at_once() -> None:
    async with opened() as bank:
        bank.borrow(60), bank.borrow(40)
        await bank.settle()
        assert (len(bank.served), bank.budget.lent) == (2, 100)


async def test_what_does_not_fit_waits_until_enough_came_back() -> None:
    async with opened() as bank:
        first, second = bank.borrow(60), bank.borrow(41)
        await bank.settle()
        assert not second.holds
        first.give_back()
        await bank.settle()
        assert second.holds


async def test_a_small_one_does_not_overtake_a_large_one() -> None:
    async with opened() as bank:
        bank.borrow(60)
        large, small = bank.borrow(90), bank.borrow(1)
        await bank.settle()
        assert not large.holds
        assert not small.holds


async def test_one_that_is_larger_than_all_runs_alone() -> None:
    async with opened() as bank:
        small, huge, later = bank.borrow(1), bank.borrow(LIMIT * 5), bank.borrow(1)
        await bank.settle()
        assert [small.holds, huge.holds, later.holds] == [True, False, False]
        small.give_back()
        await bank.settle()
        assert [huge.holds, later.holds] == [True, False]
        huge.give_back()
        await bank.settle()
        assert later.holds


async def test_bytes_come_back_when_the_work_fails() -> None:
    budget = Budget(LIMIT)
    with pytest.raises(ValueError):
        async with budget.borrow(LIMIT):
            raise ValueError
    assert budget.lent == 0


async def test_one_that_gives_up_waiting_makes_way_for_the_next() -> None:
    async with opened() as bank:
        bank.borrow(60)
        large, small = bank.borrow(90), bank.borrow(1)
        await bank.settle()
        large.task.cancel()
        await bank.settle()
        assert small.holds


async def test_bytes_that_come_back_as_one_gives_up_go_to_the_next() -> None:
    async with opened() as bank:
        first, second, third = bank.borrow(LIMIT), bank.borrow(LIMIT), bank.borrow(LIMIT)
        await bank.settle()
        first.task.cancel()
        second.task.cancel()
        await bank.settle()
        assert [second.task.cancelled(), third.holds] == [True, True]


async def test_one_that_gives_up_just_as_it_is_served_gives_the_bytes_back() -> None:
    budget = Budget(LIMIT)
    async with budget.borrow(LIMIT):
        waiting = asyncio.create_task(_borrow_and_end(budget))
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert budget.lent == 0


async def _borrow_and_end(budget: Budget) -> None:
    async with budget.borrow(LIMIT):
        pass


steps = st.lists(
    st.tuples(
        st.sampled_from(["borrow", "borrow", "give back", "cancel"]),
        st.integers(0, 6) | st.sampled_from([40, 60, 100, 101, 500]),
        st.booleans(),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(steps)
def test_whatever_happens_in_whatever_order_no_byte_is_lost_or_lent_twice(
    todo: list[tuple[str, int, bool]],
) -> None:
    async def scenario() -> None:
        async with opened() as bank:
            for what, number, settled in todo:
                if what == "borrow":
                    bank.borrow(number)
                elif bank.borrowers:
                    borrower = bank.borrowers[number % len(bank.borrowers)]
                    borrower.give_back() if what == "give back" else borrower.task.cancel()
                if settled:
                    await bank.settle()
                    held = [b.size for b in bank.borrowers if b.holds]
                    assert bank.budget.lent == sum(held)
                    assert sum(held) <= LIMIT or sum(map(bool, held)) == 1
            await bank.settle()
        failed = [b.task for b in bank.borrowers if not b.task.cancelled() and b.task.exception()]
        assert not failed
        assert bank.budget.lent == 0
        if all(settled for _, _, settled in todo):
            assert bank.served == [b for b in bank.borrowers if b in bank.served]

    asyncio.run(scenario())
