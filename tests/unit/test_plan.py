"""Whatever stands in the source and in the archive, no action loses a byte of either.

`World` is an archive in a few fields; it carries out actions and refuses those that would lose
something. The tests below go through every combination of small sources, archives and cursors.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcriptd.digest import digest
from transcriptd.layout import Meta, machine_of
from transcriptd.model import Cursor
from transcriptd.plan import (
    Begin,
    Continue,
    KeepForeign,
    Preserve,
    PutBase,
    Relation,
    Remote,
    StepAside,
    Wait,
    plan,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transcriptd.plan import Action, Settlement

KEY = "history/s1/history.jsonl"
US, US_BEFORE, OTHER = "laptop.aaaa", "laptop.bbbb", "desk.cccc"
CONTENTS = [b"".join(lines) for n in range(3) for lines in product((b"a\n", b"b\n"), repeat=n)]


@dataclass(frozen=True, slots=True)
class Base:
    """`writer` is empty where somebody wrote it without our metadata."""

    content: bytes
    generation: int
    writer: str
    etag: str = "e0"


@dataclass(slots=True)
class World:
    """What stands in the archive under one key, and beside it."""

    base: Base | None
    closed: dict[int, bytes] = field(default_factory=dict)
    foreign: list[bytes] = field(default_factory=list)

    def highest_closed(self) -> int:
        return max(self.closed, default=-1)

    def carry_out(self, action: Action, source: bytes) -> None:
        match action:
            case Preserve(generation, etag):
                assert self.base is not None
                meant = (self.base.generation, self.base.etag)
                assert meant == (generation, etag), "this is not what stands there"
                kept = self.closed.setdefault(generation, self.base.content)
                assert kept == self.base.content, "a finished generation can never change"
            case KeepForeign(etag):
                assert self.base is not None
                assert self.base.etag == etag
                self.foreign.append(self.base.content)
            case PutBase(generation, replaces):
                assert replaces == (self.base.etag if self.base else ""), "the condition fails"
                assert generation not in self.closed, "a closed generation is closed for ever"
                self.require_nothing_is_lost(generation, source)
                etag = f"e{int(self.base.etag[1:]) + 1 if self.base else 0}"
                self.base = Base(source, generation, US, etag)

    def require_nothing_is_lost(self, generation: int, source: bytes) -> None:
        base = self.base
        if base is None or source.startswith(base.content):
            return
        kept = self.closed.get(base.generation) if base.writer else None
        assert kept == base.content or (not base.writer and base.content in self.foreign)
        assert not base.writer or generation > base.generation


@dataclass(frozen=True, slots=True)
class Case:
    """A source, an archive, and what is remembered of it."""

    source: bytes
    base: Base | None
    closed: dict[int, bytes]
    remembered: tuple[int, bytes] | None

    @property
    def cursor(self) -> Cursor | None:
        if self.remembered is None:
            return None
        generation, content = self.remembered
        return cursor_of(Base(content, generation, US))

    @property
    def extends(self) -> bool:
        return self.remembered is None or self.source.startswith(self.remembered[1])

    def world(self) -> World:
        return World(self.base, dict(self.closed))

    def settle(self, world: World) -> Settlement:
        return settle(
            KEY,
            remote_of(world.base, self.source),
            closed=world.highest_closed(),
            writer=US,
            cursor=self.cursor,
            extends=self.extends,
        )

    def actions(self, world: World) -> tuple[Action, ...]:
        """Decide as `upload` does."""
        match self.settle(world):
            case Continue(cursor):
                records, closed = records_of(self.source), world.highest_closed()
                return plan(cursor, records, len(self.source), extends=True, closed=closed)
            case Begin(actions):
                return actions
        return ()


def records_of(content: bytes) -> int:
    return content.count(b"\n")


def cursor_of(base: Base) -> Cursor:
    return Cursor(
        key=KEY,
        generation=base.generation,
        records=records_of(base.content),
        length=len(base.content),
        digest=digest(base.content),
        etag=base.etag,
        writer=base.writer or US,
    )


def meta_of(base: Base) -> Meta | None:
    if not base.writer:
        return None
    return Meta(
        generation=base.generation,
        records=records_of(base.content),
        length=len(base.content),
        digest=digest(base.content),
        writer=base.writer,
        source="codetether",
    )


def remote_of(base: Base | None, source: bytes) -> Remote | None:
    if base is None:
        return None
    if source.startswith(base.content):
        relation = Relation.EXTENDS
    elif base.content.startswith(source):
        relation = Relation.BEHIND
    else:
        relation = Relation.DIFFERS
    shared = source[: len(base.content)]
    return Remote(
        base.etag, meta_of(base), relation, records_of(shared), len(shared), digest(shared)
    )


def cases() -> Iterator[Case]:
    """Every combination. A generation below the base's was closed, or taken away by somebody."""
    bases = [
        Base(content, generation if writer else -1, writer)
        for content, generation, writer in product(CONTENTS, range(3), (US, US_BEFORE, OTHER, ""))
        if writer or generation == 0
    ]
    remembered = [None, *product(range(4), [b"", b"a\n", b"a\nb\n", b"b\n"])]
    for source, base, cursor, highest in product(
        CONTENTS, [None, *bases], remembered, (-1, 0, 1, 2)
    ):
        closed = {n: b"closed %d\n" % n for n in range(highest + 1)}
        if base and base.generation in closed:
            closed[base.generation] = base.content  # a crash between preserving and replacing
        yield Case(source, base, closed, cursor)


