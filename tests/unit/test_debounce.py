"""No last change is lost, each session waits once, and none waits for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from transcriptd.debounce import Debounce
from transcriptd.model import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET, MAX_WAIT = 0.5, 5.0
SESSIONS = [Session("codetether", name, "/r", f"{name}.json") for name in "abcd"]
A, B, *_ = SESSIONS


@pytest.fixture
def debounce() -> Debounce:
    return Debounce(QUIET, MAX_WAIT)


def taken(debounce: Debounce, now: float) -> Iterator[Session]:
    while (session := debounce.take(now)) is not None:
        yield session


def test_a_session_is_due_once_it_has_been_quiet(debounce: Debounce) -> None:
    debounce.touch(A, 10.0)
    assert debounce.take(10.49) is None
    assert debounce.next_due() == 10.5
    assert debounce.take(10.5) == A


def test_since_when_each_waits_is_told_of_all_at_once(debounce: Debounce) -> None:
    debounce.touch(A, 10.0)
    debounce.touch(B, 11.0)
    debounce.touch(A, 12.0)
    assert debounce.since() == ([A, B], [10.0, 11.0])


def test_each_change_makes_the_quiet_begin_anew(debounce: Debounce) -> None:
    debounce.touch(A, 10.0)
    debounce.touch(A, 10.4)
    assert debounce.take(10.6) is None
    assert debounce.take(10.9) == A


def test_a_session_that_is_never_quiet_is_due_after_the_longest_wait(debounce: Debounce) -> None:
    for tenth in range(50):
        debounce.touch(A, tenth / 10)
    assert debounce.next_due() == MAX_WAIT
    assert debounce.take(MAX_WAIT) == A


def test_a_change_during_the_work_makes_the_session_due_again(debounce: Debounce) -> None:
    debounce.touch(A, 0.0)
    assert debounce.take(0.5) == A
    debounce.touch(A, 0.6)
    assert debounce.finish(A, 0.7) is False
    assert debounce.take(1.1) == A
    assert debounce.finish(A, 1.2) is True


def test_a_session_is_never_worked_on_twice_at_once(debounce: Debounce) -> None:
    debounce.touch(A, 0.0)
    assert debounce.take(0.5) == A
    debounce.touch(A, 0.6)
    debounce.wake(0.7)
    assert debounce.take(100.0) is None


def test_a_change_during_a_long_work_is_due_when_the_work_ends(debounce: Debounce) -> None:
    debounce.touch(A, 0.0)
    assert debounce.take(0.5) == A
    debounce.touch(A, 0.6)
    debounce.finish(A, 60.0)
    assert debounce.take(60.0) == A


def test_the_wait_after_a_change_during_the_work_counts_from_that_change(
    debounce: Debounce,
) -> None:
    debounce.touch(A, 0.0)
    assert debounce.take(0.5) == A
    for tenth in range(6, 80):
        debounce.touch(A, tenth / 10)
    debounce.finish(A, 1.0)
    assert debounce.next_due() == pytest.approx(0.6 + MAX_WAIT)


def test_work_that_ends_with_no_change_ends_the_entry(debounce: Debounce) -> None:
    debounce.touch(A, 0.0)
    assert debounce.take(0.5) == A
    assert A in debounce
    assert debounce.finish(A, 0.6) is True
    assert (len(debounce), A in debounce, debounce.next_due()) == (0, False, None)


def test_a_session_can_be_made_due_sooner(debounce: Debounce) -> None:
    debounce.touch(A, 0.0, within=0.0)
    assert debounce.take(0.0) == A


def test_a_session_can_be_given_a_longer_quiet(debounce: Debounce) -> None:
    debounce.touch(A, 0.0, within=4.0)
    assert debounce.take(3.99) is None
    assert debounce.take(4.0) == A


def test_no_longer_quiet_exceeds_the_longest_wait(debounce: Debounce) -> None:
    debounce.touch(A, 0.0, within=1700.0)
    assert debounce.next_due() == MAX_WAIT


def test_without_a_longest_wait_a_session_rests_for_as_long_as_was_asked() -> None:
    settling = Debounce(quiet=60.0, max_wait=float("inf"))
    settling.touch(A, 100.0, within=1700.0)
    assert settling.take(1799.9) is None
    assert settling.take(1800.0) == A


@pytest.mark.parametrize(("first", "then"), [(1700.0, 2.0), (2.0, 1700.0), (None, 7.0)])
def test_the_quiet_that_was_given_last_is_the_one_that_counts(
    first: float | None, then: float
) -> None:
    settling = Debounce(quiet=60.0, max_wait=float("inf"))
    settling.touch(A, 0.0, within=first)
    settling.touch(A, 1.0, within=then)
    assert settling.next_due() == 1.0 + then


def test_a_longer_quiet_that_was_given_during_the_work_counts_from_then() -> None:
    settling = Debounce(quiet=60.0, max_wait=float("inf"))
    settling.touch(A, 0.0, within=0.0)
    assert settling.take(0.0) == A
    settling.touch(A, 5.0, within=1700.0)
    assert settling.finish(A, 6.0) is False
    assert settling.next_due() == 1705.0


def test_waking_ends_a_longer_quiet(debounce: Debounce) -> None:
    debounce.touch(A, 0.0, within=4.0)
    debounce.wake(0.1)
    assert debounce.take(0.1) == A


def test_waking_makes_all_that_waits_due(debounce: Debounce) -> None:
    for session in SESSIONS:
        debounce.touch(session, 0.0)
    debounce.wake(0.1)
    assert sorted(s.id for s in taken(debounce, 0.1)) == ["a", "b", "c", "d"]


def test_waking_makes_nothing_due_later(debounce: Debounce) -> None:
    debounce.touch(A, 0.0)
    debounce.wake(100.0)
    assert debounce.next_due() == 0.5


def test_the_session_that_is_due_first_comes_first(debounce: Debounce) -> None:
    debounce.touch(B, 0.0)
    debounce.touch(A, 0.1)
    assert list(taken(debounce, 9.0)) == [B, A]


def test_sessions_that_are_due_together_come_in_the_order_of_their_changes(
    debounce: Debounce,
) -> None:
    for session in SESSIONS:
        debounce.touch(session, 0.0)
    assert list(taken(debounce, 9.0)) == SESSIONS


def test_it_says_since_when_a_session_waits(debounce: Debounce) -> None:
    debounce.touch(A, 1.0)
    debounce.touch(A, 1.2)
    assert (debounce.waiting_since(A), debounce.waiting_since(B)) == (1.0, None)


def test_after_clearing_nothing_waits(debounce: Debounce) -> None:
    debounce.touch(A, 0.0)
    debounce.clear()
    assert (len(debounce), debounce.next_due(), debounce.take(9.0)) == (0, None, None)


@settings(max_examples=20)
@given(st.lists(st.sampled_from(SESSIONS), min_size=500, max_size=500))
def test_what_is_remembered_does_not_grow_with_the_number_of_changes(
    changed: list[Session],
) -> None:
    debounce = Debounce(QUIET, MAX_WAIT)
    for number, session in enumerate(changed):
        debounce.touch(session, number / 1000)
    assert len(debounce._heap) < 100


class Debouncing(RuleBasedStateMachine):
    """Against a model that remembers, for each session, the changes that no work has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.debounce = Debounce(QUIET, MAX_WAIT)
        self.now = 0.0
        self.unseen: dict[Session, list[float]] = {}
        self.quiet: dict[Session, float] = {}  # after the last change
        self.running: set[Session] = set()
        self.woken: set[Session] = set()
        self.finished = dict.fromkeys(SESSIONS, 0.0)

    @rule(step=st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.5, 1.0, 5.0, 60.0]))
    def time_passes(self, step: float) -> None:
        self.now += step

    @rule(
        session=st.sampled_from(SESSIONS),
        within=st.sampled_from([None, None, 0.0, 0.2, 3.0, 1700.0]),
    )
    def a_session_changes(self, session: Session, within: float | None) -> None:
        self.debounce.touch(session, self.now, within=within)
        self.unseen.setdefault(session, []).append(self.now)
        self.quiet[session] = QUIET if within is None else within
        if session not in self.running:
            self.woken.discard(session)

    @rule()
    def all_is_woken(self) -> None:
        self.debounce.wake(self.now)
        self.woken |= self.unseen.keys()

    @rule()
    def one_is_taken(self) -> None:
        session = self.debounce.take(self.now)
        if session is None:
            for waiting in self.unseen.keys() - self.running:
                assert self.now < self.deadline(waiting)
            return
        assert session not in self.running
        changes = self.unseen.pop(session)
        if session not in self.woken:
            assert self.now >= min(changes[-1] + self.quiet[session], changes[0] + MAX_WAIT)
        self.woken.discard(session)
        self.running.add(session)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def one_is_finished(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(self.running, key=lambda s: s.id)))
        self.running.discard(session)
        assert self.debounce.finish(session, self.now) is (session not in self.unseen)
        self.finished[session] = self.now

    def deadline(self, session: Session) -> float:
        return max(self.unseen[session][0] + MAX_WAIT, self.finished[session])

    @invariant()
    def each_session_has_one_entry(self) -> None:
        expected = self.unseen.keys() | self.running
        assert len(self.debounce) == len(expected)
        assert set(self.debounce.sessions()) == expected

    @invariant()
    def none_waits_longer_than_the_longest_wait(self) -> None:
        waiting = self.unseen.keys() - self.running
        due = self.debounce.next_due()
        assert (due is not None) == bool(waiting)
        assert due is None or due <= min(map(self.deadline, waiting))

    @invariant()
    def it_knows_the_oldest_change_that_waits(self) -> None:
        for session in self.unseen.keys() - self.running:
            assert self.debounce.waiting_since(session) == self.unseen[session][0]

    def teardown(self) -> None:
        for session in self.running:
            self.debounce.finish(session, self.now)
        for session in taken(self.debounce, self.now + MAX_WAIT):
            del self.unseen[session]
            self.debounce.finish(session, self.now + MAX_WAIT)
        assert not self.unseen, "a last change was lost"


TestNoChangeIsLost = Debouncing.TestCase
TestNoChangeIsLost.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
