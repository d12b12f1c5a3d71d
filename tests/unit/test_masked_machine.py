"""Whatever happens in whatever order, no secret leaves that the rules of its time know.

Saves, undos, rules and modes that change, a journal that is old or lost, a key that is lost, a
store that fails and a process that dies between any two requests: hypothesis looks for an order of
things that breaks a promise. What was archived in the open stays so, and what was masked stays
masked; beyond that the archive holds what the source does.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.documents import history, message
from tests.machine import Machine
from tests.memory_store import Bucket, Crashed
from tests.servers.process import fast_parent
from transcriptd import files
from transcriptd.errors import ServerError, StoreError, StreamError, Unreachable
from transcriptd.layout import Meta
from transcriptd.model import State
from transcriptd.redaction import Rule, RuleSet
from transcriptd.screen import Screen
from transcriptd.write import Sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.memory_store import Object
    from transcriptd.screen import Mode
    from transcriptd.stores import Head

KEY = "history/s/history.jsonl"
DOCUMENT = "history/s/session.json"
RULES = {
    "zq": RuleSet([Rule("zq-token", "zq-[0-9]{24}")]),
    "both": RuleSet([Rule("zq-any", "zq-[0-9]{20,30}"), Rule("yk-token", "yk-[0-9]{24}")]),
    "yk": RuleSet([Rule("yk-token", "yk-[0-9]{24}")]),
}
KNOWS = {"zq": ("zq",), "both": ("zq", "yk"), "yk": ("yk",)}
PLANTED = {"zq": b"zq-777777777777777777777777", "yk": b"yk-555555555555555555555555"}
# What stands in the archive for a secret, or part of a mask that a source has by itself.
MASK = re.compile(rb"\[(?:zq-token|zq-any|yk-token)\]\*+|(?:zq-7{24}|yk-5{24})")
SIZES = Sizes(small=150, copyable=200)
ENOUGH_ATTEMPTS = 6

texts = st.lists(
    st.sampled_from(
        [
            "a",
            "b" * 50,
            PLANTED["zq"].decode(),
            f"x {PLANTED['yk'].decode()} y",
            f"{PLANTED['zq'].decode()} {PLANTED['yk'].decode()}",
            "[zq-token]*****************",
        ]
    ),
    min_size=1,
    max_size=3,
)
screens = st.tuples(st.sampled_from(["mask", "mask", "report", "off"]), st.sampled_from([*RULES]))
journals = st.sampled_from(["kept", "kept", "stale", "lost"])
kinds = st.sampled_from([(False, False), (True, False), (True, True)])
operations = st.sampled_from(["head", "list", "read", "put", "compose", "delete", ".*"])
keys = st.sampled_from(["", r"/s/history", r"session\.json"])


class Written(NamedTuple):
    """What a write left in the open though it was masked by these rules."""

    key: str
    rules: str
    secret: bytes


class Watched(Bucket):
    """Looks at what is new with each write: what the rules of its time know is not in it."""

    def __init__(self) -> None:
        super().__init__()
        self.known: tuple[str, ...] = ()  # what the rules know; nothing where nothing is masked
        self.leaks: list[Written] = []

    def write(
        self, key: str, body: bytes, metadata: Mapping[str, str], *, apart: bool = False
    ) -> Head:
        before = self._archived()
        head = super().write(key, body, metadata, apart=apart)
        fresh = [body] if key == DOCUMENT else []
        for generation, content in self._archived().items():
            fresh.append(content[len(before.get(generation, b"")) :])
        for each in self.known:
            if any(PLANTED[each] in part for part in fresh):
                self.leaks.append(Written(key, ",".join(self.known), PLANTED[each]))
        return head

    def _archived(self) -> dict[int, bytes]:
        return self.ledger.contents(KEY)


class Masking(RuleBasedStateMachine):
    """`texts` is what the session file holds; `changes` how often it was more than added to."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(structlog.testing.capture_logs())
        home = self.stack.enter_context(tempfile.TemporaryDirectory(dir=fast_parent()))
        # Nobody else writes the files: no change can hide in a tick of the clock.
        self.stack.enter_context(mock.patch.object(files, "_TICK_S", 0.0))
        self.runner = self.stack.enter_context(asyncio.Runner())
        self.bucket = Watched()
        self.machine = Machine(Path(home), self.bucket, sizes=SIZES)
        self.texts: list[str] = []
        self.changes = 0
        self._use("mask", "zq")
        self.runner.run(self.machine.__aenter__())

    def teardown(self) -> None:
        self.runner.run(self.machine.__aexit__())
        self.stack.close()

    @initialize(new=texts)
    def begin(self, new: list[str]) -> None:
        self._save(new)

    @rule(new=texts)
    def append(self, new: list[str]) -> None:
        self._save(self.texts + new)

    @rule(keep=st.integers(0, 4), new=st.just([]) | texts)
    def undo_or_rewrite(self, keep: int, new: list[str]) -> None:
        self._save(self.texts[:keep] + new)

    @rule(kind=kinds)
    def work(self, kind: tuple[bool, bool]) -> None:
        self._attempt(*kind)

    @rule(new=texts, kind=kinds)
    def append_and_work(self, new: list[str], kind: tuple[bool, bool]) -> None:
        self._save(self.texts + new)
        self._attempt(*kind)

    @rule(kind=kinds, step=st.integers(1, 24), journal=journals)
    def work_and_crash(self, kind: tuple[bool, bool], step: int, journal: str) -> None:
        self.machine.store.crash_at(step)
        self._attempt(*kind)
        self._restart(journal)

    @rule(kind=kinds, operation=operations, key=keys)
    def work_and_lose_an_answer(self, kind: tuple[bool, bool], operation: str, key: str) -> None:
        self.machine.store.lose_answer(operation, key=key)
        self._attempt(*kind)
        self.machine.store.recover()

    @rule(
        kind=kinds,
        operation=operations,
        key=keys,
        error=st.sampled_from([Unreachable, ServerError]),
    )
    def work_and_fail(
        self, kind: tuple[bool, bool], operation: str, key: str, error: type[StoreError]
    ) -> None:
        self.machine.store.fail(operation, error("injected"), key=key)
        self._attempt(*kind)
        self.machine.store.recover()

    @rule()
    def back_up_the_journal(self) -> None:
        self.runner.run(self.machine.back_up())

    @rule(screen=screens, journal=journals)
    def restart_with_other_rules(self, screen: tuple[Mode, str], journal: str) -> None:
        self._use(*screen)
        self._restart(journal)

    @rule(screen=screens, journal=journals)
    def lose_the_key(self, screen: tuple[Mode, str], journal: str) -> None:
        (self.machine.state_dir / "redaction.key").unlink(missing_ok=True)
        self.changes += 1  # what it cannot prove any more, it begins anew
        self._use(*screen)
        self._restart(journal)

    @rule(seconds=st.sampled_from([60.0, 1800.0]))
    def time_passes(self, seconds: float) -> None:
        self.machine.now += seconds

    @rule(new=texts, sealing=st.booleans())
    def become_quiet_after_a_change(self, new: list[str], *, sealing: bool) -> None:
        """What is archived then is what was saved last, but for what is masked of it."""
        self._save(self.texts + new)
        for _ in range(ENOUGH_ATTEMPTS):
            if self._attempt(settled=sealing, sealing=sealing):
                break
        else:
            raise AssertionError("it never ends")
        assert self.machine.journal.unsettled() == []
        found = self.runner.run(self.machine.content())
        if self.machine.record().state is State.BEHIND:
            found = found[: len(content(self.texts))]
        assert shown(found) == shown(content(self.texts))
        assert len(found) == len(content(self.texts))

    @invariant()
    def nothing_archived_is_lost(self) -> None:
        assert self.bucket.ledger.broken == []

    @invariant()
    def nothing_leaves_that_the_rules_know(self) -> None:
        assert self.bucket.leaks == []

    @invariant()
    def a_generation_begins_where_the_source_did(self) -> None:
        found: Object | None = self.bucket.objects.get(KEY)
        meta = Meta.decode(found.metadata) if found else None
        assert meta is None or meta.generation <= self.changes

    def _use(self, mode: Mode, rules: str) -> None:
        self.machine.screen = Screen(mode, RULES[rules])
        self.bucket.known = KNOWS[rules] if mode == "mask" else ()

    def _save(self, saved: list[str]) -> None:
        self.changes += saved[: len(self.texts)] != self.texts
        self.texts = saved
        title = f"about {saved[-1] if saved else 'nothing'}"
        self.machine.save([message("user", text) for text in saved], title=title)
        self.bucket.ledger.held("m1", content(saved))

    def _attempt(self, settled: bool = False, sealing: bool = False) -> bool:  # noqa: FBT001, FBT002 - drawn together
        """Take one turn; say whether it went well."""
        try:
            self.runner.run(self.machine.turn(settled=settled, sealing=sealing))
        except (Exception, Crashed, BaseExceptionGroup) as error:
            if not is_expected(error):
                raise
            self.bucket.ledger.forgotten(self.machine.names.writer)
            return False
        return True

    def _restart(self, journal: str) -> None:
        self.machine.store.recover()
        self.runner.run(self.machine.restart(journal))
        if journal != "kept":
            self.bucket.ledger.forgotten(self.machine.names.writer)


