"""Whatever stands in the source and in the archive, no action loses a byte of either.

`World` is an archive in a few fields; it carries out actions and refuses those that would lose
something. The tests below go through every combination of small sources, archives and cursors.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transcriptd.digest import digest
from transcriptd.layout import Meta
from transcriptd.model import Cursor
from transcriptd.plan import (
    Begin,
    Claimant,
    Continue,
    KeepForeign,
    Manner,
    Preserve,
    PutBase,
    PutTail,
    Relation,
    Remote,
    Seal,
    StepAside,
    TailSays,
    Wait,
    is_apart,
    plan,
    settle,
)
from transcriptd.tail import Chain, Segment, chain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transcriptd.plan import Action, Settlement

KEY = "history/s1/history.jsonl"
US, US_BEFORE, OTHER = "laptop.aaaa", "laptop.bbbb", "desk.cccc"
CONTENTS = [b"".join(lines) for n in range(3) for lines in product((b"a\n", b"b\n"), repeat=n)]
SOURCES = [*CONTENTS, b"a\na\na\n", b"a\nb\na\n", b"b\na\nb\n"]
NOW = 1_700_000_000.0
SMALL = 3
"""Bytes. A stream of two lines is large: it is continued by segments, its base not put anew."""


@dataclass(frozen=True, slots=True)
class Base:
    """`writer` is empty where somebody wrote it without our metadata.

    `in_parts`: it was written as an upload in parts, which shows in the ETag.
    """

    content: bytes
    generation: int
    writer: str
    in_parts: bool = False

    @property
    def etag(self) -> str:
        """What S3 gives: equal bytes have equal ETags, unless they were written in parts."""
        tag = self.content.hex() or "nothing"
        return f"{tag}-1" if self.in_parts else tag


@dataclass(frozen=True, slots=True)
class Piece:
    """A tail segment; `pre` is the digest of what it hangs on."""

    generation: int
    start: int
    body: bytes
    pre: str
    writer: str = US

    @property
    def end(self) -> int:
        return self.start + len(self.body)


@dataclass(slots=True)
class World:
    """What stands in the archive under one key, and beside it."""

    base: Base | None
    tail: dict[tuple[int, int], Piece] = field(default_factory=dict)
    stops: set[tuple[int, int]] = field(default_factory=set)
    closed: dict[int, bytes] = field(default_factory=dict)
    foreign: list[bytes] = field(default_factory=list)

    def highest_closed(self) -> int:
        return max(self.closed, default=-1)

    def highest_used(self) -> int:
        base = self.base.generation if self.base and self.base.writer else -1
        return max(self.highest_closed(), base, *(g for g, _ in self.tail), -1)

    def pieces(self, generation: int) -> list[Piece]:
        return [piece for (of, _), piece in sorted(self.tail.items()) if of == generation]

    def fitting(self) -> list[Piece]:
        """Return the segments that are content: each hangs on what comes before it."""
        base, fitting = self.base, list[Piece]()
        if base is None:
            return []
        content = base.content
        generation = base.generation if base.writer else self.highest_closed() + 1
        for segment in self.chain(generation).content:
            piece = self.tail[generation, segment.start]
            if piece.pre != sha(content):
                break
            content += piece.body
            fitting.append(piece)
        return fitting

    def chain(self, generation: int) -> Chain:
        """Return the segments of a generation by their places, as a listing tells them."""
        length = len(self.base.content) if self.base else 0
        segments = (Segment(generation, p.start, p.end, "", "") for p in self.pieces(generation))
        return chain(segments, length)

    def content(self) -> bytes:
        """Return what a reader gets who asks for no generation."""
        assert self.base is not None
        return self.base.content + b"".join(piece.body for piece in self.fitting())

    def carry_out(self, actions: tuple[Action, ...], source: bytes) -> None:
        for action in actions:
            self.do(action, source)
        self.sweep()

    def put(self, content: bytes, generation: int) -> Base:
        """Return the base that replaces the one that stands here."""
        base = self.base
        same = base is not None and (base.generation, base.writer) == (generation, US)
        return Base(content, generation, US, is_apart(base.etag if base else "", flip=not same))

    def do(self, action: Action, source: bytes) -> None:
        base = self.base
        match action:
            case Preserve(generation, etag):
                assert base is not None
                assert (base.generation, base.etag) == (generation, etag), "that is not there"
                kept = self.closed.setdefault(generation, self.content())
                assert kept == self.content(), "a finished generation can never change"
                place = (generation, len(kept))
                if place not in self.tail:
                    self.stops.add(place)
            case KeepForeign(etag):
                assert base is not None
                assert base.etag == etag
                self.foreign.append(base.content)
            case PutBase(generation, replaces):
                assert replaces == (base.etag if base else ""), "the condition fails"
                assert generation not in self.closed, "a closed generation is closed for ever"
                self.require_nothing_is_lost(generation, source)
                self.base = self.put(source, generation)
            case Seal(generation, replaces):
                assert base is not None
                assert base.writer, "nobody knows which generation such a base is of"
                assert (base.generation, base.etag) == (generation, replaces), "that is not there"
                sealed = self.put(self.content(), generation)
                assert sealed.etag != base.etag or len(sealed.content) > len(base.content)
                self.base = sealed
            case PutTail(generation, start):
                assert base is not None
                assert base.writer, "readers do not know which generation such a base is of"
                assert (generation, start) not in {*self.tail, *self.stops}, "the condition fails"
                assert generation == base.generation
                assert generation not in self.closed, "a closed generation is closed for ever"
                assert start == len(self.content()), "a segment begins where the content ends"
                assert source.startswith(self.content())
                self.tail[generation, start] = Piece(
                    generation, start, source[start:], sha(source[:start])
                )

    def require_nothing_is_lost(self, generation: int, source: bytes) -> None:
        base = self.base
        if base and not base.writer:  # what it was written over may still have a tail
            for piece in self.pieces(generation):
                hangs_on_it = sha(source[: piece.start]) == piece.pre
                assert source[piece.start : piece.end] == piece.body or not hangs_on_it
        if base is None or source.startswith(self.content()):
            return
        kept = self.closed.get(base.generation) if base.writer else None
        assert kept == self.content() or (not base.writer and base.content in self.foreign)
        assert not base.writer or generation > base.generation

    def sweep(self) -> None:
        """Remove the segments that something else provably holds."""
        for place, piece in list(self.tail.items()):
            generation, start = place
            holder = self.closed.get(generation)
            if self.base and self.base.writer and self.base.generation == generation:
                holder = self.base.content
            if holder is not None and holder[start : piece.end] == piece.body:
                del self.tail[place]


@dataclass(frozen=True, slots=True)
class Case:
    """A source, an archive, and what is remembered of it."""

    source: bytes
    base: Base | None
    tail: tuple[Piece, ...]
    closed: Mapping[int, bytes]
    cursor: Cursor | None
    remembered: bytes
    takes_over: frozenset[str] = frozenset()

    @property
    def extends(self) -> bool:
        return self.source.startswith(self.remembered)

    def world(self) -> World:
        tail = {(piece.generation, piece.start): piece for piece in self.tail}
        return World(self.base, tail, closed=dict(self.closed))

    def settle(self, world: World) -> Settlement:
        return settle(
            KEY,
            remote_of(world, self.source),
            used=world.highest_used(),
            closed=world.highest_closed(),
            claimant=Claimant(US, self.takes_over),
            cursor=self.cursor,
            extends=self.extends,
            length=len(self.source),
            now=NOW,
        )

    def plan(self, cursor: Cursor, world: World, *, extends: bool) -> tuple[Action, ...]:
        return plan(
            cursor,
            records_of(self.source),
            len(self.source),
            extends=extends,
            closed=world.highest_closed(),
            used=world.highest_used(),
            manner=Manner(
                tails=world.base is not None and world.base.writer != "",
                small=SMALL,
                contested=any(piece.writer == OTHER for piece in self.tail),
                theirs=cursor.writer != US,
            ),
        )

    def actions(self, world: World) -> tuple[Action, ...]:
        """Decide as `reconcile` does."""
        if self.cursor and self.is_all_ours(world):
            return self.plan(self.cursor, world, extends=self.extends)
        match self.settle(world):
            case Continue(cursor):
                return self.plan(cursor, world, extends=True)
            case Begin(actions):
                return actions
        return ()

    def is_all_ours(self, world: World) -> bool:
        """Whether the cursor is about just what stands there, and nothing has to be compared."""
        base, cursor = world.base, self.cursor
        if base is None or cursor is None:
            return False
        found = (base.etag, base.generation, base.writer, len(base.content))
        if found != (cursor.etag, cursor.generation, cursor.writer, cursor.base_length):
            return False
        content, fitting = world.content(), world.fitting()
        if not content.startswith(self.remembered):
            return False
        if self.extends:
            found_tail = world.chain(base.generation)
            stopped = (base.generation, cursor.length) in world.stops
            if stopped and len(self.source) > cursor.length:
                return False
            return found_tail.end == cursor.length and not found_tail.ahead_of(cursor.length)
        others = [p for p in fitting if p.start == cursor.length]
        return all(Claimant(US, self.takes_over).owns(piece.writer) for piece in others)


@cache
def sha(content: bytes) -> str:
    return digest(content)


def records_of(content: bytes) -> int:
    return content.count(b"\n")


def cursor_of(base: Base, tail: bytes = b"", *, segments: int | None = None) -> Cursor:
    content = base.content + tail
    return Cursor(
        key=KEY,
        generation=base.generation,
        records=records_of(content),
        length=len(content),
        digest=sha(content),
        etag=base.etag,
        writer=base.writer or US,
        tail_length=len(tail),
        segments=bool(tail) if segments is None else segments,
        behind_since=NOW if tail else 0.0,
        sent=len(content),
    )


def meta_of(base: Base) -> Meta | None:
    if not base.writer:
        return None
    return Meta(
        generation=base.generation,
        records=records_of(base.content),
        length=len(base.content),
        digest=sha(base.content),
        writer=base.writer,
        source="codetether",
    )


def relation_of(content: bytes, source: bytes) -> Relation:
    if source.startswith(content):
        return Relation.EXTENDS
    return Relation.BEHIND if content.startswith(source) else Relation.DIFFERS


def remote_of(world: World, source: bytes) -> Remote | None:
    """Say what `compare` finds."""
    base = world.base
    if base is None:
        return None
    relation = relation_of(base.content, source)
    shared = source[: len(base.content)]
    found = Remote(
        base.etag, meta_of(base), relation, base.writer, records_of(shared), len(shared),
        sha(shared), len(base.content),
    )  # fmt: skip
    if not base.writer:
        return replace(found, tail_says=tail_says(world, source))
    if relation is not Relation.EXTENDS:
        return found
    end, segments, writer = len(base.content), 0, base.writer
    for piece in world.fitting():
        if piece.start >= len(source):
            return replace(found, relation=Relation.BEHIND, writer=writer)
        writer = piece.writer
        relation = relation_of(piece.body, source[piece.start :])
        if relation is not Relation.EXTENDS:
            return replace(found, relation=relation, writer=writer)
        end, segments = piece.end, segments + 1
    listed = world.chain(base.generation)
    in_the_way = [s.end for s in (*listed.content, *listed.astray) if s.start >= end]
    return replace(
        found,
        writer=writer,
        records=records_of(source[:end]),
        length=end,
        digest=sha(source[:end]),
        segments=segments,
        blocked_to=max(in_the_way, default=None),
        is_stopped=(base.generation, end) in world.stops,
    )


def tail_says(world: World, source: bytes) -> TailSays:
    generation = max((of for of, _ in world.tail), default=-1)
    pieces = world.pieces(generation)
    if not pieces or generation <= world.highest_closed():
        return TailSays.NOTHING
    for piece in pieces:
        held = sha(source[: piece.start]) == piece.pre and len(source) >= piece.end
        if not held or source[piece.start : piece.end] != piece.body:
            return TailSays.CONTRADICTS
    return TailSays.AGREES


def tails_on(base: Base) -> Iterator[tuple[Piece, ...]]:
    """Every kind of tail that a base may have: content, folded, astray, another writer's."""
    generation, content = base.generation, base.content
    end = len(content)
    a, b = b"a\n", b"b\n"
    yield ()
    yield (Piece(generation, end, a, sha(content)),)
    yield (Piece(generation, end, b, sha(content)),)
    yield (Piece(generation, end, a, sha(content), OTHER),)
    yield (Piece(generation, end, a, sha(content)), Piece(generation, end + 2, b, sha(content + a)))
    yield (Piece(generation, end, a, sha(b"something else")),)
    yield (Piece(generation, end + 2, a, sha(content + b)),)
    if end:
        yield (Piece(generation, end - 2, content[end - 2 :], sha(content[: end - 2])),)
        yield (Piece(generation, end - 2, b + b, sha(content[: end - 2])),)


