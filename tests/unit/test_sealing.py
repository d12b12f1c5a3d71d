"""When a base takes in its tail: what a session's whole life costs, and how far a base is behind.

`Life` lives a session through `plan` and `sealing` as the daemon does, and counts what goes over
the wire. Nothing is sent, no time passes.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transcriptd.model import Cursor
from transcriptd.plan import SMALL, PutTail, plan
from transcriptd.sealing import MANY_SEGMENTS, Occasion, cost, is_due, seconds_left
from transcriptd.write import COPYABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

KIB, MB = 1024, 1_000_000
NOW = 1_700_000_000.0
MAX_LAG = 1800.0
QUIET_S = 60.0
A_SAVE_S = 1.0
A_MOMENT_S = 0.001
KEYS_OF_A_DELETE = 1000
EMPTY = Cursor("k", 0, 0, 0, "", "e", "m.0")
kinds = pytest.mark.parametrize("copies", [True, False], ids=["copies", "no_copies"])


def cursor(base: int, tail: int = 0, segments: int = 1, sent: int | None = None) -> Cursor:
    return replace(
        EMPTY,
        length=base + tail,
        tail_length=tail,
        segments=segments if tail else 0,
        behind_since=NOW if tail else 0.0,
        sent=base + tail if sent is None else sent,
    )


cursors = st.builds(
    cursor,
    base=st.integers(0, 10 * MB),
    tail=st.integers(0, 10 * MB),
    segments=st.integers(1, 2 * MANY_SEGMENTS),
    sent=st.integers(0, 60 * MB),
)


def due(
    what: Cursor, occasion: Occasion, after: float = 0.0, *, copies: bool = True, lag: float = 1800
) -> bool:
    return is_due(what, occasion, NOW + after, max_lag=lag, copies=copies)


class Life:
    """One session, from its first save on. Bodies in bytes.

    `copies`: the store copies bases that are large enough. `small`: what the bases of up to 16 KiB
    cost. `forced`: what was sealed because the base was behind for too long, or because somebody
    asked.
    """

    def __init__(self, *, copies: bool, archived: int = 0) -> None:
        self.copies = copies
        self.now = NOW
        self.cursor = replace(EMPTY, length=archived, sent=archived) if archived else None
        self.saves = self.requests = self.bodies = self.small = self.forced = self.seals = 0
        self.longest_lag = 0.0
        self._settles_at: float | None = None

    @property
    def length(self) -> int:
        return self.cursor.length if self.cursor else 0

    @property
    def is_copied(self) -> bool:
        """Whether the base is copied when it is sealed, as `write` says."""
        base = self.cursor.base_length if self.cursor else 0
        return self.copies and base >= COPYABLE

    def save(self, size: int, *, after: float = A_SAVE_S) -> None:
        """Let time pass, and so many bytes be appended."""
        self.wait(after)
        self.saves += 1
        length = self.length + size
        for action in plan(self.cursor, self.saves, length, extends=True):
            if isinstance(action, PutTail):
                self._put_tail(size)
            else:
                self._put_base(length, sent=length)
                self.small += length if length <= SMALL else 0
        self._seal_if_due(Occasion.WRITTEN)
        self._settles_at = self.now + QUIET_S

    def wait(self, seconds: float) -> None:
        """Let nothing happen for so long; the daemon has its settled turns meanwhile."""
        end = self.now + seconds
        while self._settles_at is not None and self._settles_at <= end:
            assert self.cursor
            self.now = self._settles_at
            self._seal_if_due(Occasion.QUIET)
            left = seconds_left(self.cursor, self.now, max_lag=MAX_LAG)
            self._settles_at = None if left is None else self.now + left + A_MOMENT_S
        self.now = end
        self._note_lag()

    def end(self) -> None:
        """Drain."""
        self._seal_if_due(Occasion.NOW)

    def _seal_if_due(self, occasion: Occasion) -> None:
        self._note_lag()
        before = self.cursor
        assert before is not None
        if not is_due(before, occasion, self.now, max_lag=MAX_LAG, copies=self.is_copied):
            return
        self.seals += 1
        sent = cost(before, copies=self.is_copied)
        if occasion is Occasion.NOW or self.now - before.behind_since >= MAX_LAG:
            self.forced += sent
        self._put_base(before.length, sent=sent)

    def _put_base(self, length: int, *, sent: int) -> None:
        before = self.cursor or EMPTY
        folded = ceil(before.segments / KEYS_OF_A_DELETE)
        self.requests += 1 + (1 + folded if before.segments else 0)  # a list, and deletes
        self.bodies += sent
        self.cursor = replace(
            before, length=length, tail_length=0, segments=0, behind_since=0.0,
            sent=before.sent + sent,
        )  # fmt: skip

    def _put_tail(self, size: int) -> None:
        before = self.cursor
        assert before is not None
        self.requests += 1
        self.bodies += size
        self.cursor = replace(
            before,
            length=before.length + size,
            tail_length=before.tail_length + size,
            segments=before.segments + 1,
            behind_since=before.behind_since or self.now,
            sent=before.sent + size,
        )

    def _note_lag(self) -> None:
        if self.cursor and self.cursor.tail_length:
            self.longest_lag = max(self.longest_lag, self.now - self.cursor.behind_since)


def grown(
    total: int, saves: int, *, copies: bool, pause_after: int = 0, pause: float = QUIET_S
) -> Life:
    """Live a session that grows to `total` bytes in so many equal saves, and drain."""
    life = Life(copies=copies)
    for number in range(saves):
        size = total * (number + 1) // saves - total * number // saves
        paused = pause_after and number and number % pause_after == 0
        life.save(size, after=pause if paused else A_SAVE_S)
    life.end()
    assert life.length == total
    return life


class TestWhatALifeCosts:
    """The scenarios that were promised, each with a last seal at its end."""

    @kinds
    @pytest.mark.parametrize(
        ("total", "saves", "pause_after"), [(1 * MB, 500, 0), (1 * MB, 500, 10), (5 * MB, 2000, 0)]
    )
    def test_a_session_below_5_mib_costs_no_more_than_4_times_its_bytes(
        self, total: int, saves: int, pause_after: int, *, copies: bool
    ) -> None:
        life = grown(total, saves, copies=copies, pause_after=pause_after)
        assert life.bodies <= 4 * total

    @pytest.mark.parametrize("pause_after", [0, 10])
    def test_a_session_of_50_mb_costs_little_more_than_twice_its_bytes(
        self, pause_after: int
    ) -> None:
        life = grown(50 * MB, 2000, copies=True, pause_after=pause_after)
        assert life.bodies <= 2.2 * 50 * MB

    def test_a_session_of_50_mb_costs_no_more_than_4_times_its_bytes_without_copies(self) -> None:
        assert grown(50 * MB, 2000, copies=False).bodies <= 4 * 50 * MB

    def test_a_session_that_lasts_for_hours_costs_more_only_where_the_lag_forces_it(self) -> None:
        life = grown(5 * MB, 2000, copies=True, pause_after=10)
        assert life.bodies > 4 * 5 * MB
        assert life.bodies - life.forced <= 4 * 5 * MB

    @pytest.mark.parametrize("append", [1, 1000, 100_000, 10 * MB])
    @pytest.mark.parametrize("after", [0.0, QUIET_S, MAX_LAG])
    def test_an_append_to_a_gigabyte_costs_twice_the_append(
        self, append: int, after: float
    ) -> None:
        life = Life(copies=True, archived=1000 * MB)
        life.save(append)
        life.wait(after)
        life.end()
        assert life.bodies <= 2 * append + 64 * KIB
        assert life.cursor
        assert not life.cursor.tail_length

    @kinds
    @pytest.mark.parametrize("pause_after", [0, 10])
    @pytest.mark.parametrize(
        ("total", "saves"), [(1 * MB, 500), (5 * MB, 2000), (50 * MB, 2000), (50 * MB, 20_000)]
    )
    def test_a_save_is_no_more_than_1_3_requests(
        self, total: int, saves: int, pause_after: int, *, copies: bool
    ) -> None:
        life = grown(total, saves, copies=copies, pause_after=pause_after)
        assert life.requests <= 1.3 * life.saves

    def test_a_busy_session_is_sealed_before_its_tail_has_a_thousand_segments(self) -> None:
        life = Life(copies=True)
        life.save(6 * MB)
        for _ in range(5000):
            life.save(1000, after=0.1)
            assert life.cursor
            assert life.cursor.segments < 1000


saves = st.lists(
    st.tuples(
        st.sampled_from([1, 200, 2000, 20_000, 300_000]) | st.integers(1, 3 * MB),
        st.sampled_from([1, 1, 3, 30, 400]),
        st.sampled_from([0.1, 1.0, 5.0, 59.0, 60.0, 61.0, 600.0]),
        st.sampled_from([0.1, 1.0, 60.0, 900.0, 4000.0]),
    ),
    min_size=1,
    max_size=12,
)
Story = list[tuple[int, int, float, float]]


def lived(story: Sequence[tuple[int, int, float, float]], *, copies: bool) -> Life:
    """Live bursts: saves of a size, so many, so far apart, and a pause behind them."""
    life = Life(copies=copies)
    for size, times, apart, pause in story:
        for _ in range(times):
            life.save(size, after=apart)
        life.wait(pause)
    forced = life.forced
    life.end()
    life.forced = forced  # the last seal is within the bound
    return life


class TestAnyLife:
    @settings(max_examples=300, deadline=None)
    @given(saves, st.booleans())
    @example([(2000, 400, 59.0, 60.0)] * 3, False)
    @example([(2000, 400, 60.0, 60.0)] * 3, True)
    def test_no_more_than_4_times_the_bytes_are_sent_unless_the_lag_forces_it(
        self,
        story: Story,
        copies: bool,  # noqa: FBT001 - hypothesis passes by position
    ) -> None:
        life = lived(story, copies=copies)
        assert life.bodies - life.forced <= 4 * life.length + life.small

    @settings(max_examples=300, deadline=None)
    @given(saves)
    def test_where_the_server_copies_a_byte_beyond_5_mib_is_sent_twice(self, story: Story) -> None:
        life = lived(story, copies=True)
        assert life.bodies - life.forced <= 2 * life.length + 2 * COPYABLE + life.small

    @settings(max_examples=300, deadline=None)
    @given(saves, st.booleans())
    def test_no_base_is_behind_for_longer_than_is_allowed(
        self,
        story: Story,
        copies: bool,  # noqa: FBT001 - hypothesis passes by position
    ) -> None:
        assert lived(story, copies=copies).longest_lag < MAX_LAG + QUIET_S + 1

    @settings(max_examples=300, deadline=None)
    @given(saves, st.booleans())
    def test_a_seal_never_costs_more_than_the_whole(
        self,
        story: Story,
        copies: bool,  # noqa: FBT001 - hypothesis passes by position
    ) -> None:
        life = lived(story, copies=copies)
        assert life.cursor
        assert life.cursor.sent == life.bodies
        assert life.bodies <= life.length + life.small + life.seals * life.length + life.length


class TestIsDue:
    @kinds
    @pytest.mark.parametrize("occasion", Occasion)
    def test_a_base_without_a_tail_takes_in_nothing(
        self, occasion: Occasion, *, copies: bool
    ) -> None:
        assert not due(cursor(10 * MB), occasion, 1e9, copies=copies)

    @kinds
    @pytest.mark.parametrize("what", [cursor(1, 1), cursor(10 * MB, 1, sent=10**12)])
    def test_a_drain_and_a_sync_seal_always(self, what: Cursor, *, copies: bool) -> None:
        assert due(what, Occasion.NOW, copies=copies)

    @kinds
    @pytest.mark.parametrize("occasion", Occasion)
    @pytest.mark.parametrize("what", [cursor(1, 1), cursor(10 * MB, 1, sent=10**12)])
    def test_a_base_that_is_behind_for_too_long_is_sealed_always(
        self, what: Cursor, occasion: Occasion, *, copies: bool
    ) -> None:
        assert due(what, occasion, MAX_LAG, copies=copies)
        assert due(what, occasion, 5.0, copies=copies, lag=5.0)

    def test_while_it_is_written_there_are_tails_only(self) -> None:
        for segments in (1, 2, MANY_SEGMENTS - 1):
            busy = cursor(10 * MB, 20 * MB, segments)
            assert not due(busy, Occasion.WRITTEN, MAX_LAG - 1)

    @pytest.mark.parametrize(
        ("base", "tail", "copies", "seals"),
        [
            (1 * MB, 1 * MB, False, True),
            (1 * MB, 1 * MB - 1, False, False),
            (1 * MB, 1 * MB - 1, True, True),
            (10 * MB, 1, True, True),
            (10 * MB, 10 * MB, False, True),
        ],
    )
    def test_at_900_segments_a_base_is_sealed_that_its_tail_is_as_long_as_or_that_is_copied(
        self, base: int, tail: int, *, copies: bool, seals: bool
    ) -> None:
        for segments in (MANY_SEGMENTS, MANY_SEGMENTS + 1, 10 * MANY_SEGMENTS):
            busy = cursor(base, tail, segments, sent=10**12)
            assert due(busy, Occasion.WRITTEN, copies=copies) is seals
        assert not due(cursor(base, tail, MANY_SEGMENTS - 1), Occasion.WRITTEN, copies=copies)

    @pytest.mark.parametrize(("sent", "seals"), [(1000, True), (1001, False), (0, True)])
    def test_when_it_is_quiet_a_seal_and_a_last_one_have_to_stay_within_3_times(
        self, sent: int, *, seals: bool
    ) -> None:
        assert due(cursor(900, 100, sent=sent), Occasion.QUIET, copies=False) is seals

    @pytest.mark.parametrize(("beyond", "seals"), [(0, True), (1, False)])
    def test_when_it_is_quiet_a_seal_that_copies_costs_its_tail_alone(
        self, beyond: int, *, seals: bool
    ) -> None:
        base, tail = 10 * MB, 1000
        most = 3 * (base + tail) - tail  # the last seal copies, too
        quiet = cursor(base, tail, sent=most + beyond)
        assert due(quiet, Occasion.QUIET) is seals
        assert not due(quiet, Occasion.QUIET, copies=False)

    def test_the_first_pause_seals_a_session_that_cost_nothing_but_its_bytes(self) -> None:
        assert due(cursor(20_000, 1000), Occasion.QUIET, copies=False)

    def test_not_every_pause_seals(self) -> None:
        life = Life(copies=True)
        for _ in range(20):
            life.save(50_000)
            life.wait(QUIET_S + 1)
        assert 0 < life.seals < 5

    @kinds
    @pytest.mark.parametrize("occasion", Occasion)
    def test_a_base_that_is_behind_since_a_time_to_come_is_sealed_always(
        self, occasion: Occasion, *, copies: bool
    ) -> None:
        """The clock was set back: how long it has been behind is not known."""
        assert due(cursor(10 * MB, 1, sent=10**12), occasion, -0.001, copies=copies)
        assert due(cursor(10 * MB, 1, sent=10**12), occasion, -1e6, copies=copies)

    @given(cursors, st.sampled_from(Occasion), st.floats(-10, 2000))
    def test_a_base_that_is_sealed_where_it_is_sent_is_sealed_where_it_is_copied(
        self, what: Cursor, occasion: Occasion, after: float
    ) -> None:
        """Whoever would have to probe for it need not, unless the answers differ."""
        assert due(what, occasion, after, copies=True) >= due(what, occasion, after, copies=False)


class TestCost:
    def test_a_seal_sends_the_whole_unless_the_base_is_copied(self) -> None:
        assert cost(cursor(10 * MB, 7), copies=True) == 7
        assert cost(cursor(10 * MB, 7), copies=False) == 10 * MB + 7


class TestSecondsLeft:
    def test_a_base_without_a_tail_is_not_behind(self) -> None:
        assert seconds_left(cursor(10), NOW, max_lag=MAX_LAG) is None

    @pytest.mark.parametrize(
        ("after", "left"), [(0.0, 1800.0), (100.0, 1700.0), (1800.0, 0.0), (9999.0, 0.0)]
    )
    def test_it_says_when_a_base_has_been_behind_for_too_long(
        self, after: float, left: float
    ) -> None:
        assert seconds_left(cursor(10, 1), NOW + after, max_lag=MAX_LAG) == left

    def test_a_clock_that_was_put_back_does_not_put_a_seal_off_for_longer(self) -> None:
        assert seconds_left(cursor(10, 1), NOW - 1e6, max_lag=MAX_LAG) == MAX_LAG

    @given(st.floats(0, 1e5))
    def test_nothing_is_left_just_when_a_seal_is_due(self, after: float) -> None:
        behind = cursor(10, 1, sent=10**9)
        left = seconds_left(behind, NOW + after, max_lag=MAX_LAG)
        assert (left == 0) is due(behind, Occasion.QUIET, after)
