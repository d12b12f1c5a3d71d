"""A file that holds what the archive masks is not replaced by masks, unless somebody insists."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.documents import conversation, message
from tests.machine import Machine
from tests.place import FILE, MIB, PREFIX, UUID, Place, one
from transcriptd.choice import Choice
from transcriptd.layout import Names, Redaction, generation_key
from transcriptd.redaction import Rule, RuleSet, masked
from transcriptd.remap import Remap
from transcriptd.restore import Fate, Order, Outcome, Restorer
from transcriptd.screen import Screen
from transcriptd.sources.claude import Claude
from transcriptd.sources.codetether import CodeTether
from transcriptd.wanted import wanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests import documents

SECRET = b"zq-" + b"7" * 24
RULES = RuleSet([Rule("zq-token", "zq-[0-9]{24}")])
LONG_AGO = 0.0
SAID = Redaction("mask", RULES.version, "01234567.89abcdef")
LINE = b'{"cwd":"/srv/app","text":"use %s here"}\n' % SECRET
OURS = b'{"cwd":"/srv/app"}\n' + LINE + b'{"cwd":"/srv/app","n":3}\n'
ARCHIVED = OURS.replace(SECRET, masked("zq-token", SECRET))
MORE = b'{"cwd":"/srv/app","n":4}\n'
HIDES = "what the archive masks"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    home = tmp_path / "home"
    home.mkdir()
    return Place(home, redaction=SAID)


def test_these_are_masks_as_the_daemon_makes_them(place: Place) -> None:
    file = place.save(OURS, age_s=LONG_AGO)
    source = Claude([], {"HOME": str(place.home)})
    session = source.session(file.parents[1], FILE)
    assert session
    seen = Screen("mask", RULES).look(source, session, None, max_bytes=MIB)
    content = seen.snapshot.content
    assert content.read(0, content.size) == ARCHIVED


class TestMirrors:
    async def test_a_file_that_differs_by_masks_alone_is_left_alone(self, place: Place) -> None:
        place.put(FILE, ARCHIVED)
        place.save(OURS, age_s=LONG_AGO)
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.reason, outcome.message) == (Fate.SKIPPED, "masked", "")
        assert place.file().read_bytes() == OURS
        assert place.left() == {f".claude/projects/{FILE}"}

    async def test_by_force_it_is_replaced_kept_beside_and_said(self, place: Place) -> None:
        place.put(FILE, ARCHIVED)
        place.save(OURS, age_s=LONG_AGO)
        planned = one(await place.restore(order=Order(force=True, is_dry=True)))
        assert planned.fate is Fate.PLANNED
        assert HIDES in planned.message
        outcome = one(await place.restore(order=Order(force=True)))
        assert outcome.fate is Fate.RESTORED
        assert HIDES in outcome.message
        assert place.file().read_bytes() == ARCHIVED
        assert outcome.aside
        assert outcome.aside.read_bytes() == OURS
        again = one(await place.restore(order=Order(force=True)))
        assert (again.fate, again.reason) == (Fate.SKIPPED, "")

    @pytest.mark.parametrize(
        ("there", "reason", "archived"),
        [
            (OURS + MORE, "longer", ARCHIVED),
            (OURS, "masked", ARCHIVED + MORE),
            (OURS.replace(b'"n":3', b'"n":9'), "differs", ARCHIVED),
        ],
    )
    async def test_what_holds_more_less_or_something_else_besides_is_kept_and_said(
        self, place: Place, there: bytes, reason: str, archived: bytes
    ) -> None:
        place.put(FILE, archived)
        place.save(there, age_s=LONG_AGO)
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.reason) == (Fate.KEPT, reason)
        assert "what that masks" in outcome.message
        assert place.file().read_bytes() == there
        forced = one(await place.restore(order=Order(force=True)))
        assert HIDES in forced.message
        assert forced.aside
        assert forced.aside.read_bytes() == there

    async def test_a_file_that_differs_before_any_mask_gives_way_and_is_kept_beside(
        self, place: Place
    ) -> None:
        place.put(FILE, ARCHIVED)
        there = OURS.replace(b"/srv/app", b"/srv/old", 1)
        place.save(there, age_s=LONG_AGO)
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.message) == (Fate.RESTORED, "")
        assert outcome.aside
        assert outcome.aside.read_bytes() == there

    @pytest.mark.parametrize("length", range(len(OURS) - len(MORE) - 40, len(OURS) - len(MORE)))
    async def test_a_file_that_ends_anywhere_in_a_secret_is_kept(
        self, place: Place, length: int
    ) -> None:
        place.put(FILE, ARCHIVED)
        place.save(OURS[:length], age_s=LONG_AGO)
        outcome = one(await place.restore())
        masked_from = OURS.index(SECRET)
        kept = length > masked_from
        assert outcome.fate is (Fate.KEPT if kept else Fate.RESTORED)
        assert (place.file().read_bytes() == ARCHIVED) is not kept

    @pytest.mark.parametrize("before", [0, 1, 7, 10, 26])
    async def test_a_mask_that_a_read_cuts_is_one(self, place: Place, before: int) -> None:
        chunk = 64 * 1024  # of the store in memory
        filler = b"x" * (chunk - before - OURS.index(SECRET)) + b"\n"
        place.put(FILE, filler[:-1] + ARCHIVED)
        place.save(filler[:-1] + OURS, age_s=LONG_AGO)
        assert one(await place.restore()).reason == "masked"

    async def test_a_mask_in_the_tail_counts_where_the_base_has_none(self, place: Place) -> None:
        start = ARCHIVED.index(b"\n") + 1
        place.redaction = Redaction("report", RULES.version)
        key = place.put(FILE, ARCHIVED[:start])
        place.redaction = SAID
        place.add(key, start, ARCHIVED[start:], before=ARCHIVED[:start])
        place.save(OURS, age_s=LONG_AGO)
        assert one(await place.restore()).reason == "masked"

    async def test_a_finished_generation_has_masks_too(self, place: Place) -> None:
        place.redaction = replace(SAID, plain="")
        key = place.put(FILE, ARCHIVED)
        place.bucket.objects[generation_key(PREFIX, key, 0)] = place.bucket.objects[key]
        del place.bucket.objects[key]
        place.save(OURS, age_s=LONG_AGO)
        closed = Choice((generation_key(PREFIX, key, 0),))
        assert one(await place.restore(closed)).reason == "masked"

    async def test_an_archive_that_masks_nothing_has_asterisks_of_its_own(
        self, place: Place
    ) -> None:
        place.redaction = Redaction("report", RULES.version)
        place.put(FILE, b"* one\n")
        place.save(b"- one\n", age_s=LONG_AGO)
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.message) == (Fate.RESTORED, "")
        assert outcome.aside
        assert place.file().read_bytes() == b"* one\n"

    async def test_what_moved_is_known_again_behind_its_masks(self, place: Place) -> None:
        place.put(FILE, ARCHIVED)
        order = Order(remap=Remap([("/srv/app", "/home/ann/app")]))
        moved = f"-home-ann-app/{UUID}.jsonl"
        there = OURS.replace(b"/srv/app", b"/home/ann/app")
        place.save(there, moved, age_s=LONG_AGO)
        outcome = one(await place.restore(order=order))
        assert (outcome.fate, outcome.reason) == (Fate.SKIPPED, "masked")
        assert place.file(moved).read_bytes() == there

    async def test_masked_lines_move_as_others_do(self, place: Place) -> None:
        hidden = b'{"cwd":"/srv/%s"}\n' % masked("zq-token", SECRET)
        place.put(FILE, ARCHIVED + hidden)
        await place.restore(order=Order(remap=Remap([("/srv/app", "/home/ann/app")])))
        moved = place.file(f"-home-ann-app/{UUID}.jsonl").read_bytes()
        assert moved == ARCHIVED.replace(b"/srv/app", b"/home/ann/app") + hidden


FEW = [*conversation(2), message("user", f"use {SECRET.decode()} here")]
SOME = [*FEW, *conversation(2)]
MANY = [*SOME, *conversation(1)]
OTHERS = conversation(2, about="tests")


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    async with Machine(tmp_path / "homes", screen=Screen("mask", RULES)) as machine:
        machine.save(SOME, title=f"about {SECRET.decode()}")
        await machine.turn()
        await machine.turn(settled=True)
        archived = [stored.body for stored in machine.store.objects.values()]
        assert not any(SECRET in body for body in archived)
        yield machine


async def restore(machine: Machine, *, force: bool = False) -> Outcome:
    environ = {"HOME": "/nonexistent", "CODETETHER_DATA_DIR": str(machine.root.parent)}
    restorer = Restorer(
        machine.store, PREFIX, {"codetether": CodeTether([], environ)}, machine.journal,
        Order(force=force), names=Names(PREFIX, machine.names.writer),
        max_document=MIB, memory_budget=MIB,
    )  # fmt: skip
    outcomes: list[Outcome] = []
    await restorer.restore([wanted(PREFIX, "s")], outcomes.append)
    return one(outcomes)


class TestDocuments:
    async def test_a_document_that_differs_by_masks_alone_is_left_alone(
        self, machine: Machine
    ) -> None:
        before = machine.session().path.read_bytes()
        outcome = await restore(machine)
        assert (outcome.fate, outcome.reason, outcome.message) == (Fate.SKIPPED, "masked", "")
        assert machine.session().path.read_bytes() == before

    @pytest.mark.parametrize(
        ("messages", "reason"),
        [(SOME, "masked"), (FEW, "masked"), (MANY, "longer"), ([*FEW, *OTHERS], "differs")],
    )
    async def test_by_force_it_is_replaced_kept_beside_and_said(
        self, machine: Machine, messages: list[documents.Message], reason: str
    ) -> None:
        machine.save(messages)
        before = machine.session().path.read_bytes()
        outcome = await restore(machine)
        assert outcome.fate is (Fate.SKIPPED if messages is SOME else Fate.KEPT)
        assert outcome.reason == reason
        assert machine.session().path.read_bytes() == before
        outcome = await restore(machine, force=True)
        assert outcome.fate is Fate.RESTORED
        assert HIDES in outcome.message
        assert SECRET not in machine.session().path.read_bytes()
        assert outcome.aside
        assert outcome.aside.read_bytes() == before

    async def test_what_is_masked_beside_the_messages_is_kept_beside(
        self, machine: Machine
    ) -> None:
        machine.save(SOME[:1], title=f"about {SECRET.decode()}")
        before = machine.session().path.read_bytes()
        outcome = await restore(machine)
        assert outcome.fate is Fate.RESTORED
        assert outcome.aside
        assert outcome.aside.read_bytes() == before

    async def test_what_comes_back_is_archived_already(self, machine: Machine) -> None:
        content = await machine.content()
        machine.session().path.unlink()
        await restore(machine)
        source = CodeTether([], {"HOME": "/nonexistent"})
        data = machine.session().path.read_bytes()
        lines = source.lines(machine.session(), data).content
        assert lines.read(0, lines.size) == content
        await machine.restart("lost")
        machine.save_bytes(data)
        sent = len(machine.store.log)
        await machine.turn()
        puts = [o for o in machine.store.log[sent:] if o.name in {"put", "compose"} and o.size]
        assert [o.key for o in puts if "/writer-" not in o.key] == []
        assert machine.record().cursor
        assert await machine.content() == content

    async def test_newer_rules_on_another_machine_go_on_with_what_came_back(
        self, machine: Machine, tmp_path: Path
    ) -> None:
        newer = RuleSet([Rule("zq-token", "zq-[0-9]{24}"), Rule("parser", "parser")])
        content = await machine.content()
        async with Machine(
            tmp_path / "homes", machine.store.remote, name="new", screen=Screen("mask", newer)
        ) as new:
            assert (await restore(new)).fate is Fate.RESTORED
            new.store.remote.ledger.held("new", content)
            await new.turn()
            cursor = new.record().cursor
            assert cursor
            assert (cursor.generation, await new.content()) == (0, content)