def tails_of_what_was_overwritten() -> Iterator[tuple[Piece, ...]]:
    """Tails whose base a stranger wrote over."""
    yield ()
    for generation in range(2):
        yield (Piece(generation, 2, b"a\n", sha(b"a\n")),)
        yield (Piece(generation, 2, b"b\n", sha(b"a\n")),)
        yield (Piece(generation, 2, b"a\n", sha(b"b\n")),)


def archives() -> Iterator[tuple[Base | None, tuple[Piece, ...]]]:
    yield None, ()
    for content in CONTENTS[:5]:
        for tail in tails_of_what_was_overwritten():
            yield Base(content, -1, ""), tail
        for generation, writer in product(range(2), (US, US_BEFORE, OTHER)):
            base = Base(content, generation, writer)
            for tail in tails_on(base):
                yield base, tail


def cases() -> Iterator[Case]:
    """Every combination. A generation below the base's was closed, or taken away by somebody."""
    cursors: list[tuple[Cursor | None, bytes]] = [(None, b"")]
    for generation, stem, rest in [
        (0, b"a\n", b""), (0, b"a\n", b"a\n"), (0, b"", b"a\n"), (0, b"b\n", b""),
        (1, b"a\n", b""), (1, b"a\n", b"a\n"), (2, b"b\n", b""),
    ]:  # fmt: skip
        cursors.append((cursor_of(Base(stem, generation, US), rest), stem + rest))
    for (base, tail), highest in product(archives(), (-1, 0, 1)):
        closed = {n: b"closed %d\n" % n for n in range(highest + 1)}
        world = World(base, {(p.generation, p.start): p for p in tail})
        if base and base.generation in closed:
            closed[base.generation] = world.content()  # a crash between preserving and replacing
        for source, (cursor, remembered) in product(SOURCES, cursors):
            yield Case(source, base, tail, closed, cursor, remembered)


