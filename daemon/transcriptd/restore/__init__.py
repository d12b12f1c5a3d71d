"""Brings sessions back from the archive, as the files that their agents load.

Owns which of them are under way at once, their order, and that one session's trouble is not
another's. A session whose file holds all that the archive has is left alone, so that an interrupted
run is repeated to go on. Knows no terminal.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from time import time_ns
from typing import TYPE_CHECKING

from transcriptd import failpoint
from transcriptd.errors import AuthFailed, BucketMissing, NotFound, TranscriptdError, Unreachable
from transcriptd.restore.claims import Claims
from transcriptd.restore.documents import Rebuilder
from transcriptd.restore.mirrors import MirrorRestorer
from transcriptd.restore.order import Order
from transcriptd.restore.outcome import Fate, Outcome, Ready, landed, told, word
from transcriptd.tree import Tree
from transcriptd.wanted import DOCUMENTS, Wanted, WantedMirror

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from transcriptd.journal import Journal
    from transcriptd.layout import Names
    from transcriptd.sources import Source
    from transcriptd.stores import Store
    from transcriptd.wanted import AnyWanted

__all__ = ["Fate", "Order", "Outcome", "Restorer"]

WIDTH = 8
_FATAL = (Unreachable, AuthFailed, BucketMissing)
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class Restorer:
    """Restores sessions of all agents.

    With `names` each stream is claimed, so that this machine's daemon goes on with it; not where
    sessions go elsewhere. `clock` gives the times of files, in Unix nanoseconds.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        sources: Mapping[str, Source],
        journal: Journal,
        order: Order,
        *,
        names: Names | None = None,
        max_document: int,
        memory_budget: int,
        clock: Callable[[], int] = time_ns,
    ) -> None:
        documents = sources[DOCUMENTS]
        assert not isinstance(documents, Tree)
        self._clock = clock
        self._claims = Claims(store, None if order.to else names)
        self._documents = Rebuilder(
            store, prefix, documents, journal, order=order, claims=self._claims,
            max_document=max_document, memory_budget=memory_budget,
        )  # fmt: skip
        self._mirrors = MirrorRestorer(
            store, prefix, sources, journal, order=order, claims=self._claims, names=names
        )
        self._stopped = ""

    @property
    def notes(self) -> dict[str, str]:
        """What is to be said once, by a constant word."""
        said = {"unclaimed": self._claims.refused, "not_indexed": self._documents.not_indexed}
        return {reason: message for reason, message in said.items() if message}

    def stands(self, each: AnyWanted) -> Path | None:
        """Return where a session's file stands, whatever it holds.

        Blocks. Raises `TranscriptdError` for what cannot be restored at all.
        """
        if isinstance(each, Wanted):
            return self._documents.stands(each.session_id)
        return self._mirrors.stands(each)

    async def restore(self, all_of: Iterable[AnyWanted], report: Callable[[Outcome], None]) -> None:
        """Restore sessions; each is reported as soon as its fate is known.

        Several are fetched at once. They are put in their places one after the other, so that the
        last of them is the most recent one to its agent, too.
        """
        under_way: deque[asyncio.Task[Ready | Outcome]] = deque()
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
                if isinstance(left, Ready):
                    left.landing.discard()

    async def _prepare(self, each: AnyWanted) -> Ready | Outcome:
        if self._stopped:
            return Outcome(
                each.session_id, Fate.FAILED, None, "not_tried", self._stopped, agent=_agent(each)
            )
        path: Path | None = None
        try:
            if isinstance(each, WantedMirror):
                mirror = await self._mirrors.target(each)
                path = mirror.session.path
                return await self._mirrors.prepare(mirror)
            document = await self._documents.target(each)
            path = document.session.path
            return await self._documents.prepare(document)
        except NotFound:
            return self._missing(each)
        except (TranscriptdError, OSError, ValueError) as error:  # the last: a key that cannot be
            return self._failed(each.session_id, path, error, _agent(each))

    async def _finish(self, prepared: Ready | Outcome) -> Outcome:
        if isinstance(prepared, Outcome):
            return prepared
        outcome, landing, standing = prepared.outcome, prepared.landing, prepared.standing
        try:
            aside = await asyncio.to_thread(
                landing.land, standing.stat, keep=standing.keep, clock=self._clock
            )
        except (TranscriptdError, OSError) as error:
            landing.discard()
            return self._failed(outcome.session_id, outcome.path, error, outcome.agent)
        failpoint.reached("landed")
        if outcome.agent == DOCUMENTS:
            await asyncio.to_thread(self._documents.landed, prepared.session)
        return landed(outcome, standing, aside)

    @staticmethod
    def _missing(each: AnyWanted) -> Outcome:
        """Say that the archive has nothing of it: no file is concerned."""
        number = each.generation
        what = "the archive has no session under this key"
        if number is not None:
            what = f"the archive has no generation {number} of it"
        return Outcome(each.session_id, Fate.FAILED, None, "not_archived", what, agent=_agent(each))

    def _failed(self, session_id: str, path: Path | None, error: Exception, agent: str) -> Outcome:
        if isinstance(error, _FATAL) or (isinstance(error, OSError) and error.errno in _NO_ROOM):
            self._stopped = self._stopped or f"not tried, because of another one: {told(error)}"
        return Outcome(session_id, Fate.FAILED, path, word(error), told(error), agent=agent)


def _agent(each: AnyWanted) -> str:
    return each.agent if isinstance(each, WantedMirror) else DOCUMENTS
