"""Everything that was ever archived under our metadata, and whether it can still be read.

An oracle for tests: it is told of each change to the objects of a store and raises `ArchiveBroken`
the moment a byte at (stream, generation, offset) changes or disappears, a generation is used
twice, or somebody else's bytes are overwritten. Knows the archive format, not who writes or how.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from transcriptd.digest import digest
from transcriptd.layout import Meta, foreign_key, generation_key, generations_prefix, machine_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.memory_store import Stored

_KEPT = re.compile(r"/\.generations/|/\.conflicts/.*/foreign-[^/]*$")
_BASE = re.compile(r"\.jsonl$")


class ArchiveBroken(AssertionError):
    """A promise of the archive was broken."""


class Ledger:
    """`broken` keeps each breach too: code under test may swallow the error and try again."""

    def __init__(self, prefix: str) -> None:
        self.broken: list[str] = []
        self._prefix = prefix
        self._known: dict[tuple[str, int], bytes] = {}
        self._lost: dict[tuple[str, int], bytes] = {}
        self._writers: dict[tuple[str, int], str] = {}
        self._held: dict[str, set[bytes]] = {}

    def contents(self, key: str) -> dict[int, bytes]:
        """Return what was archived under a base key, by generation."""
        return {
            generation: known for (base, generation), known in self._known.items() if base == key
        }

    def written(self, objects: Mapping[str, Stored], key: str, before: Stored | None) -> None:
        """Check a write of ours to `key`, which has taken effect; `before` stood there."""
        after = objects[key]
        if _KEPT.search(key):
            # A copy that the store cut short may be made whole.
            whole = before is None or after.body.startswith(before.body)
            self._require(whole, f"{key} was written twice")
        elif _BASE.search(key):
            self._check_base(objects, key, before, after)

    def held(self, machine: str, content: bytes) -> None:
        """Note what stood in a machine's source: only what it held itself may it continue."""
        self._held.setdefault(machine, set()).add(content)

    def overwritten(self, objects: Mapping[str, Stored], key: str) -> None:
        """Note a write by somebody who keeps no rules: what it destroyed is not our doing."""
        for (base, generation), known in list(self._known.items()):
            if base == key and not self._stands(objects, base, generation, known):
                self._lost[base, generation] = self._known.pop((base, generation))

    def forgotten(self, writer: str) -> None:
        """Note that a writer's journal is gone: it does not remember what somebody destroyed."""
        for place, known_by in self._writers.items():
            if known_by == writer:
                self._writers[place] = ""

    def deleted(self, key: str) -> None:
        self._require(key.startswith(f"{self._prefix}.tail/"), f"{key} was deleted")

    def _check_base(
        self, objects: Mapping[str, Stored], key: str, before: Stored | None, after: Stored
    ) -> None:
        meta = Meta.decode(after.metadata)
        assert meta is not None, f"{key} was written without metadata"
        told = (meta.length, meta.digest, meta.records)
        holds = (len(after.body), digest(after.body), after.body.count(b"\n"))
        self._require(told == holds, f"{key} is not what its metadata say")
        if before is not None:
            self._check_replaced(objects, key, before, after)
        self._check_generation(key, meta, before, after.body)
        self._known[key, meta.generation] = after.body
        self._writers[key, meta.generation] = meta.writer
        for (base, generation), known in self._known.items():
            stands = base != key or self._stands(objects, key, generation, known)
            self._require(stands, f"generation {generation} of {key} is no longer what it was")

    def _check_replaced(
        self, objects: Mapping[str, Stored], key: str, before: Stored, after: Stored
    ) -> None:
        was, now = Meta.decode(before.metadata), Meta.decode(after.metadata)
        extended = after.body.startswith(before.body)
        if was is None:
            places = [foreign_key(self._prefix, key, before.etag)]
            places += [k for k in objects if k.startswith(generations_prefix(self._prefix, key))]
            kept = any(k in objects and objects[k].body == before.body for k in places)
            self._require(extended or kept, f"a stranger's {key} was overwritten")
        elif now is not None and machine_of(was.writer) != machine_of(now.writer):
            held = self._held.get(machine_of(now.writer), ())
            adopted = extended or any(content.startswith(before.body) for content in held)
            self._require(adopted, f"another machine's {key} was overwritten")

    def _check_generation(self, key: str, meta: Meta, before: Stored | None, body: bytes) -> None:
        was, generation = Meta.decode(before.metadata) if before else None, meta.generation
        if was is not None and was.generation == generation:
            return  # whether it grew is seen in what can be read
        lost = self._lost.pop((key, generation), None)
        if lost is not None:
            # What somebody else destroyed is known to nobody but its writer's journal.
            went_on = self._writers[key, generation] != meta.writer or body.startswith(lost)
            self._require(went_on, f"lost generation {generation} of {key} was reused")
            return
        used = [g for base, g in self._known if base == key]
        fresh = all(generation > other for other in used)
        self._require(fresh, f"generation {generation} of {key} was used before")

    def _stands(
        self, objects: Mapping[str, Stored], key: str, generation: int, known: bytes
    ) -> bool:
        """Say whether a generation can be read, at its base or where it is kept."""
        found = objects.get(key)
        meta = Meta.decode(found.metadata) if found else None
        if meta is None or meta.generation != generation:
            found = objects.get(generation_key(self._prefix, key, generation))
        return found is not None and found.body.startswith(known)

    def _require(self, holds: bool, breach: str) -> None:  # noqa: FBT001 - reads like an assertion
        if not holds:
            self.broken.append(breach)
            raise ArchiveBroken(breach)
