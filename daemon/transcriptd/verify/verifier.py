"""The order of things: what is looked at, how much of it at once, and what is looked at again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from transcriptd.archive import ATTEMPTS, Bounded, may_pass
from transcriptd.budget import Budget
from transcriptd.errors import (
    AuthFailed,
    BucketMissing,
    SlowDown,
    SourceError,
    StoreError,
    StreamError,
    Unreachable,
)
from transcriptd.gate import Gate
from transcriptd.model import State
from transcriptd.retry import until_done
from transcriptd.verify import inventory
from transcriptd.verify.audit import audit
from transcriptd.verify.inventory import Has
from transcriptd.verify.look import look
from transcriptd.verify.places import base_of, is_meant, is_stream, prefixes_of, session_of
from transcriptd.verify.reading import read
from transcriptd.verify.standing import Standing, stand
from transcriptd.verify.verdicts import (
    is_doubtful,
    stranger,
    unreadable,
    unreadable_root,
    unsettled,
    verdicts_on,
    wrong_in,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

    from transcriptd.model import Session
    from transcriptd.rows import Record
    from transcriptd.stores import Store
    from transcriptd.verify.finding import Finding, Verdict
    from transcriptd.verify.here import Here, Read
    from transcriptd.verify.inventory import Inventory
    from transcriptd.verify.look import Found
    from transcriptd.verify.verdicts import Wrong

T = TypeVar("T")

LOOKS = 4
LOOK_AGAIN_S = 2.0
_AT_ONCE = 8
_OF_THE_STORE = (Unreachable, SlowDown, AuthFailed, BucketMissing)


@dataclass(slots=True)
class Subject:
    """One stream and the sessions of this machine that are archived there, or will be.

    `wrong` is what the last look called so.
    """

    key: str
    has: Has
    sessions: list[Session]
    looks: int = 0
    wrong: Wrong | None = None
    is_settled: bool = False


class Verifier:
    """Looks at one archive from one machine.

    `deep`: the bytes are read, too. `memory` is how many bytes of sessions may be held at once.
    `on_progress` hears how many streams are done, and of how many.
    """

    def __init__(
        self,
        store: Store,
        here: Here,
        *,
        deep: bool = False,
        memory: int = 64 << 20,
        on_progress: Callable[[int, int], None] = lambda _done, _total: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._here = here
        self._prefix = here.prefix
        self._deep = deep
        self._budget = Budget(memory)
        self._on_progress = on_progress
        self._sleep = sleep
        self._gate = Gate(_AT_ONCE)

    async def run(self, wanted: Collection[str], on_verdict: Callable[[Verdict], None]) -> None:
        """Give a verdict on every session, or on those `wanted` by id or base key, as it is found.

        Raises `StoreError` where the archive as a whole cannot be asked.
        """
        meant = {base_of(self._prefix, name) for name in wanted}
        found = await self._take(meant)
        sessions = await asyncio.to_thread(self._here.sessions, found.streams, meant)
        for key in found.strangers:
            on_verdict(stranger(key))
        for root, why in self._here.unreadable.items():
            on_verdict(unreadable_root(root, why))
        unlisted = Has.GENERATIONS | Has.SEGMENTS if meant else Has.NOTHING
        streams = dict.fromkeys(sessions, unlisted) | found.streams
        subjects = [Subject(key, has, sessions.get(key, [])) for key, has in streams.items()]
        await self._look_until_sure(subjects, on_verdict)

    async def _take(self, meant: set[str]) -> Inventory:
        """List what is meant, all of it where that is nothing. An id may be that of a mirror."""

        async def take(*below: str) -> Inventory:
            return await self._ask(partial(inventory.take, self._store, self._prefix, below))

        if not meant:
            return await take(self._prefix)
        found = await take(*(each for name in meant for each in prefixes_of(self._prefix, name)))
        known = {session_of(self._prefix, key) for key in found.streams}
        if any(not is_stream(self._prefix, name) for name in meant - known):
            found.streams |= (await take(self._prefix)).streams
        streams = found.streams.items()
        found.streams = {k: has for k, has in streams if is_meant(self._prefix, k, meant)}
        return found

    async def _look_until_sure(
        self, subjects: list[Subject], on_verdict: Callable[[Verdict], None]
    ) -> None:
        """Look at everything, and again at what seems wrong: what passes was somebody at work."""
        total = left = len(subjects)

        async def look_at(subject: Subject) -> None:
            nonlocal left
            for verdict in await self._look_at(subject):
                on_verdict(verdict)
            left -= subject.is_settled
            self._on_progress(total - left, total)

        while True:
            await self._each(subjects, look_at)
            subjects = [subject for subject in subjects if not subject.is_settled]
            if not subjects:
                return
            await self._sleep(LOOK_AGAIN_S)

    async def _look_at(self, subject: Subject) -> list[Verdict]:
        """Take one look; return verdicts once there is no doubt about them."""
        verdicts, before = await self._examine(subject), subject.wrong
        subject.looks += 1
        subject.wrong = wrong_in(verdicts)
        subject.is_settled = not is_doubtful(verdicts, before)
        if not subject.is_settled and subject.looks == LOOKS:
            subject.is_settled = True
            return [unsettled(verdict, before or set()) for verdict in verdicts]
        # There may be more by the next look than the listing showed.
        subject.has |= Has.GENERATIONS | Has.SEGMENTS
        return verdicts if subject.is_settled else []

    async def _examine(self, subject: Subject) -> list[Verdict]:
        """Look at one stream and at the sessions of this machine that are archived there."""
        records = {session: self._here.record(session) for session in subject.sessions}
        async with AsyncExitStack() as stack:
            reads: dict[Session, Read] = {}
            if self._deep and records:
                size = sum([await self._here.size(session) for session in records])
                await stack.enter_async_context(self._budget.borrow(size))
                for session, record in records.items():
                    reads[session] = await self._here.read(session, record)
            try:
                found, known, findings = await self._find(subject, records, reads)
            except _OF_THE_STORE:
                raise
            except (StoreError, StreamError) as error:
                return [unreadable(self._prefix, subject.key, error)]
            standings = {
                session: await self._stand(session, record, found, known, reads.get(session))
                for session, record in records.items()
            }
        return list(verdicts_on(self._prefix, found, findings, standings))

    async def _find(
        self,
        subject: Subject,
        records: Mapping[Session, Record | None],
        reads: Mapping[Session, Read],
    ) -> tuple[Found, Mapping[int, str], list[Finding]]:
        """Return what stands, digests of the current generation, and what is wrong."""
        key = subject.key
        found = await self._ask(partial(look, self._store, self._prefix, key, subject.has))
        cursors = [r.cursor for r in records.values() if r and r.cursor and r.cursor.key == key]
        base = (found.head.etag, found.head.size) if found.head else None
        is_adopted = any((cursor.etag, cursor.base_length) == base for cursor in cursors)
        findings = [*audit(self._prefix, found, is_adopted=is_adopted)]
        if not self._deep:
            return found, found.digests(), findings
        lengths = [each.content.size for each in reads.values() if each.content]
        lengths += [cursor.length for cursor in cursors]
        got = await read(
            self._store, self._prefix, found, lengths, ask=self._ask, sleep=self._sleep
        )
        return found, got.digests, list(dict.fromkeys((*findings, *got.findings)))

    async def _stand(
        self,
        session: Session,
        record: Record | None,
        found: Found,
        known: Mapping[int, str],
        file: Read | None,
    ) -> Standing:
        async with AsyncExitStack() as stack:
            if file is None:  # it may have to be read now
                size = await self._here.size(session)
                await stack.enter_async_context(self._budget.borrow(size))
            try:
                return await stand(self._here, session, record, found, known=known, read=file)
            except SourceError:
                return Standing(State.PENDING)  # it was rewritten while it was compared

    async def _each(
        self, subjects: Iterable[Subject], work: Callable[[Subject], Awaitable[None]]
    ) -> None:
        """Do something for each, a few at once. Raises what the first that fails does."""
        waiting = iter(subjects)

        async def go_on() -> None:
            for subject in waiting:
                await work(subject)

        try:
            async with asyncio.TaskGroup() as tasks:
                giving_up = tasks.create_task(self._give_up(), name="patience")
                async with asyncio.TaskGroup() as workers:
                    for _ in range(_AT_ONCE):
                        workers.create_task(go_on(), name="verify")
                giving_up.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _give_up(self) -> None:
        """Raise the store's error once it is down and does not come back."""
        await self._gate.hopeless(ATTEMPTS)
        assert self._gate.error is not None
        raise self._gate.error

    async def _ask(self, attempt: Callable[[], Awaitable[T]]) -> T:
        async def once() -> T:
            async with self._gate.turn():
                return await attempt()

        stop = Bounded(ATTEMPTS)
        return await until_done(once, worth_it=may_pass, stop=stop, sleep=self._sleep)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
