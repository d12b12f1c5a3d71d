"""Rebuilds documents: sessions whose file is made from the lines in the archive and the rest.

Owns where such a file goes and how it is written. Knows nothing of the order, nor of claims.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from transcriptd.archive import Span, open_stream
from transcriptd.budget import Budget
from transcriptd.errors import TranscriptdError, Unreadable
from transcriptd.landing import Landing, stands, write_whole
from transcriptd.layout import history_key
from transcriptd.places import Places
from transcriptd.restore.outcome import Fate, Outcome, Ready, judged, told
from transcriptd.standing import Judge
from transcriptd.wanted import asked, read_small
from transcriptd.whereabouts import Finder

if TYPE_CHECKING:
    from transcriptd.journal import Journal
    from transcriptd.model import Session
    from transcriptd.restore.claims import Claims
    from transcriptd.restore.order import Order
    from transcriptd.sources import Documents, Frame
    from transcriptd.stores import Store
    from transcriptd.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Target:
    """Where a session goes. `document` is what the archive has besides the lines."""

    wanted: Wanted
    session: Session
    document: bytes | None


class Rebuilder:
    """Rebuilds the documents of one source."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        source: Documents,
        journal: Journal,
        *,
        order: Order,
        claims: Claims,
        max_document: int,
        memory_budget: int,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._source = source
        self._journal = journal
        self._order = order
        self._claims = claims
        self._judge = Judge(store, prefix, source, Budget(memory_budget), max_document)
        self._roots: tuple[Path, ...] | None = None
        self.not_indexed = ""
        """What went wrong with the agent's index."""

    def stands(self, session_id: str) -> Path | None:
        """Return where a session's file stands. Blocks."""
        name = f"{session_id}.json"
        if self._order.to is not None:
            roots: tuple[Path, ...] = (self._order.to,)
        else:
            roots = self._roots = self._roots or self._source.places(Places(())).roots
        return next((root / name for root in roots if stands(root / name)), None)

    async def target(self, each: Wanted) -> Target:
        """Say where a session goes. Raises `TranscriptdError`."""
        document = await read_small(self._store, each.document_key)
        if document is not None and self._order.remap:
            document = self._order.remap.document(document)
        session = await asyncio.to_thread(self._session, each, document)
        return Target(each, session, document)

    async def prepare(self, target: Target) -> Ready | Outcome:
        """Write a session beside its place, unless that holds it. Raises `OSError` too."""
        each, session = target.wanted, target.session
        found = await asked(lambda: self._finder(each).find(each.generation, None))
        standing = await self._judge.look(each, session, found, target.document)
        outcome = Outcome(
            each.session_id, Fate.RESTORED, session.path,
            generation=found.generation, agent=self._source.name,
        )  # fmt: skip
        if fixed := self._order.without_writing(outcome, standing):
            return fixed
        landing = Landing.begin(session.path)
        try:
            outcome = await self._write(landing, target, outcome)
            if self._order.to is None:
                await self._claims.put(history_key(self._prefix, each.session_id))
        except BaseException:
            landing.discard()
            raise
        return Ready(outcome, session, landing, standing)

    def landed(self, session: Session) -> None:
        """Have the agent's index lead to a session, as the agent does itself when it saves it."""
        if self._order.to is not None:
            return
        entry = self._source.pointer(session)
        if self._source.root_named_by(entry) is not None:
            return
        try:
            write_whole(entry, bytes(session.path))
        except (OSError, TranscriptdError) as error:
            self.not_indexed = f"{entry.parent}: {told(error)}"

    def _session(self, each: Wanted, document: bytes | None) -> Session:
        """Say where a session goes: where it stands, where it stood, or where its agent looks."""
        place = self.stands(each.session_id)
        stood = (r.session.root for r in self._journal.records(self._source.name, each.session_id))
        root = self._order.to or (place.parent if place else None)
        if root is None:
            root = next((Path(before) for before in stood if Path(before).is_dir()), None)
        if root is None:
            root = self._source.home(document)
        session = self._source.session(root, f"{each.session_id}.json")
        if session is None:
            raise Unreadable("wrong_id", f"not a name that {self._source.name} would load")
        return session

    async def _write(self, landing: Landing, target: Target, outcome: Outcome) -> Outcome:
        each = target.wanted
        frame, kind = await self._frame(target)
        landing.write(frame.before)
        records = length = 0
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
                length += len(line)
        landing.write(frame.behind)
        found = judged(replace(outcome, size=length), stream.faults)
        await asyncio.to_thread(landing.settle)
        return replace(
            found,
            generation=stream.generation,
            records=records,
            size=landing.size,
            document=kind,
        )

    async def _frame(self, target: Target) -> tuple[Frame, str]:
        """Return what goes around the lines, and where it is from."""
        each, lacks = target.wanted, "missing"
        if target.document is not None:
            try:
                return self._source.frame(each.session_id, target.document, 0.0), "archived"
            except Unreadable:
                lacks = "damaged"
        head = await asked(lambda: self._store.head(each.key))
        saved_at = head.modified if head else time()
        return self._source.frame(each.session_id, None, saved_at), lacks

    def _finder(self, each: Wanted) -> Finder:
        return Finder(self._store, self._prefix, each.key)
