"""Brings sessions back from the archive, as the files that their agent loads.

Owns which sessions there are to restore, what happens where a file stands already, and that one
session's trouble is not another's. A session whose file holds all that the archive has is left
alone, so that an interrupted run is repeated to go on. Knows no terminal.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from transcriptd import failpoint
from transcriptd.archive import Span, open_stream
from transcriptd.budget import Budget
from transcriptd.claim import put_claim
from transcriptd.errors import (
    AuthFailed,
    BucketMissing,
    NotFound,
    StoreError,
    TranscriptdError,
    Unreachable,
    Unreadable,
)
from transcriptd.landing import Landing, stands, write_whole
from transcriptd.layout import SegmentMeta, history_key
from transcriptd.places import Places
from transcriptd.standing import Judge
from transcriptd.survey import Survey, survey
from transcriptd.wanted import asked, read_small
from transcriptd.whereabouts import Finder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from transcriptd.journal import Journal
    from transcriptd.layout import Names
    from transcriptd.model import Session
    from transcriptd.sources import Documents, Frame
    from transcriptd.standing import Standing
    from transcriptd.stores import Store
    from transcriptd.wanted import Wanted

WIDTH = 8
_FATAL = (Unreachable, AuthFailed, BucketMissing)
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class Fate(StrEnum):
    """What became of a session."""

    RESTORED = "restored"
    SKIPPED = "skipped"  # its file holds just what the archive has
    KEPT = "kept"  # its file holds something that the archive does not, or is newer
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one session, and why: `reason` is a constant word, `message` for people.

    `records` and `size` (bytes) are those of the file that was written, `document` says where the
    rest beside the lines came from: `archived`, `missing`, `damaged`. `aside` is where the file
    that stood there before is kept.
    """

    session_id: str
    fate: Fate
    path: Path | None = None
    reason: str = ""
    message: str = ""
    generation: int | None = None
    records: int = 0
    size: int = 0
    document: str = ""
    aside: Path | None = None


@dataclass(frozen=True, slots=True)
class _Ready:
    """A session that is written and waits to be put in its place."""

    outcome: Outcome
    session: Session
    landing: Landing
    standing: Standing


