"""The rules: what people, machines and networks do, in whatever order.

Two machines with one session id where the archive honours conditions, else one. After every step
everything in the archive is read and held against what could be read before; at the end all becomes
quiet, and what was saved last is archived.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import structlog
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.documents import history, message
from tests.long.links import TROUBLES, Held, Link, Moment
from tests.long.oracle import must_go_on, read_archive, read_stream
from tests.long.places import MACHINES, PREFIX, is_honest, may_land_late
from tests.machine import Machine
from tests.servers.process import fast_parent
from transcriptd import files
from transcriptd.errors import NotFound, StoreError, StreamError
from transcriptd.layout import Names, generation_key, history_key
from transcriptd.model import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.documents import Message
    from tests.long.oracle import Archive, Readable
    from tests.long.places import Place
    from transcriptd.stores import Store

ENOUGH_ATTEMPTS = 6
MOST_REQUESTS = 60

Change = tuple[str, int, list[str]]
"""How a session file changes, from which message on or how many versions back, and what is new."""

HOW = ("append", "append", "append", "rewrite", "undo", "same size", "revert", "delete")

who = st.integers(0, MACHINES - 1)
texts = st.lists(st.sampled_from("ababL"), min_size=1, max_size=3)
changes = st.tuples(st.sampled_from((*HOW, "save again", "nothing")), st.integers(0, 4), texts)
kinds = st.sampled_from(["unsettled", "unsettled", "settled", "sealing"])
journals = st.sampled_from(["kept", "stale", "lost"])
moments = st.builds(Moment, st.sampled_from([0, 1, 1, 2, 2, 3, 4, 6])) | st.builds(
    Moment, st.integers(0, 3), st.just(value=True)
)
answers = st.booleans()
_numbers = itertools.count()


class Archiving(RuleBasedStateMachine):
    """`messages` is what each machine's session file holds, `story` what happened so far.

    `tell` hears each line of the story as it happens.
    """

    def __init__(self, place: Place, tell: Callable[[str], None] = lambda _: None) -> None:
        super().__init__()
        self.tell = tell
        self.place = place
        self.prefix = f"{PREFIX}{next(_numbers)}/"
        self.key = history_key(self.prefix, "s")
        self.story: list[str] = []
        tell(f"-- below {self.prefix}")
        self.failed = False
        self.stack = ExitStack()
        self.stack.enter_context(structlog.testing.capture_logs())
        home = self.stack.enter_context(tempfile.TemporaryDirectory(dir=fast_parent()))
        # Nobody else writes the files: no change can hide in a tick of the clock.
        self.stack.enter_context(mock.patch.object(files, "_TICK_S", 0.0))
        self.run = place.runner.run
        self.reader: Store = place.reader(self.prefix)
        self.links = place.links(self.prefix)
        self.machines = [
            Machine(
                Path(home),
                name=name,
                writer=12 * name[1],
                memory_budget=1 << 30,
                max_document=1 << 28,
                sizes=place.sizes,
            )
            for name in ("m1", "m2")
        ]
        self.messages: list[list[str]] = [[] for _ in self.machines]
        self.versions: list[list[str]] = []
        self.has_written = [False for _ in self.machines]
        self.unseen = [False for _ in self.machines]  # the other wrote since this one last did
        self.under_way: list[tuple[Link, Held]] = []
        self.known: Readable = {}
        self.stands: tuple[str, ...] = ()
        for machine, link in zip(self.machines, self.links, strict=True):
            machine.names = Names(self.prefix, machine.names.writer)
            _connect(machine, link.store)
            self.run(machine.__aenter__())

    def teardown(self) -> None:
        try:
            if not self.failed and self.versions:
                with self._told("all becomes quiet"):
                    self.run(self._all_becomes_quiet())
        finally:
            for _, held in self.under_way:
                held.fate.drop()
            self.run(self._close())
            self.stack.close()

    @initialize(new=texts)
    def begin(self, new: list[str]) -> None:
        self._save(0, new)

    @rule(by=who, change=changes, kind=kinds)
    def work(self, by: int, change: Change, kind: str) -> None:
        by = self._changed(by, change)
        with self._told(f"m{by} works {kind}"):
            self.run(self._turn(by, kind))

    @rule(seconds=st.sampled_from([60.0, 1800.0]), by=who, change=changes)
    def time_passes(self, seconds: float, by: int, change: Change) -> None:
        self._say(f"{seconds} seconds pass")
        for machine in self.machines:
            machine.now += seconds
        self.work(by, change, "settled")

    @rule(by=who, change=changes, kind=kinds, trouble=st.sampled_from(TROUBLES), at=moments)
    def work_in_trouble(self, by: int, change: Change, kind: str, trouble: str, at: Moment) -> None:
        by = self._changed(by, change)
        self.links[by].trouble(trouble, at)
        with self._told(f"m{by} works {kind}; {trouble} at {at}"):
            self.run(self._turn(by, kind))
        self.links[by].recover()

    @rule(by=who, change=changes, kind=kinds, at=moments, answer=answers, journal=journals)
    def work_and_crash(  # noqa: PLR0917 - drawn by hypothesis
        self,
        by: int,
        change: Change,
        kind: str,
        at: Moment,
        answer: bool,  # noqa: FBT001 - the same
        journal: str,
    ) -> None:
        by = self._changed(by, change)
        held = Held(answer)
        self.links[by].hold(held, at)
        with self._told(f"m{by} works {kind} and dies at {at}; journal {journal}"):
            self.run(self._crash(by, kind, held))
            self.run(self._restart(by, journal))

    @precondition(lambda self: is_honest(self.place))
    @rule(by=who, change=changes, kind=kinds, at=moments, answer=answers)
    def work_while_the_other_does(
        self,
        by: int,
        change: Change,
        kind: str,
        at: Moment,
        answer: bool,  # noqa: FBT001 - drawn by hypothesis
    ) -> None:
        """Let one machine pause inside a request while the other takes a whole turn."""
        by = self._changed(by, change)
        with self._told(f"m{by} works {kind} and pauses at {at}, answered: {answer}"):
            self.run(self._both(by, at, Held(answer), kind))

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 50))
    def request_lands_late(self, which: int) -> None:
        link, held = self.under_way.pop(which % len(self.under_way))
        with self._told("a request may land late"):
            self.run(self._lands(link, held))

    @rule(by=who, change=changes, journal=journals)
    def restart(self, by: int, change: Change, journal: str) -> None:
        by = self._changed(by, change)
        with self._told(f"m{by} restarts, journal {journal}"):
            self.run(self._restart(by, journal))
            self.run(self.machines[by].back_up())

    @rule(by=who, new=texts)
    def become_quiet(self, by: int, new: list[str]) -> None:
        with self._told(f"m{by} becomes quiet"):
            self.run(self._becomes_quiet(self._one(by), new))

    @invariant()
    def nothing_archived_changes_or_disappears(self) -> None:
        if self.versions:
            with self._told("everything is read"):
                self.run(self._look())

    async def _look(self) -> Archive:
        """Read everything, compare it with what was known, and with what a reader sees."""
        archive = await read_archive(self.reader, self.prefix)
        readable = archive.readable()
        must_go_on(self.known, readable)
        self.known = readable
        for key, meta in archive.streams.items():
            content = archive.current(key, meta)
            assert await read_stream(self.reader, self.prefix, key) == content, f"reader: {key}"
            if generation_key(self.prefix, key, meta.generation) not in archive.objects:
                assert readable[key, meta.generation] == content
        return archive

    async def _becomes_quiet(self, by: int, new: list[str]) -> None:
        """With a healthy server, what was saved last is under our key soon."""
        machine = self.machines[by]
        machine.now += 60.0
        self._save(by, self.messages[by] + new)
        before = self.links[by].asked()
        for _ in range(ENOUGH_ATTEMPTS):
            if await self._turn(by, "sealing"):
                break
        else:
            raise AssertionError("it never ends")
        assert machine.journal.unsettled() == []
        if self.unseen[by] and self.links[by].asked() == before:
            return  # it is what was archived before: no reason to look what others did to it
        saved, record = self._history(self.messages[by]), machine.record()
        archive = await self._look()
        if record.state is State.BEHIND:
            key = record.cursor.key if record.cursor else self.key
            content = archive.current(key, archive.streams[key])
            assert content.startswith(saved), "behind, and the archive does not begin with it"
            return
        assert record.cursor is not None, "nothing is archived"
        key = record.cursor.key
        found = archive.current(key, archive.streams[key])
        # What others wrote behind our back is looked at with the next change.
        assert found == saved or (self.unseen[by] and found.startswith(saved)), "not what was saved"
        if not self.unseen[by]:
            assert archive.objects[key].body == saved, "the base is behind after a seal"
        assert (key == self.key) == (record.state is State.CURRENT), (key, record.state)
        assert key == self.key or any(w for i, w in enumerate(self.has_written) if i != by)

    async def _all_becomes_quiet(self) -> None:
        while self.under_way:
            await self._lands(*self.under_way.pop())
            await self._look()
        for by in range(MACHINES if is_honest(self.place) else 1):
            if self.messages[by]:
                self.links[by].recover()
                await self._becomes_quiet(by, ["a", "b"])
        self.place.left += await self.place.unfinished(self.prefix)

    async def _both(self, by: int, at: Moment, held: Held, kind: str) -> None:
        self.links[by].hold(held, at)
        first = asyncio.create_task(self._turn(by, kind))
        arrived = asyncio.create_task(held.arrived.wait())
        await asyncio.wait([first, arrived], return_when=asyncio.FIRST_COMPLETED)
        arrived.cancel()
        try:
            await self._turn(1 - by, kind)
        finally:
            held.fate.set()
            await first
        self.links[by].recover()

    async def _crash(self, by: int, kind: str, held: Held) -> None:
        """Let a process die while a request of its own is under way."""
        turn = asyncio.create_task(self._turn(by, kind))
        arrived = asyncio.create_task(held.arrived.wait())
        await asyncio.wait([turn, arrived], return_when=asyncio.FIRST_COMPLETED)
        arrived.cancel()
        self.links[by].cut_off()
        turn.cancel()
        ended = await asyncio.gather(turn, return_exceptions=True)
        if isinstance(ended[0], BaseException) and not is_expected(ended[0]):
            raise ended[0]
        if held.seen:
            self._say(f"  it was {held.seen.method} {held.seen.target}")
        if held.may_land_late:
            self.under_way.append((self.links[by], held))
        else:
            held.fate.drop()

    async def _lands(self, link: Link, held: Held) -> None:
        if not may_land_late(self.place, held, alone=sum(self.has_written) == 1):
            held.fate.drop()
            return
        await link.landed(held)
        await self._notice()
        if seen := held.seen:
            self._say(f"  {seen.method} {seen.target} lands late: {seen.server_status}")

    async def _restart(self, by: int, journal: str) -> None:
        await self.links[by].revive()
        _connect(self.machines[by], self.links[by].store)
        await self.machines[by].restart(journal)

    async def _turn(self, by: int, kind: str) -> bool:
        """Take one turn; say whether it went well."""
        machine, link = self.machines[by], self.links[by]
        before = link.asked()
        try:
            await machine.turn(settled=kind != "unsettled", sealing=kind == "sealing")
        except (Exception, BaseExceptionGroup) as error:
            self._say(f"  m{by} {kind}: {error!r}")
            if not is_expected(error):
                raise
            return False
        finally:
            self.has_written[by] = True
            await self._notice()
            asked = link.asked() - before
            self._say(f"  m{by} {kind}: {asked} requests")
            assert asked <= MOST_REQUESTS, f"{asked} requests in one turn"
        return True

    async def _notice(self) -> None:
        """Note who wrote under the key last: the other one may not know of it."""
        head = await self.reader.head(self.key)
        stands = (head.etag, *head.metadata.values()) if head else ()
        if head and stands != self.stands:
            names = [machine.names.writer for machine in self.machines]
            writer = names.index(head.metadata["td-writer"])
            self.unseen[writer], self.unseen[1 - writer] = False, True
        self.stands = stands

    async def _close(self) -> None:
        for machine, link in zip(self.machines, self.links, strict=True):
            await machine.__aexit__()
            await link.store.close()
        await self.reader.close()

    def _changed(self, by: int, change: Change) -> int:
        """Change what is in a session file; return whose it is."""
        by, (how, at, new) = self._one(by), change
        was = self.messages[by]
        match how:
            case "append":
                self._save(by, was + new)
            case "rewrite":
                self._save(by, was[:at] + new)
            case "undo":
                self._save(by, was[: max(0, len(was) - at)])
            case "same size":
                flipped = {"a": "b", "b": "a", "L": "M", "M": "L"}
                self._save(by, [flipped[m] if i == at else m for i, m in enumerate(was)])
            case "revert":
                self._save(by, self.versions[-1 - at % len(self.versions)])
            case "delete":
                self._say(f"m{by} deletes its file")
                self.machines[by].session().path.unlink(missing_ok=True)
            case "save again":
                self._save(by, was)
        return by

    def _one(self, by: int) -> int:
        """Only one machine where the archive cannot tell two apart."""
        return by if is_honest(self.place) else 0

    def _save(self, by: int, messages: list[str]) -> None:
        by = self._one(by)
        self._say(f"m{by} saves {''.join(messages)!r}")
        self.messages[by] = messages
        self.versions.append(messages)
        self.machines[by].save(self._messages(messages))

    def _messages(self, messages: list[str]) -> list[Message]:
        long = {"L": "l" * self.place.text, "M": "m" * self.place.text}
        return [message("user", long.get(text, text)) for text in messages]

    def _history(self, messages: list[str]) -> bytes:
        return history(self._messages(messages))

    def _say(self, what: str) -> None:
        self.story.append(what)
        self.tell(what)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Let an error tell what happened before it, as it was: a server is not deterministic."""
        self._say(what)
        try:
            yield
        except BaseException as error:
            self.failed = True
            error.add_note("\n".join(["What happened:", *self.story]))
            raise


def _connect(machine: Machine, store: Store) -> None:
    machine.store = store  # type: ignore[assignment] # it knows only what the protocol says


def is_expected(error: BaseException) -> bool:
    """Whether another attempt follows, or the process died as it was told to."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_expected, error.exceptions))
    return isinstance(error, StoreError | StreamError | asyncio.CancelledError | NotFound)