ALL = list(cases())


class TestEveryCombination:
    def test_no_action_loses_a_byte(self) -> None:
        for case in ALL:
            world = case.world()
            for action in case.actions(world):
                world.carry_out(action, case.source)

    def test_in_the_end_the_source_stands_in_the_archive_or_nothing_was_written(self) -> None:
        for case in ALL:
            world = case.world()
            actions = case.actions(world)
            for action in actions:
                world.carry_out(action, case.source)
            if isinstance(case.settle(case.world()), StepAside | Wait):
                assert not actions
            else:
                assert world.base is not None
                assert world.base.content == case.source

    def test_a_crash_between_any_two_actions_loses_nothing_and_is_made_good(self) -> None:
        for case in ALL:
            for done in range(1, len(case.actions(case.world()))):
                world = case.world()
                for action in case.actions(world)[:done]:
                    world.carry_out(action, case.source)
                for action in case.actions(world):
                    world.carry_out(action, case.source)
                assert world.base is not None
                assert world.base.content == case.source

    def test_what_was_put_is_recognised_when_the_answer_was_lost(self) -> None:
        for case in ALL:
            world = case.world()
            for action in case.actions(world):
                world.carry_out(action, case.source)
            if world.base != case.base:
                assert not case.actions(world)

    def test_the_number_of_a_new_generation_was_never_used(self) -> None:
        for case in ALL:
            for action in case.actions(case.world()):
                if isinstance(action, PutBase) and not continues(case, action.generation):
                    assert action.generation not in case.closed
                    assert case.base is None or action.generation > case.base.generation
                    assert case.remembered is None or action.generation > case.remembered[0]

    def test_another_machines_base_gives_way_only_to_what_extends_it(self) -> None:
        for case in ALL:
            if case.base and case.base.writer and machine_of(case.base.writer) == "desk":
                extends = case.source.startswith(case.base.content)
                assert extends or not case.actions(case.world())

    def test_a_base_without_our_metadata_is_kept_unless_the_source_extends_it(self) -> None:
        for case in ALL:
            if case.base and not case.base.writer:
                actions = case.actions(case.world())
                extends = case.source.startswith(case.base.content)
                assert extends or not actions or isinstance(actions[0], KeepForeign)

    def test_nothing_is_written_while_the_archive_holds_more(self) -> None:
        for case in ALL:
            longer = case.base and len(case.base.content) > len(case.source)
            if case.base and longer and case.base.content.startswith(case.source):
                assert isinstance(case.settle(case.world()), Wait)

    def test_a_cursor_says_what_stands_in_the_archive_and_nothing_else(self) -> None:
        for case in ALL:
            settlement = case.settle(case.world())
            if isinstance(settlement, Continue):
                assert case.base is not None
                expected = cursor_of(case.base)
                generation = settlement.cursor.generation
                if case.base.writer:
                    assert settlement.cursor == expected
                else:
                    assert settlement.cursor == replace(expected, generation=generation)


def continues(case: Case, generation: int) -> bool:
    """Whether this generation goes on: the archive's, or the one that somebody overwrote."""
    if case.base is None:
        return False
    if case.base.writer:
        return generation == case.base.generation
    return case.remembered is not None and generation == case.remembered[0] and case.extends


class TestPlan:
    """With a cursor that is known to be what the archive holds."""

    cursor = cursor_of(Base(b"a\nb\n", 3, US, "e7"))

    def test_the_first_lines_make_a_base_of_generation_0(self) -> None:
        assert plan(None, 1, 2, extends=True) == (PutBase(0, replaces=""),)

    def test_a_session_without_messages_makes_no_base(self) -> None:
        assert plan(None, 0, 0, extends=True) == ()

    def test_what_is_archived_already_needs_nothing(self) -> None:
        assert plan(self.cursor, 2, 4, extends=True) == ()

    def test_a_source_that_grew_replaces_its_base_by_a_longer_one(self) -> None:
        assert plan(self.cursor, 3, 6, extends=True) == (PutBase(3, replaces="e7"),)

    @pytest.mark.parametrize(("records", "length"), [(0, 0), (1, 2), (2, 4), (9, 99)])
    def test_a_source_that_was_rewritten_is_archived_after_what_it_was_is_kept(
        self, records: int, length: int
    ) -> None:
        assert plan(self.cursor, records, length, extends=False) == (
            Preserve(3, "e7"),
            PutBase(4, replaces="e7"),
        )

    def test_the_first_base_takes_a_number_above_all_that_are_closed(self) -> None:
        assert plan(None, 1, 2, extends=True, closed=4) == (PutBase(5, replaces=""),)

    @pytest.mark.parametrize("extends", [True, False])
    def test_a_closed_generation_is_not_written_again(self, *, extends: bool) -> None:
        assert plan(self.cursor, 3, 6, extends=extends, closed=5) == (
            Preserve(3, "e7"),
            PutBase(6, replaces="e7"),
        )

    @given(st.lists(st.sampled_from(CONTENTS), max_size=8))
    def test_through_any_story_every_generation_stays_whole(self, story: list[bytes]) -> None:
        world, cursor = World(None), None
        ended: dict[int, bytes] = {}
        for source in story:
            extends = cursor is None or (
                digest(source[: cursor.length]) == cursor.digest and len(source) >= cursor.length
            )
            for action in plan(cursor, records_of(source), len(source), extends=extends):
                world.carry_out(action, source)
            if world.base is not None:
                cursor = cursor_of(world.base)
                ended[cursor.generation] = world.base.content
                assert world.base.content == source
        assert {
            **world.closed,
            **({cursor.generation: world.base.content} if cursor and world.base else {}),
        } == ended


