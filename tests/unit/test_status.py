"""What is going on: each change of state is kept, and said once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from transcriptd.model import Session, State
from transcriptd.status import Histogram, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping
    from typing import Any

    Events = list[MutableMapping[str, Any]]

ONE = Session("codetether", "one", "/r", "one.json")


@pytest.fixture
def logged() -> Iterator[Events]:
    with capture_logs() as events:
        yield events


def names(logged: Events) -> list[str]:
    return [event["event"] for event in logged]


def test_a_session_that_is_current_is_not_kept(logged: Events) -> None:
    status = Status()
    status.set(ONE, State.UPLOADING)
    assert status.sessions[ONE].state is State.UPLOADING
    status.set(ONE, State.CURRENT)
    assert status.sessions == {}
    assert logged == [], "the way of every save is not worth a line"


def test_a_quarantine_is_logged_once_with_its_reason(logged: Events) -> None:
    status = Status()
    for _ in range(3):
        status.set(ONE, State.QUARANTINED, "empty", "the file is empty")
    assert names(logged) == ["session.quarantined"]
    assert (logged[0]["reason"], logged[0]["session"]) == ("empty", "one")


def test_another_reason_is_logged_again(logged: Events) -> None:
    status = Status()
    status.set(ONE, State.QUARANTINED, "empty")
    status.set(ONE, State.QUARANTINED, "wrong_id")
    assert [event["reason"] for event in logged] == ["empty", "wrong_id"]


def test_since_is_when_the_state_began(logged: Events) -> None:
    status = Status()
    status.set(ONE, State.QUARANTINED, "empty")
    since = status.sessions[ONE].since
    status.set(ONE, State.QUARANTINED, "empty")
    assert status.sessions[ONE].since == since


@pytest.mark.parametrize("state", [State.CONFLICT, State.BEHIND])
def test_a_session_that_was_set_aside_is_logged_once(logged: Events, state: State) -> None:
    status = Status()
    for _ in range(2):
        status.set(ONE, state, "because", "why")
    assert names(logged) == ["session.set_aside"]
    assert logged[0]["state"] == state.value


def test_coming_back_from_a_state_of_its_own_is_logged(logged: Events) -> None:
    status = Status()
    status.set(ONE, State.QUARANTINED, "empty")
    status.set(ONE, State.CURRENT)
    assert names(logged) == ["session.quarantined", "session.recovered"]
    assert logged[1]["was"] == "quarantined"


def test_what_is_degraded_is_logged_when_it_begins_and_when_it_ends(logged: Events) -> None:
    status = Status()
    for _ in range(3):
        status.degrade("store_unreachable", "refused", "start it")
    assert status.degraded["store_unreachable"].hint == "start it"
    status.recover("store_unreachable", "auth")
    status.recover("store_unreachable")
    assert status.degraded == {}
    assert names(logged) == ["daemon.degraded", "daemon.recovered"]


def test_an_archived_save_is_counted_measured_and_logged(logged: Events) -> None:
    status = Status()
    status.archived(ONE, 0.2, 1234, 1)
    assert status.events["archived"] == 1
    assert status.last_archived is not None
    assert names(logged) == ["session.archived"]
    assert (logged[0]["length_bytes"], logged[0]["generation"]) == (1234, 1)


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram()
    for seconds in (0.01, 0.05, 0.2, 2.0, 10_000.0):
        histogram.observe(seconds)
    counted = dict(histogram.buckets())
    assert (counted["0.05"], counted["0.25"], counted["2.5"]) == (2, 3, 4)
    assert (counted["1800.0"], counted["+Inf"]) == (4, 5)
    assert histogram.total == pytest.approx(10_002.26)
