"""A masked archive beside the machine that has the secrets: what is known of it is said."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from tests.documents import conversation, message
from tests.machine import Machine
from tests.memory_store import Bucket, MemoryStore, Object
from tests.servers.process import fast_parent
from transcriptd import files, identity
from transcriptd.model import State
from transcriptd.redaction import Rule, RuleSet
from transcriptd.screen import Screen
from transcriptd.sources.codetether import CodeTether
from transcriptd.verify import Here, Verifier, What
from transcriptd.write import Sizes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from transcriptd.verify import Verdict

KEY = "history/s/history.jsonl"
SECRET = "zq-" + "7" * 24
RULES = RuleSet([Rule("zq-token", "zq-[0-9]{24}")])
OTHERS = RuleSet([Rule("yk-token", "step")])
MASKING, CHANGED = Screen("mask", RULES), Screen("mask", OTHERS)
FEW = [*conversation(2), message("user", f"use {SECRET} here")]
SOME = [*FEW, *conversation(2, about="tests"), message("user", f"and {SECRET} there")]
TAILS = Sizes(small=0, copyable=1)
DEPTHS = ("shallow", "deep")


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory where nothing waits for a disk, and no change hides in a tick of the clock."""
    with (
        tempfile.TemporaryDirectory(dir=fast_parent()) as directory,
        mock.patch.object(files, "_TICK_S", 0.0),
    ):
        yield Path(directory)


@pytest.fixture
async def machine(home: Path) -> AsyncIterator[Machine]:
    """A machine that has archived a base and a tail, both with masks."""
    async with Machine(home, Bucket(), sizes=TAILS, screen=MASKING) as machine:
        machine.save(FEW, title=SECRET)
        await machine.turn()
        await machine.turn(settled=True)
        machine.save(SOME, title=SECRET)
        await machine.turn()
        assert segments(machine)
        bodies = [stored.body for stored in machine.store.objects.values()]
        assert not any(SECRET.encode() in body for body in bodies)
        assert machine.record().screening
        yield machine


@pytest.fixture(params=DEPTHS)
def is_deep(request: pytest.FixtureRequest) -> bool:
    return str(request.param) == "deep"


async def verify(
    machine: Machine,
    *,
    deep: bool,
    screen: Screen = MASKING,
    journal: bool = True,
    key: bool = True,
) -> Verdict:
    async def sleep(_seconds: float) -> None:
        """Let time pass at once."""

    here = Here(
        {"codetether": CodeTether((str(machine.root),), {"HOME": "/nonexistent"})},
        "history/",
        machine.names.machine,
        1 << 20,
        machine.journal if journal else None,
        {"codetether": screen},
        identity.secret(machine.state_dir, make=False) if key else None,
    )
    store = MemoryStore(machine.store.remote)
    verdicts: list[Verdict] = []
    await Verifier(store, here, deep=deep, sleep=sleep).run((), verdicts.append)
    assert {o.name for o in store.log} <= {"head", "read", "list"}
    (verdict,) = verdicts
    return verdict


async def sealed(machine: Machine) -> None:
    await machine.turn(sealing=True)
    assert not segments(machine)


def segments(machine: Machine) -> list[str]:
    return [key for key in machine.store.objects if "/000000-" in key]


async def test_an_intact_machine_is_current(machine: Machine, is_deep: bool) -> None:  # noqa: FBT001 - a parameter
    verdict = await verify(machine, deep=is_deep)
    assert (verdict.state, verdict.findings) == (State.CURRENT, ())


@pytest.mark.parametrize("screen", [CHANGED, Screen("report", RULES), Screen()])
async def test_what_was_masked_is_known_whatever_the_rules_are_now(
    machine: Machine,
    screen: Screen,
    is_deep: bool,  # noqa: FBT001 - a parameter
) -> None:
    machine.session().path.touch()  # so that the journal's word on its state is not enough
    verdict = await verify(machine, deep=is_deep, screen=screen, key=False)
    assert (verdict.state, verdict.findings) == (State.CURRENT, ())


@pytest.mark.parametrize("journal", [True, False])
async def test_what_was_archived_in_the_open_is_known_once_there_are_masks(
    home: Path,
    journal: bool,  # noqa: FBT001 - a parameter
    is_deep: bool,  # noqa: FBT001 - a parameter
) -> None:
    async with Machine(home, Bucket(), screen=Screen("report", RULES)) as machine:
        machine.save(SOME)
        await machine.turn()
        machine.session().path.touch()
        verdict = await verify(machine, deep=is_deep, journal=journal)
    assert (verdict.state, verdict.findings) == (State.CURRENT, ())


async def test_without_a_journal_the_same_rules_are_enough(
    machine: Machine,
    is_deep: bool,  # noqa: FBT001 - a parameter
) -> None:
    verdict = await verify(machine, deep=is_deep, journal=False, key=False)
    assert (verdict.state, verdict.findings) == (State.CURRENT, ())


@pytest.mark.parametrize("is_sealed", [False, True])
@pytest.mark.parametrize("screen", [CHANGED, Screen()])
async def test_without_a_journal_and_with_other_rules_the_key_proves_it(
    machine: Machine,
    screen: Screen,
    is_sealed: bool,  # noqa: FBT001 - a parameter
    is_deep: bool,  # noqa: FBT001 - a parameter
) -> None:
    if is_sealed:
        await sealed(machine)
    verdict = await verify(machine, deep=is_deep, screen=screen, journal=False)
    assert (verdict.state, verdict.findings) == (State.CURRENT, ())
    keyless = await verify(machine, deep=is_deep, screen=screen, journal=False, key=False)
    assert (keyless.state, keyless.findings) == (State.PENDING, ())


async def test_what_was_masked_since_and_changed_is_pending(
    machine: Machine,
    is_deep: bool,  # noqa: FBT001 - a parameter
) -> None:
    machine.save([*SOME, *conversation(1)])
    for journal in (True, False):
        verdict = await verify(machine, deep=is_deep, screen=CHANGED, journal=journal)
        assert (verdict.state, verdict.findings) == (State.PENDING, ())


async def test_another_secret_behind_a_mask_tells_where_the_rules_do_not_mask_it(
    machine: Machine,
) -> None:
    machine.save_bytes(machine.session().path.read_bytes().replace(b"zq-7", b"zq-8"))
    same = await verify(machine, deep=True)
    assert same.state == State.CURRENT, "there is nothing that would be archived"
    other = await verify(machine, deep=True, screen=CHANGED)
    assert other.state == State.PENDING


async def test_a_key_proves_nothing_of_damaged_bytes(machine: Machine) -> None:
    await sealed(machine)
    was = machine.store.objects[KEY]
    machine.store.objects[KEY] = Object(was.body.replace(b"*", b"#", 1), was.metadata)
    verdict = await verify(machine, deep=True, screen=CHANGED, journal=False)
    assert verdict.state == State.PENDING
    assert {finding.what for finding in verdict.findings} == {What.DIGEST}


async def test_a_document_that_no_rule_can_look_at_is_told_as_such(machine: Machine) -> None:
    verdict = await verify(machine, deep=True, screen=Screen("mask", broken="x: no rule"))
    assert (verdict.state, verdict.reason) == (State.QUARANTINED, "unscannable")


async def test_no_word_of_a_secret_is_said(machine: Machine) -> None:
    machine.save_bytes(machine.session().path.read_bytes().replace(b"step", b"STEP"))
    verdict = await verify(machine, deep=True)
    assert SECRET not in str(replace(verdict, path=""))