ALL = list(cases())


class TestEveryCombination:
    def test_no_action_loses_a_byte(self) -> None:
        for case in ALL:
            world = case.world()
            world.carry_out(case.actions(world), case.source)

    def test_in_the_end_the_source_stands_in_the_archive_or_nothing_was_written(self) -> None:
        for case in ALL:
            world = case.world()
            actions = case.actions(world)
            world.carry_out(actions, case.source)
            if isinstance(case.settle(case.world()), StepAside | Wait) and not actions:
                assert world == case.world() or not world.tail
            else:
                assert world.base is not None
                assert world.content() == case.source

    def test_a_crash_between_any_two_actions_loses_nothing_and_is_made_good(self) -> None:
        for case in ALL:
            actions = case.actions(case.world())
            for done in range(1, len(actions)):
                world = case.world()
                for action in actions[:done]:
                    world.do(action, case.source)
                world.carry_out(case.actions(world), case.source)
                assert world.base is not None
                assert world.content() == case.source

    def test_a_crash_before_the_folded_tail_was_removed_is_made_good(self) -> None:
        for case in ALL:
            world = case.world()
            for action in case.actions(world):
                world.do(action, case.source)
            if world != case.world():
                world.carry_out(case.actions(world), case.source)
                assert world.content() == case.source

    def test_what_was_put_is_recognised_when_the_answer_was_lost(self) -> None:
        for case in ALL:
            world = case.world()
            actions = case.actions(world)
            world.carry_out(actions, case.source)
            if actions:
                assert not case.actions(world)

    def test_the_number_of_a_new_generation_was_never_used(self) -> None:
        for case in ALL:
            world = case.world()
            for action in case.actions(world):
                if isinstance(action, PutBase) and not continues(case, action.generation):
                    assert action.generation > world.highest_used()
                    assert not case.cursor or action.generation > case.cursor.generation

    def test_another_machines_stream_gives_way_only_to_what_extends_it(self) -> None:
        for case in ALL:
            world = case.world()
            known = case.is_all_ours(world)  # it went on with the other's, and that is remembered
            if world.base and not known and OTHER in writers_of_what_differs(world, case.source):
                assert not case.actions(world)

    def test_another_machines_stream_that_was_taken_over_is_kept_as_a_generation(self) -> None:
        for case in ALL:
            world = case.world()
            if not world.base or OTHER not in writers_of_what_differs(world, case.source):
                continue
            ours = replace(case, takes_over=frozenset({OTHER}))
            actions = ours.actions(world)
            if not isinstance(ours.settle(world), Wait):
                assert isinstance(actions[0], Preserve) or world.base.generation in world.closed
            world.carry_out(actions, case.source)

    def test_a_base_without_our_metadata_is_kept_unless_the_source_extends_it(self) -> None:
        for case in ALL:
            if case.base and not case.base.writer:
                actions = case.actions(case.world())
                extends = case.source.startswith(case.base.content)
                assert extends or not actions or isinstance(actions[0], KeepForeign)

    def test_a_generation_whose_tail_disproves_the_source_does_not_go_on(self) -> None:
        for case in ALL:
            world = case.world()
            if not case.base or case.base.writer:
                continue
            if tail_says(world, case.source) is TailSays.CONTRADICTS:
                used = world.highest_used()
                for action in case.actions(world):
                    if isinstance(action, PutBase | PutTail):
                        assert action.generation > used

    def test_a_generation_whose_tail_proves_the_source_goes_on(self) -> None:
        for case in ALL:
            world = case.world()
            remembered = case.cursor.generation if case.cursor else -1
            if not case.base or case.base.writer or remembered > world.highest_used():
                continue
            if tail_says(world, case.source) is TailSays.AGREES:
                for action in case.actions(world):
                    if isinstance(action, PutBase | PutTail):
                        assert action.generation == world.highest_used()

    def test_nothing_is_written_while_the_archive_holds_more(self) -> None:
        for case in ALL:
            world = case.world()
            if not case.base:
                continue
            content = world.content() if case.base.writer else case.base.content
            if len(content) > len(case.source) and content.startswith(case.source):
                assert isinstance(case.settle(world), Wait)

    def test_a_cursor_says_what_stands_in_the_archive_and_nothing_else(self) -> None:
        for case in ALL:
            world = case.world()
            settlement = case.settle(world)
            if not isinstance(settlement, Continue):
                continue
            base, cursor = case.base, settlement.cursor
            assert base is not None
            assert (cursor.etag, cursor.base_length) == (base.etag, len(base.content))
            content = world.content() if base.writer else base.content
            assert (cursor.length, cursor.digest) == (len(content), sha(content))
            assert cursor.records == records_of(content)
            if base.writer:
                assert (cursor.generation, cursor.writer) == (base.generation, base.writer)
                assert cursor.segments == len(world.fitting())

    def test_the_next_change_goes_on_from_the_cursor(self) -> None:
        for case in ALL:
            settlement = case.settle(case.world())
            if isinstance(settlement, Continue):
                for source in [s for s in SOURCES if s.startswith(case.source)]:
                    world, later = case.world(), replace(case, source=source)
                    actions = later.plan(settlement.cursor, world, extends=True)
                    world.carry_out(actions, source)
                    assert world.content() == source

    def test_a_base_is_behind_just_where_it_has_a_tail(self) -> None:
        for case in ALL:
            settlement = case.settle(case.world())
            if isinstance(settlement, Continue):
                cursor = settlement.cursor
                assert bool(cursor.tail_length) == bool(cursor.segments)
                assert bool(cursor.tail_length) == bool(cursor.behind_since)

    def test_a_segment_is_put_only_where_a_base_of_its_generation_stands(self) -> None:
        for case in ALL:
            for action in case.actions(case.world()):
                if isinstance(action, PutTail):
                    assert case.base is not None
                    assert (case.base.writer != "", action.generation) == (
                        True,
                        case.base.generation,
                    )

    def test_a_new_generation_has_another_etag_than_the_base_it_replaces(self) -> None:
        for case in ALL:
            for action in case.actions(case.world()):
                if isinstance(action, PutBase) and case.base and case.base.writer:
                    put = case.world().put(case.source, action.generation)
                    assert put.etag != case.base.etag or put.generation == case.base.generation

    def test_planning_seals_nothing_but_another_writers_base(self) -> None:
        for case in ALL:
            for action in case.actions(case.world()):
                if isinstance(action, Seal):
                    assert case.base is not None
                    assert case.base.writer not in {US, ""}


