"""Everything that was ever archived under our metadata, and whether it can still be read.

An oracle for tests: it is told of each change to the objects of a store and raises `ArchiveBroken`
the moment a byte at (stream, generation, offset) changes or disappears, a generation is used
twice, or somebody else's bytes are overwritten. Knows the archive format, not who writes or how.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transcriptd.digest import Digester, digest
from transcriptd.layout import (
    Meta,
    SegmentMeta,
    claimed_by,
    closed_generation,
    foreign_key,
    generation_key,
    generations_prefix,
    machine_of,
    probe_prefix,
    segment_place,
    tail_prefix,
)
from transcriptd.stores import Entry
from transcriptd.tail import Tails, chain, tails_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.memory_store import Object


class ArchiveBroken(AssertionError):
    """A promise of the archive was broken."""


@dataclass(frozen=True, slots=True)
class Base:
    """The bytes `[0, n)` of a stream's current generation."""

    stream: str


@dataclass(frozen=True, slots=True)
class Tail:
    """A segment of a stream."""

    stream: str
    generation: int
    start: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished generation of a stream."""

    stream: str
    generation: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Who writes a stream."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """What somebody else wrote, kept."""


@dataclass(frozen=True, slots=True)
class Other:
    """Nothing that the archive promises to keep."""


Place = Base | Tail | Finished | Claim | Foreign | Other


def place_of(prefix: str, key: str) -> Place:
    """Say what lies under a key."""
    below = key.removeprefix(prefix)
    first, _, rest = below.partition("/")
    folder, _, name = rest.rpartition("/")
    if not key.startswith(prefix) or key.startswith(probe_prefix(prefix)):
        return Other()
    if first == ".tail":
        segment = segment_place(name)
        if segment:
            return Tail(f"{prefix}{folder}", *segment)
        return Claim() if claimed_by(name) else Other()
    if first == ".generations":
        number = closed_generation(key)
        return Other() if number is None else Finished(f"{prefix}{folder}", number)
    if first == ".conflicts" and name.startswith("foreign-"):
        return Foreign()
    # Of a session, or of a second writer's: `{id}/session.json` stands where a base key has more.
    parts = (rest if first == ".conflicts" else below).split("/")
    return Other() if parts[1:2] == ["session.json"] else Base(key)


class Ledger:
    """`broken` keeps each breach too: code under test may swallow the error and try again.

    Keys that do not begin with `prefix` are nothing to it.
    """

    def __init__(self, prefix: str) -> None:
        self.broken: list[str] = []
        self._prefix = prefix
        self._known: dict[tuple[str, int], bytes] = {}
        self._lost: dict[tuple[str, int], bytes] = {}
        self._writers: dict[tuple[str, int], str] = {}
        self._held: dict[str, set[bytes]] = {}
        self._disturbed: set[str] = set()  # streams that somebody else has written to

    def contents(self, key: str) -> dict[int, bytes]:
        """Return what was archived under a base key and can be read, by generation."""
        return {
            generation: known for (base, generation), known in self._known.items() if base == key
        }

    def written(self, objects: Mapping[str, Object], key: str, before: Object | None) -> None:
        """Check a write of ours to `key`, which has taken effect; `before` stood there."""
        after, place = objects[key], place_of(self._prefix, key)
        match place:
            case Base():
                self._check_base(objects, key, before, after)
            case Tail():
                self._check_segment(objects, key, place, before)
            case Finished():
                self._check_finished(key, place, before, after)
            case Claim():
                stays = before is None or _says_all(before.body, after.body)
                self._require(stays, f"what the claim {key} said was taken back")
            case Foreign():
                # A copy that the store cut short may be made whole.
                whole = before is None or after.body.startswith(before.body)
                self._require(whole, f"{key} was written twice")
        if isinstance(place, Base | Tail | Finished):
            self._check_readable(objects, place.stream)

    def held(self, machine: str, content: bytes) -> None:
        """Note what stood in a machine's source: only what it held itself may it continue."""
        self._held.setdefault(machine, set()).add(content)

    def overwritten(self, objects: Mapping[str, Object], key: str) -> None:
        """Note a write by somebody who keeps no rules: what it destroyed is not our doing."""
        self._disturbed.add(key)
        for (base, generation), known in list(self._known.items()):
            if base == key and not self._stands(objects, base, generation, known):
                self._lost[base, generation] = self._known.pop((base, generation))

    def forgotten(self, writer: str) -> None:
        """Note that a writer's journal is gone: it does not remember what somebody destroyed."""
        for place, known_by in self._writers.items():
            if known_by == writer:
                self._writers[place] = ""

    def deleted(self, objects: Mapping[str, Object], key: str, before: Object | None) -> None:
        """Check a delete of ours, which has taken effect; `before` stood there."""
        if not key.startswith(self._prefix):
            return
        self._require(key.startswith(f"{self._prefix}.tail/"), f"{key} was deleted")
        match place_of(self._prefix, key):
            case Claim():
                self._require(False, f"the claim {key} was deleted")
            case Tail(stream, generation, start) if before is not None:
                base, meta = self._base(objects, stream)
                finished = objects.get(generation_key(self._prefix, stream, generation))
                closed = finished is not None and finished.body.startswith(
                    self._known.get((stream, generation), b"")
                )
                end = start + len(before.body)
                live = meta is not None and meta.generation == generation
                folded = live and base[start:end] == before.body
                # It was held when the delete was sent; what held it, somebody else overwrote.
                held = closed or folded or stream in self._disturbed
                self._require(held, f"{key} was deleted and is held by nothing")
                self._check_readable(objects, stream)

    def _check_segment(
        self, objects: Mapping[str, Object], key: str, place: Tail, before: Object | None
    ) -> None:
        stream, generation, after = place.stream, place.generation, objects[key]
        said = SegmentMeta.decode(after.metadata)
        assert said is not None, f"{key} was written without metadata"
        if not after.body:  # a stop: nothing is added here any more
            self._require(before is None, f"{key} was written over")
            return
        if self._is_finished(objects, stream, generation):
            return  # late, or a slower writer's: not content
        same = before is None or (before.body, before.metadata) == (after.body, after.metadata)
        self._require(same, f"{key} was changed")
        if stream in self._disturbed:
            return  # it may hang on what somebody else destroyed
        base, meta = self._base(objects, stream)
        known = meta is not None and meta.generation >= generation
        self._require(known, f"{key} continues nothing")
        if place.start < len(base) or (meta is not None and meta.generation > generation):
            return  # late, or a slower writer's: behind the base
        _, joined = self._current(objects, stream, generation)
        # Whoever does not know of another writer's base finds out at its next seal.
        unaware = meta is not None and meta.writer != said.writer
        self._require(key in joined or unaware, f"{key} does not continue what stands before it")
        self._writers[stream, generation] = said.writer

    def _check_finished(
        self, key: str, place: Finished, before: Object | None, after: Object
    ) -> None:
        known = self._known.get((place.stream, place.generation))
        if before is not None and before.body != after.body:
            # A copy that the store cut short, at its end or in between, may be made whole.
            right = before.body if known is None else known
            repaired = after.body.startswith(right) or right.startswith(after.body)
            longer = len(after.body) > len(before.body)
            self._require(repaired and longer, f"{key} was written twice")
        if known is None or after.body.startswith(known):
            self._known[place.stream, place.generation] = after.body
            self._writers.setdefault((place.stream, place.generation), "")

    def _check_base(
        self, objects: Mapping[str, Object], key: str, before: Object | None, after: Object
    ) -> None:
        meta = Meta.decode(after.metadata)
        assert meta is not None, f"{key} was written without metadata"
        told = (meta.length, meta.digest, meta.records)
        holds = (len(after.body), digest(after.body), after.body.count(b"\n"))
        self._require(told == holds, f"{key} is not what its metadata say")
        if before is not None:
            self._check_replaced(objects, key, before, after)
        self._check_generation(objects, key, meta, before)
        self._writers[key, meta.generation] = meta.writer

    def _check_replaced(
        self, objects: Mapping[str, Object], key: str, before: Object, after: Object
    ) -> None:
        was, now = Meta.decode(before.metadata), Meta.decode(after.metadata)
        extended = after.body.startswith(before.body)
        if was is None:
            places = [foreign_key(self._prefix, key, before.etag)]
            places += [k for k in objects if k.startswith(generations_prefix(self._prefix, key))]
            kept = any(k in objects and objects[k].body.startswith(before.body) for k in places)
            self._require(extended or kept, f"a stranger's {key} was overwritten")
        elif now is not None and machine_of(was.writer) != machine_of(now.writer):
            held = self._held.get(machine_of(now.writer), ())
            adopted = extended or any(content.startswith(before.body) for content in held)
            self._require(adopted, f"another machine's {key} was overwritten")

    def _check_generation(
        self, objects: Mapping[str, Object], key: str, meta: Meta, before: Object | None
    ) -> None:
        was, generation = Meta.decode(before.metadata) if before else None, meta.generation
        if was is not None and was.generation == generation:
            return  # whether it grew is seen in what can be read
        lost = self._lost.pop((key, generation), None)
        if lost is not None:
            # What somebody else destroyed is known to nobody but its writer's journal.
            content, _ = self._current(objects, key, generation)
            went_on = self._writers[key, generation] != meta.writer or content.startswith(lost)
            self._require(went_on, f"lost generation {generation} of {key} was reused")
            return
        used = {g for base, g in self._known if base == key}
        used |= {segment.generation for segment in self._tails(objects, key).segments}
        fresh = all(generation > other for other in used)
        self._require(fresh, f"generation {generation} of {key} was used before")

    def _check_readable(self, objects: Mapping[str, Object], key: str) -> None:
        """Compare what can be read of a stream with what could be, and remember what is new."""
        for (base, generation), known in self._known.items():
            stands = base != key or self._stands(objects, key, generation, known)
            self._require(stands, f"generation {generation} of {key} is no longer what it was")
        body, meta = self._base(objects, key)
        if meta is None:
            return
        generation = meta.generation
        if not self._is_finished(objects, key, generation):
            body, _ = self._current(objects, key, generation)
        known = self._known.get((key, generation), b"")
        agrees = body.startswith(known) or known.startswith(body)
        self._require(agrees, f"generation {generation} of {key} has two contents")
        self._known[key, generation] = max(known, body, key=len)

    def _stands(
        self, objects: Mapping[str, Object], key: str, generation: int, known: bytes
    ) -> bool:
        """Say whether a generation can be read, at its base and tail or where it is kept."""
        kept = objects.get(generation_key(self._prefix, key, generation))
        if kept is not None and kept.body.startswith(known):
            return True
        _, meta = self._base(objects, key)
        if meta is None or meta.generation != generation:
            return False
        content, _ = self._current(objects, key, generation)
        return content.startswith(known)

    def _base(self, objects: Mapping[str, Object], key: str) -> tuple[bytes, Meta | None]:
        found = objects.get(key)
        return (found.body, Meta.decode(found.metadata)) if found else (b"", None)

    def _current(
        self, objects: Mapping[str, Object], key: str, generation: int
    ) -> tuple[bytes, set[str]]:
        """Return the base and what of its tail is content; and the keys of that tail."""
        base, _ = self._base(objects, key)
        content, digester, joined = [base], Digester(), set()
        digester.update(base)
        for segment in chain(self._tails(objects, key).of(generation), len(base)).content:
            found = objects[segment.key]
            said = SegmentMeta.decode(found.metadata)
            if said is None or said.pre != digester.hexdigest():
                break
            content.append(found.body)
            digester.update(found.body)
            joined.add(segment.key)
        return b"".join(content), joined

    def _tails(self, objects: Mapping[str, Object], key: str) -> Tails:
        head = tail_prefix(self._prefix, key)
        rows = [Entry(k, len(o.body), "", 0.0) for k, o in objects.items() if k.startswith(head)]
        return tails_of(self._prefix, key, rows)

    def _is_finished(self, objects: Mapping[str, Object], key: str, generation: int) -> bool:
        return generation_key(self._prefix, key, generation) in objects

    def _require(self, holds: bool, breach: str) -> None:  # noqa: FBT001 - reads like an assertion
        if not holds:
            self.broken.append(breach)
            raise ArchiveBroken(breach)


def _says_all(before: bytes, after: bytes) -> bool:
    """Say whether a claim still says what it said: whom it names may become more."""
    if before == after:
        return True
    was, now = json.loads(before), json.loads(after)
    return all(_is_said(said, now[name]) for name, said in was.items())


def _is_said(said: object, now: object) -> bool:
    if isinstance(said, list) and isinstance(now, list):
        return set(said) <= set(now)
    if isinstance(said, dict) and isinstance(now, dict):
        return all(now.get(name, -1) >= value for name, value in said.items())
    return said == now