def settled(
    base: Base | None, source: bytes, *, closed: int = -1, cursor: Cursor | None = None
) -> Settlement:
    return settle(
        KEY, remote_of(base, source), closed=closed, writer=US, cursor=cursor, extends=True
    )


class TestWhoMayWrite:
    """The table of the README, row by row."""

    def test_nothing_there_begins_with_generation_0(self) -> None:
        assert settled(None, b"a\n") == Begin((PutBase(0, replaces=""),))

    def test_a_base_that_vanished_begins_the_next_generation(self) -> None:
        cursor = cursor_of(Base(b"a\n", 4, US))
        assert settled(None, b"a\n", cursor=cursor) == Begin((PutBase(5, replaces=""),))
        assert settled(None, b"a\n", closed=6, cursor=cursor) == Begin((PutBase(7, replaces=""),))

    @pytest.mark.parametrize("writer", [US, US_BEFORE, OTHER])
    def test_what_equals_the_source_is_adopted(self, writer: str) -> None:
        base = Base(b"a\n", 2, writer)
        assert settled(base, b"a\n", closed=1) == Continue(cursor_of(base))

    @pytest.mark.parametrize("writer", [US, US_BEFORE, OTHER])
    def test_what_is_a_prefix_of_the_source_is_continued(self, writer: str) -> None:
        base = Base(b"a\n", 2, writer)
        assert settled(base, b"a\nb\n", closed=1) == Continue(cursor_of(base))

    def test_what_the_agents_own_sink_wrote_is_continued_as_generation_0(self) -> None:
        assert settled(Base(b"a\n", -1, ""), b"a\nb\n") == Continue(cursor_of(Base(b"a\n", 0, US)))

    @pytest.mark.parametrize("writer", [US, US_BEFORE, OTHER, ""])
    def test_where_the_archive_holds_more_nothing_is_written(self, writer: str) -> None:
        assert settled(Base(b"a\nb\n", 2, writer), b"a\n") == Wait()

    @pytest.mark.parametrize("writer", [US, US_BEFORE])
    def test_what_differs_and_is_this_machines_is_kept_as_a_generation(self, writer: str) -> None:
        assert settled(Base(b"b\n", 2, writer), b"a\n", closed=1) == Begin(
            (Preserve(2, "e0"), PutBase(3, replaces="e0"))
        )

    def test_what_differs_and_is_another_machines_stays(self) -> None:
        assert settled(Base(b"b\n", 2, OTHER), b"a\n", closed=1) == StepAside()

    def test_what_differs_and_is_nobodys_is_kept_aside(self) -> None:
        assert settled(Base(b"b\n", -1, ""), b"a\n", closed=1) == Begin(
            (KeepForeign("e0"), PutBase(2, replaces="e0"))
        )

    def test_a_closed_generation_is_not_continued_even_where_the_source_extends_it(self) -> None:
        assert settled(Base(b"a\n", 2, US), b"a\nb\n", closed=2) == Begin(
            (PutBase(3, replaces="e0"),)
        )

    def test_a_closed_generation_that_a_stranger_overwrote_is_not_continued(self) -> None:
        cursor = cursor_of(Base(b"a\nb\n", 2, US))
        settlement = settled(Base(b"a\n", -1, ""), b"a\nb\n", closed=2, cursor=cursor)
        assert settlement == Continue(cursor_of(Base(b"a\n", 3, US)))

    def test_an_older_base_that_came_back_does_not_bring_its_numbers_back(self) -> None:
        cursor = cursor_of(Base(b"a\n", 5, US))
        assert settled(Base(b"b\n", 2, US), b"a\n", closed=1, cursor=cursor) == Begin(
            (Preserve(2, "e0"), PutBase(6, replaces="e0"))
        )

    def test_what_is_known_of_the_document_outlives_adopting(self) -> None:
        cursor = replace(cursor_of(Base(b"a\n", 0, US)), document_digest="d")
        assert settled(Base(b"a\n", 0, US), b"a\n", cursor=cursor) == Continue(cursor)
