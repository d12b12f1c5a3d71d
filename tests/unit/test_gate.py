"""A store that fails is asked by one attempt at a time, and left alone in between."""

from __future__ import annotations

import asyncio
import random
import selectors
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcriptd.errors import (
    AuthFailed,
    Behind,
    BucketMissing,
    ConditionFailed,
    ServerError,
    SlowDown,
    StoreError,
    Unreachable,
)
from transcriptd.gate import Gate, Pressure
from transcriptd.retry import until_done

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from selectors import SelectorKey

T = TypeVar("T")
HIGHEST = 8


class Idle(selectors.DefaultSelector):
    """Instead of waiting, lets the loop's time pass; a wait without an end is an error."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits, and nothing will ever happen"
            self.now += timeout
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """A loop in which time passes only when nothing can run."""

    def __init__(self) -> None:
        self.idle = Idle()
        super().__init__(self.idle)

    def time(self) -> float:
        return self.idle.now


def simulate(main: Coroutine[object, object, T]) -> T:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


def opened(jitter: float = 0.5, **options: Callable[[StoreError | None], None]) -> Gate:
    return Gate(HIGHEST, clock=now, jitter=lambda: jitter, **options)


class Store:
    """Takes `seconds` for an answer and fails as long as `error` is set."""

    def __init__(self, gate: Gate, *, seconds: float = 0.1) -> None:
        self.gate = gate
        self.seconds = seconds
        self.error: StoreError | None = None
        self.asked: list[float] = []
        self.at_once = 0
        self.most_at_once = 0
        self.done = 0

    async def ask(self) -> None:
        async with self.gate.turn():
            self.asked.append(now())
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                await asyncio.sleep(self.seconds)
            finally:
                self.at_once -= 1
            if self.error is not None:
                raise self.error
        self.done += 1

    async def ask_until_answered(self) -> None:
        await until_done(self.ask)


async def fail(gate: Gate, error: StoreError) -> None:
    with suppress(StoreError):
        async with gate.turn():
            raise error


class TestPressure:
    pressure = Pressure(highest=8, limit=8.0)

    @pytest.mark.parametrize(
        ("error", "longest"), [(Unreachable, 15), (ServerError, 15), (AuthFailed, 300)]
    )
    def test_a_store_that_may_be_back_at_any_moment_is_asked_after_15_seconds_at_the_latest(
        self, error: type[StoreError], longest: float
    ) -> None:
        pressure = self.pressure
        for _ in range(20):
            pressure = pressure.failed(error(), pressure.epoch, 0.0, 0.999)
        assert pressure.not_before == pytest.approx(longest, rel=0.01)

    def test_a_store_that_asks_for_less_gets_half(self) -> None:
        slower = self.pressure.failed(SlowDown(), 0, 0.0, 0.5)
        assert (slower.limit, slower.slots) == (4.0, 4)

    @pytest.mark.parametrize("error", [ServerError(), Unreachable(), AuthFailed()])
    def test_a_store_that_fails_gets_one_at_a_time(self, error: StoreError) -> None:
        assert self.pressure.failed(error, 0, 0.0, 0.5).slots == 1

    def test_a_store_that_is_down_stays_down_when_it_asks_for_less(self) -> None:
        down = self.pressure.failed(Unreachable(), 0, 0.0, 0.5)
        assert down.failed(SlowDown(), down.epoch, 0.0, 0.5).slots == 1

    def test_failures_of_attempts_that_ran_together_count_once(self) -> None:
        once = self.pressure.failed(SlowDown(), 0, 0.0, 0.5)
        assert once.failed(SlowDown(), 0, 0.0, 0.5) == once

    def test_an_attempt_that_began_before_the_failure_does_not_end_the_pause(self) -> None:
        failing = self.pressure.failed(SlowDown(retry_after=30), 0, 0.0, 0.5)
        assert failing.succeeded(0) == failing

    def test_one_success_ends_the_failing(self) -> None:
        failing = self.pressure.failed(SlowDown(), 0, 0.0, 0.5)
        well = failing.succeeded(failing.epoch)
        assert (well.failures, well.not_before, well.down) == (0, 0.0, False)

    def test_after_enough_successes_all_is_as_before(self) -> None:
        pressure = self.pressure.failed(Unreachable(), 0, 0.0, 0.5)
        for _ in range(40):
            pressure = pressure.succeeded(pressure.epoch)
        assert pressure.slots == 8

    @given(st.lists(st.sampled_from(["slow", "down", "well"]), max_size=40))
    def test_there_are_never_fewer_slots_than_one_or_more_than_the_highest(
        self, story: list[str]
    ) -> None:
        pressure = self.pressure
        for what in story:
            if what == "well":
                pressure = pressure.succeeded(pressure.epoch)
            else:
                error = SlowDown() if what == "slow" else Unreachable()
                pressure = pressure.failed(error, pressure.epoch, 0.0, 0.5)
            assert 1 <= pressure.slots <= 8

    @given(
        st.integers(0, 40) | st.just(2000),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from([0.0, 7.0, 900.0]),
        st.sampled_from([Unreachable, SlowDown, ServerError, AuthFailed]),
    )
    def test_a_pause_doubles_up_to_what_the_error_says_unless_the_server_asks_for_more(
        self, before: int, jitter: float, retry_after: float, kind: type[StoreError]
    ) -> None:
        pressure = self.pressure
        for _ in range(before):
            pressure = pressure.failed(ServerError(), pressure.epoch, 0.0, 0.0)
        error = kind(retry_after=retry_after)
        pause = pressure.failed(error, pressure.epoch, 100.0, jitter).not_before - 100.0
        longest = min(kind.longest_pause, 2.0 ** min(before, 20))
        assert pause == pytest.approx(max(retry_after, jitter * longest))


class TestTurns:
    def test_as_many_run_at_once_as_there_are_slots(self) -> None:
        async def scenario() -> Store:
            store = Store(opened())
            async with asyncio.TaskGroup() as group:
                for _ in range(50):
                    group.create_task(store.ask())
            return store

        store = simulate(scenario())
        assert (store.most_at_once, store.done) == (HIGHEST, 50)

    def test_turns_come_in_the_order_in_which_they_were_asked_for(self) -> None:
        async def scenario() -> list[int]:
            gate, order = Gate(1, clock=now), []

            async def take(number: int) -> None:
                async with gate.turn():
                    order.append(number)
                    await asyncio.sleep(0)

            async with asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(take(number))
            return order

        assert simulate(scenario()) == list(range(20))

    def test_an_hour_of_outage_costs_eight_probes_a_minute_however_many_wait(self) -> None:
        async def scenario(waiting: int) -> tuple[Store, int]:
            store = Store(opened())
            store.error = Unreachable()
            async with asyncio.TaskGroup() as group:
                for _ in range(waiting):
                    group.create_task(store.ask_until_answered())
                await asyncio.sleep(3600)
                asked = len(store.asked)
                store.error = None
            return store, asked

        few, asked_by_few = simulate(scenario(10))
        many, asked_by_many = simulate(scenario(500))
        assert asked_by_many == asked_by_few < HIGHEST + 8 * 60
        assert (few.done, many.done) == (10, 500)

    def test_only_one_attempt_is_under_way_while_the_store_is_down(self) -> None:
        async def scenario() -> Store:
            store = Store(opened(), seconds=7.0)
            await fail(store.gate, Unreachable())
            store.error = Unreachable()
            async with asyncio.TaskGroup() as group:
                for _ in range(100):
                    group.create_task(store.ask_until_answered())
                await asyncio.sleep(600)
                assert store.most_at_once == 1
                store.error = None
            return store

        assert simulate(scenario()).done == 100

    @pytest.mark.parametrize(
        ("error", "longest"),
        [(Unreachable, 15), (AuthFailed, 300), (BucketMissing, 300)],
    )
    def test_a_store_that_may_be_back_is_asked_sooner_than_what_a_person_has_to_mend(
        self, error: type[StoreError], longest: float
    ) -> None:
        async def scenario() -> list[float]:
            store = Store(opened(jitter=0.999), seconds=0.0)
            store.error = error()
            waiting = [asyncio.create_task(store.ask_until_answered()) for _ in range(3)]
            await asyncio.sleep(3600)
            for task in waiting:
                task.cancel()
            return store.asked

        asked = simulate(scenario())[3:]
        pauses = [round(after - before, 3) for before, after in pairwise(asked)]
        assert pauses == sorted(pauses)
        assert max(pauses) == pytest.approx(longest, rel=0.01)

    def test_the_server_says_when_it_may_be_asked_again(self) -> None:
        async def scenario() -> Store:
            store = Store(opened())
            tasks = [asyncio.create_task(store.ask_until_answered()) for _ in range(HIGHEST)]
            await asyncio.sleep(0.05)
            store.error = SlowDown(retry_after=45.0)
            await asyncio.sleep(0.06)
            store.error = None
            await asyncio.gather(*tasks)
            return store

        store = simulate(scenario())
        assert min(store.asked[HIGHEST:]) == pytest.approx(45.1)

    def test_an_attempt_that_was_under_way_does_not_cut_the_servers_pause_short(self) -> None:
        async def scenario() -> float:
            gate = opened()
            store = Store(gate, seconds=1.0)
            slow = asyncio.create_task(store.ask())
            await asyncio.sleep(0)
            await fail(gate, SlowDown(retry_after=45.0))
            await slow
            await store.ask()
            return store.asked[-1]

        assert simulate(scenario()) == pytest.approx(45.0)

    @pytest.mark.parametrize("refused_of_ten", [1, 5, 9])
    def test_a_storm_of_refusals_costs_few_more_requests_than_it_refuses(
        self, refused_of_ten: int
    ) -> None:
        async def scenario() -> Store:
            store, chance = Store(opened()), random.Random(1)

            async def attempt() -> None:
                async with store.gate.turn():
                    store.asked.append(now())
                    await asyncio.sleep(0.1)
                    if chance.random() < refused_of_ten / 10:
                        raise SlowDown

            async with asyncio.TaskGroup() as group:
                for _ in range(200):
                    group.create_task(until_done(attempt))
            return store

        asked = len(simulate(scenario()).asked)
        assert asked < 1.5 * 200 / (1 - refused_of_ten / 10)

    def test_concurrency_halves_when_the_store_asks_for_less_and_then_recovers(self) -> None:
        async def scenario() -> list[int]:
            store = Store(opened(), seconds=1.0)
            store.error = SlowDown()
            most = []
            async with asyncio.TaskGroup() as group:
                for _ in range(100):
                    group.create_task(store.ask_until_answered())
                await asyncio.sleep(1.01)
                store.error, store.most_at_once = None, 0
                await asyncio.sleep(1.4)
                most.append(store.most_at_once)
            most.append(store.most_at_once)
            return most

        assert simulate(scenario()) == [HIGHEST // 2, HIGHEST]

    def test_an_error_of_one_object_slows_nobody_down(self) -> None:
        async def scenario() -> Pressure:
            gate = opened()
            await fail(gate, ConditionFailed())
            return gate.pressure

        assert simulate(scenario()) == Pressure(highest=HIGHEST, limit=float(HIGHEST))

    @pytest.mark.parametrize("answer", [ConditionFailed(), Behind()])
    def test_a_refusal_that_concerns_one_object_shows_that_the_store_is_there(
        self, answer: Exception
    ) -> None:
        async def scenario() -> Gate:
            gate = opened()
            await fail(gate, Unreachable())
            with suppress(type(answer)):
                async with gate.turn():
                    raise answer
            return gate

        gate = simulate(scenario())
        assert (gate.error, gate.pressure.down) == (None, False)

    @pytest.mark.parametrize("error", [ValueError, KeyError, asyncio.CancelledError])
    def test_whatever_ends_an_attempt_its_turn_goes_to_the_next(
        self, error: type[BaseException]
    ) -> None:
        async def scenario() -> int:
            gate = Gate(1, clock=now)
            with suppress(error):
                async with gate.turn():
                    raise error
            await Store(gate).ask()
            return gate.in_flight

        assert simulate(scenario()) == 0

    def test_forgetting_the_pause_lets_a_probe_through_at_once(self) -> None:
        async def scenario() -> float:
            gate = opened()
            store = Store(gate)
            await fail(gate, SlowDown(retry_after=1000.0))
            waiting = asyncio.create_task(store.ask())
            await asyncio.sleep(3.0)
            gate.reset()
            await waiting
            return store.asked[0]

        assert simulate(scenario()) == pytest.approx(3.0)

    def test_it_is_free_only_when_an_attempt_would_start_at_once(self) -> None:
        async def scenario() -> list[bool]:
            gate = opened()
            said = [gate.is_free]
            await fail(gate, ServerError(retry_after=10.0))
            said.append(gate.is_free)
            await asyncio.sleep(10.0)
            said.append(gate.is_free)
            async with gate.turn():
                said.append(gate.is_free)
            return said

        assert simulate(scenario()) == [True, False, True, False]

    def test_each_failure_and_the_recovery_are_told_once(self) -> None:
        async def scenario() -> list[StoreError | None]:
            told: list[StoreError | None] = []
            store = Store(opened(on_change=told.append))
            store.error = Unreachable()
            async with asyncio.TaskGroup() as group:
                for _ in range(HIGHEST):
                    group.create_task(store.ask_until_answered())
                await asyncio.sleep(0.11)
                assert told == [store.error]
                store.error = None
            assert store.gate.error is None
            return told

        first, second = simulate(scenario())
        assert isinstance(first, Unreachable)
        assert second is None

    def test_whoever_waits_for_hopelessness_hears_of_the_last_failure_needed(self) -> None:
        async def scenario() -> float:
            store = Store(opened(jitter=0.999), seconds=0.0)
            store.error = Unreachable()
            asking = asyncio.create_task(store.ask_until_answered())
            await store.gate.hopeless(3)
            asking.cancel()
            return len(store.asked)

        assert simulate(scenario()) == 3


class TestCancelling:
    def test_one_that_gives_up_waiting_takes_no_turn_along(self) -> None:
        async def scenario() -> tuple[int, int]:
            gate = Gate(1, clock=now)
            store = Store(gate)
            running, gives_up, waits = (asyncio.create_task(store.ask()) for _ in range(3))
            await asyncio.sleep(0.05)
            gives_up.cancel()
            await asyncio.gather(running, waits)
            return store.done, gate.in_flight

        assert simulate(scenario()) == (2, 0)

    def test_one_that_gives_up_as_a_turn_becomes_free_is_cancelled_and_nothing_else(self) -> None:
        async def scenario() -> tuple[bool, int, int]:
            gate = Gate(1, clock=now)
            store = Store(gate)
            running, gives_up, waits = (asyncio.create_task(store.ask()) for _ in range(3))
            await asyncio.sleep(0.05)
            running.cancel()
            gives_up.cancel()
            await asyncio.gather(running, gives_up, waits, return_exceptions=True)
            return gives_up.cancelled(), store.done, gate.in_flight

        assert simulate(scenario()) == (True, 1, 0)

    def test_one_that_gives_up_just_as_it_has_its_turn_hands_it_on(self) -> None:
        async def scenario() -> tuple[int, int]:
            gate = Gate(1, clock=now)
            store = Store(gate)
            async with gate.turn():
                gives_up, waits = (asyncio.create_task(store.ask()) for _ in range(2))
                await asyncio.sleep(0)
            gives_up.cancel()
            await waits
            return store.done, gate.in_flight

        assert simulate(scenario()) == (1, 0)

    def test_a_probe_that_is_cancelled_lets_the_next_one_through(self) -> None:
        async def scenario() -> tuple[int, int]:
            gate = opened()
            store = Store(gate, seconds=5.0)
            await fail(gate, Unreachable())
            probe, waits = (asyncio.create_task(store.ask()) for _ in range(2))
            await asyncio.sleep(2.0)
            assert store.at_once == 1
            probe.cancel()
            await waits
            return store.done, gate.in_flight

        assert simulate(scenario()) == (1, 0)

    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["ask", "ask", "cancel", "down", "slow", "up", "reset"]),
                st.integers(0, 20),
                st.sampled_from([0.0, 0.0, 0.05, 0.1, 3.0]),
            ),
            max_size=40,
        )
    )
    def test_whatever_happens_in_whatever_order_no_turn_is_lost_or_given_twice(
        self, todo: list[tuple[str, int, float]]
    ) -> None:
        async def scenario() -> None:
            store, tasks, given_up = Store(opened()), [], set()
            for what, number, seconds in todo:
                match what:
                    case "ask":
                        tasks.append(asyncio.create_task(store.ask_until_answered()))
                    case "cancel" if tasks:
                        task = tasks[number % len(tasks)]
                        if task.cancel():
                            given_up.add(task)
                    case "down":
                        store.error = Unreachable()
                    case "slow":
                        store.error = SlowDown(retry_after=float(number))
                    case "up":
                        store.error = None
                    case "reset":
                        store.gate.reset()
                await asyncio.sleep(seconds)
            store.error = None
            await asyncio.gather(*tasks, return_exceptions=True)
            assert all(task.cancelled() is (task in given_up) for task in tasks)
            assert store.done == len(tasks) - len(given_up)
            assert (store.gate.in_flight, store.at_once) == (0, 0)
            assert store.most_at_once <= HIGHEST

        simulate(scenario())