def continues(case: Case, generation: int) -> bool:
    """Whether this generation goes on: the archive's, or the one that somebody overwrote."""
    if case.base is None:
        return False
    if case.base.writer:
        return generation == case.base.generation
    if tail_says(case.world(), case.source) is TailSays.AGREES:
        return generation >= case.world().highest_used()
    return case.cursor is not None and case.extends and generation >= case.cursor.generation


def writers_of_what_differs(world: World, source: bytes) -> set[str]:
    """Return who wrote the first piece that the source contradicts."""
    assert world.base is not None
    pieces = [(world.base.content, world.base.writer)]
    pieces += [(piece.body, piece.writer) for piece in world.fitting()]
    start = 0
    for body, writer in pieces:
        relation = relation_of(body, source[start:])
        if relation is not Relation.EXTENDS:
            return {writer} if relation is Relation.DIFFERS else set()
        start += len(body)
    return set()


class TestPlan:
    """With a cursor that is known to be what the archive holds."""

    cursor = cursor_of(Base(b"a\nb\n", 2, US))
    etag = cursor.etag

    def test_the_first_lines_make_a_base_of_generation_0(self) -> None:
        assert plan(None, 1, 2, extends=True) == (PutBase(0, replaces=""),)

    def test_the_first_lines_make_a_base_whatever_their_size(self) -> None:
        assert plan(None, 9, 1 << 40, extends=True) == (PutBase(0, replaces=""),)

    def test_a_session_without_messages_makes_no_base(self) -> None:
        assert plan(None, 0, 0, extends=True) == ()

    @pytest.mark.parametrize("tails", [True, False])
    def test_what_is_archived_already_needs_nothing(self, *, tails: bool) -> None:
        assert plan(self.cursor, 2, 4, extends=True, manner=Manner(tails=tails)) == ()

    def test_a_source_that_grew_puts_the_change_alone(self) -> None:
        assert plan(self.cursor, 3, 6, extends=True, manner=Manner(small=5)) == (PutTail(2, 4),)

    def test_a_second_change_continues_the_first(self) -> None:
        with_tail = cursor_of(Base(b"a\n", 2, US), b"b\n")
        assert plan(with_tail, 3, 6, extends=True, manner=Manner(small=5)) == (PutTail(2, 4),)

    def test_without_tails_a_source_that_grew_replaces_its_base_by_a_longer_one(self) -> None:
        expected = (PutBase(2, replaces=self.etag),)
        assert (
            plan(self.cursor, 3, 6, extends=True, manner=Manner(tails=False, small=5)) == expected
        )

    @pytest.mark.parametrize(("length", "tail"), [(16383, False), (16384, False), (16385, True)])
    def test_up_to_16_kib_base_and_change_together_the_base_is_put_anew(
        self, length: int, *, tail: bool
    ) -> None:
        (action,) = plan(self.cursor, 3, length, extends=True)
        assert action == (PutTail(2, 4) if tail else PutBase(2, replaces=self.etag))

    def test_a_change_below_16_kib_that_hangs_on_a_tail_folds_it(self) -> None:
        base = Base(b"a\n", 2, US)
        (action,) = plan(cursor_of(base, b"b\n"), 3, 6, extends=True)
        assert action == PutBase(2, replaces=base.etag)

    @pytest.mark.parametrize(("records", "length"), [(0, 0), (1, 2), (2, 4), (9, 99)])
    def test_a_source_that_was_rewritten_is_archived_after_what_it_was_is_kept(
        self, records: int, length: int
    ) -> None:
        assert plan(self.cursor, records, length, extends=False) == (
            Preserve(2, self.etag),
            PutBase(3, replaces=self.etag),
        )

    def test_where_another_writer_has_a_claim_what_is_new_takes_its_place_as_a_segment(
        self,
    ) -> None:
        contested = Manner(contested=True)
        assert plan(self.cursor, 3, 6, extends=True, manner=contested) == (PutTail(2, 4),)
        without_tails = replace(contested, tails=False)
        put = (PutBase(2, replaces=self.etag),)
        assert plan(self.cursor, 3, 6, extends=True, manner=without_tails) == put

    def test_another_writers_small_base_is_made_ours_before_it_is_continued(self) -> None:
        theirs = Manner(small=4, theirs=True)
        expected = (Seal(2, self.etag), PutTail(2, 4))
        assert plan(self.cursor, 3, 6, extends=True, manner=theirs) == expected
        assert plan(self.cursor, 2, 4, extends=True, manner=theirs) == ()

    def test_another_writers_large_base_is_continued_as_it_is(self) -> None:
        theirs = Manner(small=3, theirs=True)
        assert plan(self.cursor, 3, 6, extends=True, manner=theirs) == (PutTail(2, 4),)

    def test_the_first_base_takes_a_number_above_all_that_are_closed(self) -> None:
        assert plan(None, 1, 2, extends=True, closed=4) == (PutBase(5, replaces=""),)

    @pytest.mark.parametrize("cursor", [None, cursor])
    def test_a_new_generation_takes_a_number_above_all_that_have_a_tail(
        self, cursor: Cursor | None
    ) -> None:
        put = plan(cursor, 1, 2, extends=False, closed=1, used=7)[-1]
        assert isinstance(put, PutBase)
        assert put.generation == 8

    @pytest.mark.parametrize("extends", [True, False])
    def test_a_closed_generation_is_not_written_again(self, *, extends: bool) -> None:
        assert plan(self.cursor, 3, 6, extends=extends, closed=5) == (
            Preserve(2, self.etag),
            PutBase(6, replaces=self.etag),
        )

    @given(st.lists(st.sampled_from(SOURCES), max_size=8), st.sets(st.integers(0, 8)))
    def test_through_any_story_every_generation_stays_whole(
        self, story: list[bytes], seals: set[int]
    ) -> None:
        world, cursor = World(None), None
        ended: dict[int, bytes] = {}
        for number, source in enumerate(story):
            extends = cursor is None or (
                sha(source[: cursor.length]) == cursor.digest and len(source) >= cursor.length
            )
            actions = plan(
                cursor, records_of(source), len(source), extends=extends, manner=Manner(small=SMALL)
            )
            world.carry_out(actions, source)
            if world.base is None:
                continue
            assert world.content() == source
            if number in seals:
                world.base = world.put(source, world.base.generation)
                world.sweep()
                assert not world.tail
            tail = source[len(world.base.content) :]
            cursor = cursor_of(world.base, tail, segments=len(world.fitting()))
            ended[cursor.generation] = source
        closed = {**world.closed}
        if cursor and world.base:
            closed[cursor.generation] = world.content()
        assert closed == ended

    @settings(max_examples=300)
    @given(st.lists(st.sampled_from(SOURCES[1:]), max_size=8))
    def test_a_new_generation_never_has_the_etag_of_the_base_it_replaces(
        self, story: list[bytes]
    ) -> None:
        world, cursor = World(None), None
        for source in story:
            extends = cursor is None or source.startswith(world.content())
            records = records_of(source)
            for action in plan(
                cursor, records, len(source), extends=extends, manner=Manner(small=SMALL)
            ):
                before = world.base
                world.do(action, source)
                assert world.base is not None
                if before and world.base.generation != before.generation:
                    assert world.base.etag != before.etag
            world.sweep()
            assert world.base is not None
            tail = source[len(world.base.content) :]
            cursor = cursor_of(world.base, tail, segments=len(world.fitting()))