class Restorer:
    """Restores sessions of one source.

    `to` is a directory; without one sessions go where their agent looks for them, and with `names`
    each stream is claimed, so that this machine's daemon goes on with it. With `force` a file gives
    way to the archive whatever it holds, and is kept beside where that is more.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        source: Documents,
        journal: Journal,
        *,
        names: Names | None = None,
        to: Path | None = None,
        force: bool = False,
        max_document: int,
        memory_budget: int,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._source = source
        self._journal = journal
        self._names = None if to or store.appends else names
        self._to = to
        self._force = force
        self._judge = Judge(store, prefix, source, Budget(memory_budget), max_document)
        self._roots: tuple[Path, ...] = ()
        self._stopped = ""
        self.notes: dict[str, str] = {}
        """What is to be said once, by a constant word."""

    async def restore(self, all_of: Iterable[Wanted], report: Callable[[Outcome], None]) -> None:
        """Restore sessions; each is reported as soon as its fate is known.

        Several are fetched at once. They are put in their places one after the other, so that the
        last of them is the most recent one to its agent, too.
        """
        if self._to is None:
            places = await asyncio.to_thread(self._source.places, Places(()))
            self._roots = places.roots
        under_way: deque[asyncio.Task[_Ready | Outcome]] = deque()
        try:
            for each in all_of:
                name = f"restore {each.session_id}"
                under_way.append(asyncio.create_task(self._prepare(each), name=name))
                if len(under_way) == WIDTH:
                    report(await self._finish(await under_way[0]))
                    under_way.popleft()
            while under_way:
                report(await self._finish(await under_way[0]))
                under_way.popleft()
        finally:
            for task in under_way:
                task.cancel()
            for left in await asyncio.gather(*under_way, return_exceptions=True):
                if isinstance(left, _Ready):
                    left.landing.discard()

    async def _prepare(self, each: Wanted) -> _Ready | Outcome:
        if self._stopped:
            return Outcome(each.session_id, Fate.FAILED, None, "not_tried", self._stopped)
        path: Path | None = None
        try:
            document = await read_small(self._store, each.document_key)
            session = self._session(each, document)
            path = session.path
            found = await asked(lambda: self._finder(each).find(each.generation, None))
            standing = await self._judge.look(each, session, found, document)
            if standing.is_equal:
                return Outcome(each.session_id, Fate.SKIPPED, path, generation=found.generation)
            if standing.keep and not self._force:
                return Outcome(each.session_id, Fate.KEPT, path, standing.reason, standing.message)
            outcome = Outcome(each.session_id, Fate.RESTORED, path, generation=found.generation)
            landing = await asyncio.to_thread(Landing.begin, path)
            try:
                outcome = await self._write(landing, each, outcome, document)
                await self._claim(each)
            except BaseException:
                landing.discard()
                raise
            return _Ready(outcome, session, landing, standing)
        except (TranscriptdError, OSError) as error:
            return self._failed(each.session_id, path, error)

    async def _finish(self, prepared: _Ready | Outcome) -> Outcome:
        if isinstance(prepared, Outcome):
            return prepared
        outcome, landing, standing = prepared.outcome, prepared.landing, prepared.standing
        try:
            aside = await asyncio.to_thread(landing.land, standing.stat, keep=standing.keep)
        except (TranscriptdError, OSError) as error:
            landing.discard()
            return self._failed(outcome.session_id, outcome.path, error)
        failpoint.reached("landed")
        if self._to is None:
            await asyncio.to_thread(self._point_to, prepared.session)
        return replace(outcome, aside=aside)

    def _session(self, each: Wanted, document: bytes | None) -> Session:
        """Say where a session goes: where it stands, where it stood, or where its agent looks."""
        name = f"{each.session_id}.json"
        stood = (r.session.root for r in self._journal.records(self._source.name, each.session_id))
        root = self._to
        if root is None:
            root = next((root for root in self._roots if stands(root / name)), None)
        if root is None:
            root = next((Path(before) for before in stood if Path(before).is_dir()), None)
        if root is None:
            root = self._source.home(document)
        session = self._source.session(root, name)
        if session is None:
            raise Unreadable("wrong_id", f"not a name that {self._source.name} would load")
        return session

    async def _write(
        self, landing: Landing, each: Wanted, outcome: Outcome, document: bytes | None
    ) -> Outcome:
        frame, kind = await self._frame(each, document)
        landing.write(frame.before)
        records = 0
        span = Span(each.key, generation=outcome.generation)
        async with open_stream(self._store, self._prefix, span) as stream:
            async for line in stream.lines():
                if records:
                    landing.write(frame.between)
                try:
                    landing.write(self._source.record(line))
                except Unreadable as error:
                    message = f"line {records + 1} in the archive is no message: {error}"
                    raise Unreadable(error.reason, message) from None
                records += 1
            strays = [fault.key for fault in stream.faults if fault.reason != "overlaps"]
        landing.write(frame.behind)
        await asyncio.to_thread(landing.settle)
        message = f"what lies behind it in the archive does not fit: {strays[0]}" if strays else ""
        return replace(
            outcome,
            message=message,
            generation=stream.generation,
            records=records,
            size=landing.size,
            document=kind,
        )

    async def _frame(self, each: Wanted, document: bytes | None) -> tuple[Frame, str]:
        """Return what goes around the lines, and where it is from."""
        lacks = "missing"
        if document is not None:
            try:
                return self._source.frame(each.session_id, document, 0.0), "archived"
            except Unreadable:
                lacks = "damaged"
        head = await asked(lambda: self._store.head(each.key))
        saved_at = head.modified if head else time()
        return self._source.frame(each.session_id, None, saved_at), lacks

    async def _claim(self, each: Wanted) -> None:
        """Say that this machine goes on with the stream; without permission it is said, once."""
        if self._names is None:
            return
        names, key = self._names, history_key(self._prefix, each.session_id)

        async def attempt() -> None:
            found = await survey(self._store, self._prefix, key)
            others = await self._writers(found) - {names.writer}
            await put_claim(self._store, names, key, takes_over=dict.fromkeys(others, found.used))

        try:
            await asked(attempt)
        except StoreError as error:
            self._names = None
            self.notes["unclaimed"] = str(error)

    async def _writers(self, found: Survey) -> frozenset[str]:
        """Return who wrote the base, and who wrote the end of the tail."""
        writers = {found.meta.writer} if found.meta else set()
        if found.chain.content:
            head = await self._store.head(found.chain.content[-1].key)
            said = SegmentMeta.decode(head.metadata) if head else None
            writers |= {said.writer} if said else set()
        return frozenset(writers)

    def _point_to(self, session: Session) -> None:
        """Have the agent's index lead to a session, as the agent does itself when it saves it."""
        entry = self._source.pointer(session)
        if self._source.root_named_by(entry) is not None:
            return
        try:
            write_whole(entry, bytes(session.path))
        except (OSError, TranscriptdError) as error:
            self.notes["not_indexed"] = f"{entry.parent}: {_told(error)}"

    def _finder(self, each: Wanted) -> Finder:
        return Finder(self._store, self._prefix, each.key)

    def _failed(self, session_id: str, path: Path | None, error: Exception) -> Outcome:
        if isinstance(error, _FATAL) or (isinstance(error, OSError) and error.errno in _NO_ROOM):
            self._stopped = self._stopped or f"not tried, because of another one: {_told(error)}"
        reason = error.reason if isinstance(error, Unreadable) else _word(error)
        return Outcome(session_id, Fate.FAILED, path, reason, _told(error))


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def _word(error: Exception) -> str:
    """Return the constant word for a failure."""
    if isinstance(error, OSError):
        return "not_written"
    if isinstance(error, StoreError):
        return error.degraded or (
            "not_archived" if isinstance(error, NotFound) else "store_refused"
        )
    return "moved_on"
