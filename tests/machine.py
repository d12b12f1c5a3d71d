"""One machine in one process: session files, a journal and a worker, over a store in memory.

What `app` wires, without watching, waiting or a server, so that a test can take single turns and
let the process die between any two steps. Knows nothing of what a test expects.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from time import monotonic
from typing import TYPE_CHECKING, Self

from tests import documents
from tests.memory_store import MemoryStore
from transcriptd import identity
from transcriptd.archive import open_stream, span_of
from transcriptd.budget import Budget
from transcriptd.errors import StoreError, Superseded
from transcriptd.gate import Gate
from transcriptd.journal import Journal
from transcriptd.layout import MASKED, Names, history_key
from transcriptd.model import Session
from transcriptd.pool import Turn
from transcriptd.screen import Screen
from transcriptd.sources.codetether import CodeTether
from transcriptd.status import Status
from transcriptd.upload import Uploader
from transcriptd.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.documents import Message
    from tests.memory_store import Bucket
    from transcriptd.rows import Record
    from transcriptd.write import Sizes

MIB = 1 << 20


class Machine:
    """`async with Machine(home, bucket) as machine`; `restart` forgets what a process forgets."""

    def __init__(
        self,
        home: Path,
        bucket: Bucket | None = None,
        *,
        name: str = "m1",
        writer: str = "0123456789ab",
        memory_budget: int = 64 * MIB,
        max_document: int = MIB,
        sizes: Sizes | None = None,
        screen: Screen | None = None,
    ) -> None:
        self.store = MemoryStore(bucket)
        self.names = Names("history/", f"{name}.{writer}")
        self.root = home / name / "sessions"
        self.root.mkdir(parents=True)
        self.journal_path = home / name / "journal.db"
        self._backup = home / name / "backup.db"
        self.foreign: list[str] = []
        self.budget = Budget(memory_budget)
        self._max_document = max_document
        self._sizes = sizes
        self.screen = screen or Screen()
        self.excluded: dict[Session, str] = {}
        self.state_dir = home / name
        self.max_lag = 1800.0
        self.now = 1_700_000_000.0
        self.journal: Journal
        self.status: Status
        self.gate: Gate
        self.uploader: Uploader
        self.worker: Worker

    async def __aenter__(self) -> Self:
        self.status = Status()
        # No jitter: a pause that a random number scales to nothing.
        self.gate = Gate(8, jitter=lambda: 0.0)
        self.journal = await Journal(self.journal_path).__aenter__()
        self.uploader = Uploader(
            self.store,
            self.journal,
            self.names,
            secret=identity.secret(self.state_dir, make=self.screen.mode == MASKED),
            on_foreign=lambda session: self.foreign.append(session.id),
            sizes=self._sizes,
            clock=lambda: self.now,
        )
        self.worker = Worker(
            sources={"codetether": CodeTether((), {"HOME": str(self.root.parent)})},
            screens=defaultdict(lambda: self.screen),
            excluded={"codetether": lambda session, _: self.excluded.get(session, "")},
            journal=self.journal,
            uploader=self.uploader,
            gate=self.gate,
            budget=self.budget,
            status=self.status,
            names=self.names,
            max_document=self._max_document,
            max_lag=self.max_lag,
            wall_clock=lambda: self.now,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.journal.__aexit__()

    async def restart(self, journal: str = "kept") -> None:
        """Start anew, with the journal as it was `kept`, the `stale` back-up of it, or none."""
        await self.journal.__aexit__()
        if journal != "kept":
            for path in self.journal_path.parent.glob("journal.db*"):
                path.unlink()
        if journal == "stale" and self._backup.exists():
            shutil.copy(self._backup, self.journal_path)
        await self.__aenter__()

    async def back_up(self) -> None:
        """Keep the journal as it is now, for a `stale` restart."""
        await self.journal.__aexit__()
        shutil.copy(self.journal_path, self._backup)
        await self.__aenter__()

    def session(self, session_id: str = "s") -> Session:
        return Session("codetether", session_id, str(self.root), f"{session_id}.json")

    def save(self, messages: Sequence[Message], session_id: str = "s", **fields: object) -> Session:
        """Save as CodeTether does."""
        documents.save(self.root, documents.document(messages, session_id, **fields))
        return self.session(session_id)

    def save_bytes(self, data: bytes, session_id: str = "s") -> Session:
        """Save what CodeTether would not."""
        session = self.session(session_id)
        session.path.write_bytes(data)
        return session

    async def turn(
        self, session: Session | None = None, *, settled: bool = False, sealing: bool = False
    ) -> float | None:
        """Take one attempt at a session."""
        turn = Turn(session or self.session(), monotonic(), settled, sealing, quiet=settled)
        return await self.worker.attempt(turn)

    def record(self, session_id: str = "s") -> Record:
        record = self.journal.record(self.session(session_id))
        assert record is not None
        return record

    def archived(self, session_id: str = "s") -> bytes | None:
        """Return what lies under a session's base key."""
        found = self.store.objects.get(history_key(self.names.prefix, session_id))
        return found.body if found else None

    @staticmethod
    def reader(bucket: Bucket) -> MemoryStore:
        """Return a client of the bucket that nothing befalls."""
        return MemoryStore(bucket)

    async def content(self, key: str = "history/s/history.jsonl") -> bytes:
        """Return a stream as everybody reads it, its tail included."""
        reader = self.reader(self.store.remote)
        async with open_stream(reader, self.names.prefix, span_of("", key)) as stream:
            return b"".join([chunk async for chunk in stream.chunks])

    def forget(self) -> None:
        """Forget which streams were looked at, as after a start."""
        self.uploader._known.clear()


async def until_archived(machine: Machine) -> None:
    """Take turns as the pool does: an error means another one."""
    for _ in range(4):
        try:
            await machine.turn()
        except (StoreError, Superseded):
            continue
        return
    raise AssertionError("it never ends")
