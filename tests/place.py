"""An archive of mirrored files, and a home directory into which they come back, in one process.

Puts into the archive what some daemon would have left there. Knows nothing of what a test expects.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.memory_store import Bucket, MemoryStore, Object
from transcriptd.choice import Choice, Chooser
from transcriptd.digest import digest
from transcriptd.journal import Journal
from transcriptd.layout import Meta, Names, Redaction, SegmentMeta, mirror_key, segment_key
from transcriptd.restore import Order, Outcome, Restorer
from transcriptd.sources.claude import Claude
from transcriptd.sources.codetether import CodeTether
from transcriptd.sources.codex import Codex
from transcriptd.sources.zeroclaw import ZeroClaw

if TYPE_CHECKING:
    from pathlib import Path

    from transcriptd.sources import Source
    from transcriptd.wanted import AnyWanted

PREFIX = "history/"
MIB = 1 << 20
UUID = "0f0e7a52-6c1d-4b8e-9a57-3d2c1b0a9f8e"
SLUG = "-srv-app"
FILE = f"{SLUG}/{UUID}.jsonl"


@dataclass(slots=True)
class Place:
    """An archive, and a home directory into which sessions come back.

    `redaction` is what is said of secrets in what is archived next.
    """

    home: Path
    bucket: Bucket = field(default_factory=Bucket)
    machine: str = "m1"
    redaction: Redaction = field(default_factory=Redaction)

    def put(
        self,
        path: str,
        content: bytes,
        agent: str = "claude",
        *,
        machine: str = "m1",
        says: bytes | None = None,
    ) -> str:
        """Archive a mirrored file; `says` is what its digest is of, if that is something else."""
        key = mirror_key(PREFIX, machine, agent, path.encode())
        said = Meta(
            0, content.count(b"\n"), len(content), digest(content if says is None else says),
            f"{machine}.000000000000", agent, self.redaction,
        )  # fmt: skip
        self.bucket.objects[key] = Object(content, said.encode())
        return key

    def add(self, key: str, start: int, more: bytes, *, before: bytes) -> str:
        """Archive a segment that says that it continues `before`."""
        where = segment_key(PREFIX, key, 0, start)
        said = SegmentMeta("m1.000000000000", digest(before), self.redaction)
        self.bucket.objects[where] = Object(more, said.encode())
        return where

    @property
    def store(self) -> MemoryStore:
        return MemoryStore(self.bucket)

    def file(self, path: str = FILE) -> Path:
        return self.home / ".claude" / "projects" / path

    def save(self, content: bytes, path: str = FILE, *, age_s: float | None = None) -> Path:
        """Write a file as an agent; the archive's objects are as old as time."""
        place = self.file(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        if age_s is not None:
            os.utime(place, (age_s, age_s))
        return place

    async def restore(
        self, choice: Choice | None = None, order: Order | None = None
    ) -> list[Outcome]:
        store = self.store
        choice = choice or Choice(every=True)
        chosen = await Chooser(store, PREFIX, self.machine).choose(choice)
        return await self.restored(store, order or Order(), chosen.wanted)

    async def restored(
        self, store: MemoryStore, order: Order, wanted: list[AnyWanted]
    ) -> list[Outcome]:
        environ = {"HOME": str(self.home)}
        sources: dict[str, Source] = {
            "codetether": CodeTether([], environ),
            "claude": Claude([], environ),
            "codex": Codex([], environ),
            "zeroclaw": ZeroClaw([], environ),
        }
        restorer = Restorer(
            store, PREFIX, sources, Journal(self.home / "journal.db"), order,
            names=None if order.to else Names(PREFIX, f"{self.machine}.ba9876543210"),
            max_document=MIB, memory_budget=MIB,
        )  # fmt: skip
        outcomes: list[Outcome] = []
        await restorer.restore(wanted, outcomes.append)
        return outcomes

    def left(self) -> set[str]:
        """Return all files in the home."""
        return {str(p.relative_to(self.home)) for p in self.home.rglob("*") if p.is_file()}


def one(outcomes: list[Outcome]) -> Outcome:
    (outcome,) = outcomes
    return outcome