def content(saved: list[str]) -> bytes:
    return history([message("user", text) for text in saved])


def shown(stream: bytes) -> bytes:
    """Return a stream with all that may be masked in it made alike, byte for byte."""
    return MASK.sub(lambda found: b"?" * len(found[0]), stream)


def is_expected(error: BaseException) -> bool:
    """Whether another attempt follows, or the process died as it was told to."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_expected, error.exceptions))
    return isinstance(error, StoreError | StreamError | Crashed)


ZQ, YK, LONG = PLANTED["zq"].decode(), PLANTED["yk"].decode(), "b" * 50
ORDERS: dict[str, list[Callable[[Masking], object]]] = {
    "masks behind a base in the open, and no journal": [
        lambda it: it.begin([*"a", *[LONG] * 3]),
        lambda it: it.restart_with_other_rules(("report", "zq"), "lost"),
        lambda it: it.work((False, False)),
        lambda it: it.restart_with_other_rules(("mask", "zq"), "kept"),
        lambda it: it.append_and_work([ZQ, LONG], (False, False)),
        lambda it: it.restart_with_other_rules(("off", "zq"), "lost"),
        lambda it: it.become_quiet_after_a_change(["a"], sealing=False),
    ],
    "other rules, and a journal from before the masks": [
        lambda it: it.begin(["a"]),
        lambda it: it.work((False, False)),
        lambda it: it.back_up_the_journal(),
        lambda it: it.append_and_work([ZQ], (False, False)),
        lambda it: it.restart_with_other_rules(("mask", "both"), "stale"),
        lambda it: it.work((False, False)),
    ],
    "masks that were archived and not noted": [
        lambda it: it.begin(["a", LONG, LONG]),
        lambda it: it.append_and_work(["a", ZQ], (False, False)),
        lambda it: it.restart_with_other_rules(("report", "yk"), "lost"),
        lambda it: it.work_and_lose_an_answer((True, True), "put", r"session\.json"),
        lambda it: it.work((False, False)),
    ],
    "an undo to what is archived in the open, and other rules": [
        lambda it: it.begin([YK, "a"]),
        lambda it: it.work((True, False)),
        lambda it: it.become_quiet_after_a_change([f"{ZQ} {YK}"], sealing=False),
        lambda it: it.undo_or_rewrite(2, []),
        lambda it: it.restart_with_other_rules(("mask", "yk"), "kept"),
        lambda it: it.become_quiet_after_a_change([YK], sealing=True),
    ],
    "a generation that begins for want of the key": [
        lambda it: it.begin(["a"]),
        lambda it: it.become_quiet_after_a_change([YK], sealing=False),
        lambda it: it.back_up_the_journal(),
        lambda it: it.become_quiet_after_a_change([ZQ], sealing=False),
        lambda it: it.lose_the_key(("mask", "both"), "stale"),
        lambda it: it.become_quiet_after_a_change(["a"], sealing=False),
    ],
    "a journal about what was undone, and is done again": [
        lambda it: it.begin([LONG, "a", f"{ZQ} {YK}"]),
        lambda it: it.work((True, True)),
        lambda it: it.back_up_the_journal(),
        lambda it: it.undo_or_rewrite(2, []),
        lambda it: it.work((False, False)),
        lambda it: it.append([f"{ZQ} {YK}", "a"]),
        lambda it: it.restart_with_other_rules(("mask", "yk"), "stale"),
        lambda it: it.become_quiet_after_a_change([ZQ, YK], sealing=True),
    ],
}
"""What once broke a promise."""


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_an_order_that_was_found_once_breaks_nothing(
    order: list[Callable[[Masking], object]],
) -> None:
    masking = Masking()
    try:
        for step in order:
            step(masking)
            masking.nothing_archived_is_lost()
            masking.nothing_leaves_that_the_rules_know()
            masking.a_generation_begins_where_the_source_did()
    finally:
        masking.teardown()


TestMasking = Masking.TestCase
TestMasking.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,  # found by chance elsewhere, not where it would stop somebody's work
    suppress_health_check=[HealthCheck.too_slow],
)
