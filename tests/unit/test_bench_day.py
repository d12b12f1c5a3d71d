"""The pure parts of the mixed day: what is done when, how long saves waited, what is lost."""

from __future__ import annotations

from math import inf

from tests.bench.agent import Save
from tests.bench.loss import lost_messages
from tests.bench.marker import Marker
from tests.bench.schedule import (
    CHANCE_S,
    Deed,
    Event,
    Schedule,
    Span,
    lives,
    outage_in,
    schedule,
)
from tests.bench.tap import Arrival
from tests.bench.waits import Arrived, Life, behind, delays, first_archives, recoveries

DAY_S = 3600.0
DAY = schedule(1, DAY_S)
TAKING_AWAY = {Deed.UNDO, Deed.COMPACT, Deed.DELETE}


def saved(at: float, number: int, session_id: str = "a") -> Save:
    return Save(session_id, number, at, 0, 0)


def arrived(*arrivals: tuple[float, int]) -> Arrived:
    return Arrived(Arrival(at, "a", number) for at, number in arrivals)


def of_each_session(day: Schedule) -> dict[str, list[Event]]:
    events: dict[str, list[Event]] = {}
    for event in (*day.first, *day.events):
        events.setdefault(event.session_id, []).append(event)
    return events


def test_the_same_seed_gives_the_same_day() -> None:
    assert schedule(1, DAY_S) == DAY


def test_another_seed_gives_another_day() -> None:
    assert schedule(2, DAY_S) != DAY


def test_events_come_in_their_order_and_within_the_day() -> None:
    times = [event.at for event in DAY.events]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] < DAY_S


def test_each_kind_of_event_comes_up_in_a_day_of_ten_minutes() -> None:
    assert {event.deed for event in schedule(6, 600).events} == set(Deed)


def test_forty_sessions_of_5_kb_to_2_mb_stand_at_the_beginning() -> None:
    sizes = [sum(event.sizes) for event in DAY.first]
    assert len(sizes) == 40
    assert min(sizes) >= 5_000
    assert max(sizes) <= 2_000_000 + 30_000


def test_messages_have_300_bytes_to_30_kb_apart_from_tool_results() -> None:
    sizes = {size for event in DAY.events for size in event.sizes}
    assert 200_000 in sizes
    assert all(300 <= size <= 30_000 for size in sizes - {200_000})


def test_what_is_taken_out_of_a_file_has_stood_there_for_a_while() -> None:
    for events in of_each_session(DAY).values():
        saves = [event.at for event in events if event.sizes]
        for event in events:
            before = [at for at in saves if 0 < at < event.at]
            if event.deed in TAKING_AWAY and before:
                assert event.at - max(before) >= CHANCE_S


def test_an_undo_leaves_something() -> None:
    day = schedule(21, 60)  # somebody would take away all that there is
    for events in of_each_session(day).values():
        messages = 0
        for event in events:
            if event.deed is Deed.COMPACT:
                messages += 1 - messages // 2
            messages += len(event.sizes) - event.dropped
            assert messages > 0


def test_a_short_session_is_not_compacted() -> None:
    for events in of_each_session(DAY).values():
        messages = 0
        for event in events:
            assert event.deed is not Deed.COMPACT or messages >= 20
            if event.deed is Deed.COMPACT:
                messages += 1 - messages // 2
            messages += len(event.sizes) - event.dropped


def test_nothing_is_done_to_a_session_that_was_deleted() -> None:
    for events in of_each_session(DAY).values():
        assert Deed.DELETE not in [event.deed for event in events[:-1]]


def test_while_it_is_calm_nothing_is_taken_out_of_a_file() -> None:
    calm = Span(1000, 2000)
    events = [event for event in schedule(1, DAY_S, calm=calm).events if calm.holds(event.at)]
    assert events
    assert not [event for event in events if event.deed in TAKING_AWAY]


def test_before_it_is_calm_the_day_is_the_same() -> None:
    calm = schedule(1, DAY_S, calm=Span(1000, 2000))
    assert [e for e in calm.events if e.at < 1000] == [e for e in DAY.events if e.at < 1000]


def test_the_store_is_gone_for_a_minute_in_the_middle() -> None:
    assert outage_in(600) == Span(270, 330)


def test_in_a_short_day_the_store_is_gone_for_a_third_of_it() -> None:
    assert outage_in(60) == Span(20, 40)


def test_each_contender_has_lives_of_its_own_of_4_to_9_s() -> None:
    one, other = lives(1, "one"), lives(1, "other")
    lengths = [(next(one), next(other)) for _ in range(100)]
    assert all(4 <= length <= 9 for pair in lengths for length in pair)
    assert all(a != b for a, b in lengths)


def test_a_save_waits_until_its_message_or_a_later_one_arrives() -> None:
    saves = [saved(10, 3), saved(11, 5), saved(12, 8)]
    assert delays(saves, arrived((10.5, 2), (13, 6), (14, 8), (15, 9))) == [3, 2, 2]


def test_a_save_that_never_arrives_waits_for_ever() -> None:
    assert delays([saved(10, 3)], arrived((11, 2))) == [inf]


def test_an_arrival_of_another_session_does_not_count() -> None:
    assert delays([saved(10, 3, "b")], arrived((11, 3))) == [inf]


def test_a_save_without_a_new_message_does_not_wait() -> None:
    assert delays([saved(10, 0)], arrived()) == []


def test_what_arrives_a_second_time_is_no_news() -> None:
    came = arrived((10, 3), (11, 3), (12, 2), (13, 4))
    assert came.first_between(10, 20) == 13


def test_sessions_are_behind_from_their_save_to_its_arrival() -> None:
    saves = [saved(1.5, 1), saved(2.5, 1, "b"), saved(3.5, 2)]
    assert behind(saves, arrived((4.5, 2)), 0, 6) == [0, 0, 1, 2, 2, 1, 1]


def test_a_deleted_session_is_no_longer_behind() -> None:
    assert behind([saved(1, 1), saved(2, 0)], arrived(), 0, 3) == [0, 1, 0, 0]


def test_a_session_recovers_when_what_it_was_when_the_store_came_back_arrives() -> None:
    saves = [saved(1, 1), saved(2, 2), saved(4, 3)]
    assert recoveries(saves, arrived((1.5, 1), (7, 2), (9, 3)), 3) == [4]


def test_a_session_that_was_up_to_date_has_nothing_to_recover() -> None:
    assert recoveries([saved(1, 1), saved(4, 2)], arrived((2, 1), (9, 2)), 3) == []


def test_a_life_that_begins_with_nothing_to_do_says_nothing() -> None:
    came = arrived((2, 1), (6, 2))
    assert first_archives([saved(1, 1), saved(5, 2)], came, [Life(3, 9)]) == []


def test_a_life_is_told_by_the_first_that_is_new() -> None:
    came = arrived((2, 1), (4, 1), (5, 2))
    assert first_archives([saved(1, 1), saved(2.5, 2)], came, [Life(3, 9)]) == [2]


def test_a_life_that_ends_too_early_never_archives() -> None:
    assert first_archives([saved(1, 1)], arrived((5, 1)), [Life(3, 4), Life(4, 9)]) == [inf, 1]


def test_messages_are_lost_that_were_saved_and_stand_nowhere() -> None:
    held = {Marker("a", 1), Marker("a", 3), Marker("c", 1)}
    assert lost_messages({"a": {1, 2, 3}, "b": {1}}, held) == [Marker("a", 2), Marker("b", 1)]