def settled(
    base: Base | None,
    source: bytes,
    *,
    tail: tuple[Piece, ...] = (),
    closed: int = -1,
    cursor: Cursor | None = None,
    takes_over: frozenset[str] = frozenset(),
    extends: bool = True,
) -> Settlement:
    world = World(base, {(p.generation, p.start): p for p in tail})
    return settle(
        KEY,
        remote_of(world, source),
        used=max(world.highest_used(), closed),
        closed=closed,
        claimant=Claimant(US, takes_over),
        cursor=cursor,
        extends=extends,
        length=len(source),
        now=NOW,
    )


def adopted(base: Base) -> Cursor:
    """Return the cursor of a base that is taken as it is."""
    return cursor_of(base)


class TestWhoMayWrite:
    """The table of the README, row by row."""

    def test_nothing_there_begins_with_generation_0(self) -> None:
        assert settled(None, b"a\n") == Begin((PutBase(0, replaces=""),))

    def test_a_base_that_vanished_begins_the_next_generation(self) -> None:
        cursor = cursor_of(Base(b"a\n", 4, US))
        assert settled(None, b"a\n", cursor=cursor) == Begin((PutBase(5, replaces=""),))
        assert settled(None, b"a\n", closed=6, cursor=cursor) == Begin((PutBase(7, replaces=""),))

    def test_a_base_that_vanished_from_before_its_tail_begins_the_next_generation(self) -> None:
        tail = (Piece(3, 2, b"b\n", sha(b"a\n")),)
        assert settled(None, b"a\nb\n", tail=tail) == Begin((PutBase(4, replaces=""),))

    @pytest.mark.parametrize("writer", [US, US_BEFORE, OTHER])
    def test_what_equals_the_source_is_adopted(self, writer: str) -> None:
        base = Base(b"a\n", 2, writer)
        assert settled(base, b"a\n", closed=1) == Continue(adopted(base))

    @pytest.mark.parametrize("writer", [US, US_BEFORE, OTHER])
    def test_what_is_a_prefix_of_the_source_is_continued(self, writer: str) -> None:
        base = Base(b"a\n", 2, writer)
        assert settled(base, b"a\nb\n", closed=1) == Continue(adopted(base))

    @pytest.mark.parametrize("writer", [US, US_BEFORE, OTHER])
    @pytest.mark.parametrize("source", [b"a\nb\n", b"a\nb\na\n"])
    def test_a_tail_that_the_source_extends_is_continued(self, writer: str, source: bytes) -> None:
        base = Base(b"a\n", 2, writer)
        tail = (Piece(2, 2, b"b\n", sha(b"a\n"), writer),)
        assert settled(base, source, tail=tail, closed=1) == Continue(cursor_of(base, b"b\n"))

    def test_since_when_a_base_is_behind_is_remembered_where_it_is_known(self) -> None:
        base, tail = Base(b"a\n", 2, US), (Piece(2, 2, b"b\n", sha(b"a\n")),)
        known = replace(cursor_of(base, b"b\n"), behind_since=NOW - 500, sent=77)
        for cursor, since, sent in [
            (known, NOW - 500, 77),
            (None, NOW, 4),
            (replace(known, generation=1), NOW, 4),
            (replace(known, behind_since=0.0, sent=3), NOW, 4),
        ]:
            settlement = settled(base, b"a\nb\n", tail=tail, closed=1, cursor=cursor)
            assert isinstance(settlement, Continue)
            found = settlement.cursor
            assert (found.behind_since, found.sent) == (since, sent)

    def test_a_base_that_has_taken_in_its_tail_is_behind_no_more(self) -> None:
        base = Base(b"a\nb\n", 2, US)
        known = replace(cursor_of(Base(b"a\n", 2, US), b"b\n"), sent=77)
        settlement = settled(base, b"a\nb\n", closed=1, cursor=known)
        assert settlement == Continue(replace(cursor_of(base), sent=77))

    def test_what_the_agents_own_sink_wrote_is_continued_as_generation_0(self) -> None:
        settlement = settled(Base(b"a\n", -1, ""), b"a\n")
        assert isinstance(settlement, Continue)
        expected = cursor_of(Base(b"a\n", 0, US))
        assert replace(settlement.cursor, writer=US) == expected

    @pytest.mark.parametrize("source", [b"a\nb\n", b"a\nb\na\n"])
    def test_what_the_agents_own_sink_wrote_gets_our_metadata_before_it_gets_a_tail(
        self, source: bytes
    ) -> None:
        base = Base(b"a\n", -1, "")
        case = Case(source, base, (), {}, None, b"")
        world = case.world()
        actions = case.actions(world)
        assert actions == (PutBase(0, replaces=base.etag),)
        world.carry_out(actions, source)
        assert world.content() == source

    @pytest.mark.parametrize("writer", [US, US_BEFORE, OTHER, ""])
    def test_where_the_archive_holds_more_nothing_is_written(self, writer: str) -> None:
        assert settled(Base(b"a\nb\n", 2, writer), b"a\n") == Wait()

    @pytest.mark.parametrize("writer", [US, US_BEFORE, OTHER])
    def test_where_the_archive_holds_more_in_its_tail_nothing_is_written(self, writer: str) -> None:
        tail = (Piece(2, 2, b"b\n", sha(b"a\n"), writer),)
        assert settled(Base(b"a\n", 2, US), b"a\n", tail=tail) == Wait()

    @pytest.mark.parametrize("writer", [US, US_BEFORE])
    def test_what_differs_and_is_this_machines_is_kept_as_a_generation(self, writer: str) -> None:
        base = Base(b"b\nb\n", 2, writer)
        assert settled(base, b"a\n", closed=1) == Begin(
            (Preserve(2, base.etag), PutBase(3, replaces=base.etag))
        )

    def test_what_differs_and_is_another_machines_stays(self) -> None:
        assert settled(Base(b"b\n", 2, OTHER), b"a\n", closed=1) == StepAside()

    def test_what_differs_in_the_tail_is_his_who_wrote_the_segment(self) -> None:
        for base_writer, writer in product((US, OTHER), repeat=2):
            base = Base(b"a\n", 2, base_writer)
            tail = (Piece(2, 2, b"b\n", sha(b"a\n"), writer),)
            settlement = settled(base, b"a\na\n", tail=tail, closed=1)
            assert isinstance(settlement, StepAside if writer == OTHER else Begin)

    def test_what_differs_and_was_taken_over_is_kept_as_a_generation(self) -> None:
        base = Base(b"b\nb\n", 2, OTHER)
        settlement = settled(base, b"a\n", closed=1, takes_over=frozenset({OTHER}))
        assert settlement == Begin((Preserve(2, base.etag), PutBase(3, replaces=base.etag)))

    def test_what_was_taken_over_from_one_is_not_taken_from_another(self) -> None:
        base, others = Base(b"b\n", 2, OTHER), frozenset({"desk.dddd2", "pod.eeee"})
        assert settled(base, b"a\n", closed=1, takes_over=others) == StepAside()

    def test_what_differs_and_is_nobodys_is_kept_aside(self) -> None:
        base = Base(b"b\n", -1, "")
        assert settled(base, b"a\n", closed=1) == Begin(
            (KeepForeign(base.etag), PutBase(2, replaces=base.etag))
        )

    def test_a_closed_generation_is_not_continued_even_where_the_source_extends_it(self) -> None:
        base = Base(b"a\n", 2, US)
        assert settled(base, b"a\nb\n", closed=2) == Begin(
            (Preserve(2, base.etag), PutBase(3, replaces=base.etag))
        )

    def test_a_closed_generation_that_a_stranger_overwrote_is_not_continued(self) -> None:
        cursor = cursor_of(Base(b"a\nb\n", 2, US))
        settlement = settled(Base(b"a\n", -1, ""), b"a\n", closed=2, cursor=cursor)
        assert isinstance(settlement, Continue)
        assert settlement.cursor.generation == 3

    def test_an_older_base_that_came_back_does_not_bring_its_numbers_back(self) -> None:
        cursor = cursor_of(Base(b"a\n", 5, US))
        base = Base(b"b\nb\n", 2, US)
        assert settled(base, b"a\n", closed=1, cursor=cursor) == Begin(
            (Preserve(2, base.etag), PutBase(6, replaces=base.etag))
        )

    def test_what_is_known_of_the_document_outlives_adopting(self) -> None:
        cursor = replace(cursor_of(Base(b"a\n", 0, US)), document_digest="d")
        assert settled(Base(b"a\n", 0, US), b"a\n", cursor=cursor) == Continue(cursor)


class TestWhatATailProves:
    """A base that somebody wrote over, and the tail that hung on what was there before."""

    a_tail = (Piece(1, 2, b"a\n", sha(b"a\n")),)

    @pytest.mark.parametrize("base", [Base(b"b\n", -1, ""), Base(b"b\nb\nb\n", -1, "")])
    def test_where_the_source_holds_the_generation_it_is_written_again(self, base: Base) -> None:
        assert settled(base, b"a\na\nb\n", tail=self.a_tail, closed=0) == Begin(
            (KeepForeign(base.etag), PutBase(1, replaces=base.etag))
        )

    @pytest.mark.parametrize("remembered", [None, cursor_of(Base(b"a\n", 1, US), b"a\n")])
    def test_where_the_source_does_not_hold_it_the_next_generation_begins(
        self, remembered: Cursor | None
    ) -> None:
        base = Base(b"a\n", -1, "")
        for source in (b"b\nb\n", b"b\na\nb\n"):
            settlement = settled(
                base, source, tail=self.a_tail, closed=0, cursor=remembered, extends=False
            )
            assert settlement == Begin((KeepForeign(base.etag), PutBase(2, replaces=base.etag)))

    def test_a_tail_disproves_even_what_is_remembered(self) -> None:
        base, cursor = Base(b"b\n", -1, ""), cursor_of(Base(b"a\n", 1, US))
        tail = (Piece(1, 2, b"b\n", sha(b"a\n")),)
        settlement = settled(base, b"a\na\n", tail=tail, closed=0, cursor=cursor)
        assert settlement == Begin((KeepForeign(base.etag), PutBase(2, replaces=base.etag)))

    def test_without_a_tail_what_is_remembered_is_believed(self) -> None:
        base, cursor = Base(b"b\n", -1, ""), cursor_of(Base(b"a\n", 1, US))
        settlement = settled(base, b"a\na\n", closed=0, cursor=cursor)
        assert settlement == Begin((KeepForeign(base.etag), PutBase(1, replaces=base.etag)))

    def test_a_tail_of_a_closed_generation_proves_nothing(self) -> None:
        base = Base(b"b\n", -1, "")
        settlement = settled(base, b"a\na\n", tail=self.a_tail, closed=1)
        assert settlement == Begin((KeepForeign(base.etag), PutBase(2, replaces=base.etag)))


class TestWhatLiesInTheWay:
    """Segments that are no content where the tail would go on."""

    base = Base(b"a\n", 2, US)

    def settled(self, tail: Piece, source: bytes) -> Settlement:
        return settled(self.base, source, tail=(tail,), closed=1)

    @pytest.mark.parametrize(
        "astray",
        [Piece(2, 2, b"b\n", sha(b"unknown")), Piece(2, 4, b"b\n", sha(b"a\nb\n"))],
    )
    def test_a_longer_source_goes_over_it_with_a_base(self, astray: Piece) -> None:
        for source in (b"a\na\na\n", b"a\nb\na\n"):
            settlement = self.settled(astray, source)
            assert settlement == Begin((PutBase(2, replaces=self.base.etag),))

    @pytest.mark.parametrize(
        "astray",
        [
            Piece(2, 2, b"b\n" * 2, sha(b"unknown")),
            Piece(2, 4, b"b\n", sha(b"a\nb\n")),
            Piece(2, 6, b"b\n", sha(b"a\nb\n")),
        ],
    )
    def test_a_source_that_does_not_reach_behind_it_begins_the_next_generation(
        self, astray: Piece
    ) -> None:
        for source in (b"a\n", b"a\na\n"):
            assert self.settled(astray, source) == Begin(
                (Preserve(2, self.base.etag), PutBase(3, replaces=self.base.etag))
            )


class TestClaimant:
    @pytest.mark.parametrize(
        ("other", "owns"),
        [(US, True), (US_BEFORE, True), (OTHER, False), ("", False), ("laptop2.aaaa", False),
         ("laptop", False), ("taken.ffff", True), ("taken.gggg", False)],
    )  # fmt: skip
    def test_a_writer_owns_its_machines_and_what_it_took_over(
        self, other: str, *, owns: bool
    ) -> None:
        assert Claimant(US, frozenset({"taken.ffff"})).owns(other) is owns
