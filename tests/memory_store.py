"""A store in memory: a fake at the outermost edge, with faults on demand.

A `Bucket` is the world: objects, which several machines may share, and a `Ledger` that watches
them. A `MemoryStore` is one client of it: it implements `Store`, logs every operation, and fails,
hangs or dies where a test says so. Knows nothing of sessions.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.ledger import Ledger
from transcriptd.errors import (
    ConditionFailed,
    NotFound,
    RangeInvalid,
    Unreachable,
    Unsupported,
)
from transcriptd.stores import Absent, Condition, Entry, Head, Matches, Reading, Traffic
from transcriptd.stores.keys import check_key, check_range, check_removable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from transcriptd.stores import Store

CHUNK = 64 * 1024


class Crashed(BaseException):
    """The process died here. No code of ours may catch it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One object. `etag` is the MD5 of the body, as S3's: equal bytes have equal ETags."""

    body: bytes
    metadata: Mapping[str, str]

    @property
    def etag(self) -> str:
        return hashlib.md5(self.body, usedforsecurity=False).hexdigest()

    @property
    def head(self) -> Head:
        return Head(self.etag, len(self.body), 0.0, dict(self.metadata))


@dataclass(frozen=True, slots=True)
class Operation:
    """What a client asked for, and how it ended: `ok` or the name of an error."""

    name: str
    key: str
    size: int
    outcome: str


@dataclass(slots=True)
class Fault:
    """What befalls the operations whose name and key match, as often as `times` says.

    `before` is raised instead of the effect, `after` once it took place. `hold` is waited for
    before the effect, or with `hold_answer` after it; `arrived` is set when the wait begins.
    """

    name: str
    key: str = ""
    times: int | None = 1
    before: BaseException | None = None
    after: BaseException | None = None
    hold: asyncio.Event | None = None
    hold_answer: bool = False
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def befalls(self, name: str, key: str) -> bool:
        if self.times == 0 or not re.fullmatch(self.name, name) or not re.search(self.key, key):
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def release(self) -> None:
        assert self.hold is not None
        self.hold.set()


class Bucket:
    """Objects by key. `between` is called between a look and a write that the server leaves to us.

    `honours`: whether the server compares conditions itself. `copies`: "well", "not", or "short"
    for a server that answers well and stores half.
    """

    def __init__(self, prefix: str = "history/") -> None:
        self.objects: dict[str, Stored] = {}
        self.ledger = Ledger(prefix)
        self.prefix = prefix
        self.honours = True
        self.copies = "well"
        self.between: Callable[[], None] = lambda: None

    def overwrite(self, key: str, body: bytes) -> None:
        """Write as CodeTether's own sink does: no metadata, no condition."""
        self.objects[key] = Stored(body, {})
        self.ledger.overwritten(self.objects, key)

    def write(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Head:
        before = self.objects.get(key)
        self.objects[key] = stored = Stored(bytes(body), dict(metadata))
        self.ledger.written(self.objects, key, before)
        return stored.head

    def require(self, key: str, condition: Condition) -> None:
        found = self.objects.get(key)
        match condition:
            case Absent() if found is not None:
                raise ConditionFailed("something stands there")
            case Matches(etag) if found is None or found.etag != etag:
                raise ConditionFailed("the object is not what it was")


class MemoryStore:
    """One client of a bucket. `log` has every operation that ended, in that order."""

    def __init__(self, bucket: Bucket | None = None) -> None:
        self.remote = bucket or Bucket()
        self.log: list[Operation] = []
        self.faults: list[Fault] = []
        self.traffic = Traffic()
        self.closed = False
        self._steps_left: int | None = None

    @property
    def objects(self) -> dict[str, Stored]:
        return self.remote.objects

    @property
    def place(self) -> str:
        return "memory"

    @property
    def bucket(self) -> str:
        return "memory"

    @property
    def guarantees(self) -> Mapping[str, str]:
        return {"conditions": "honoured" if self.remote.honours else "not honoured"}

    def fail(
        self, name: str, error: BaseException, *, key: str = "", times: int | None = 1
    ) -> Fault:
        """Let operations fail without effect."""
        return self._add(Fault(name, key, times, before=error))

    def lose_answer(self, name: str, *, key: str = "", times: int | None = 1) -> Fault:
        """Let operations take effect, and tell the client that there was no answer."""
        return self._add(Fault(name, key, times, after=Unreachable("the answer was lost")))

    def hold(self, name: str, *, key: str = "", answer: bool = False) -> Fault:
        """Let one operation hang until `release`."""
        return self._add(Fault(name, key, hold=asyncio.Event(), hold_answer=answer))

    def crash_at(self, step: int) -> None:
        """Let the process die at a step from now: each operation has one before and one after."""
        self._steps_left = step

    def recover(self) -> None:
        """Forget all faults, and live."""
        self.faults.clear()
        self._steps_left = None

    def count(self, name: str, key: str = "") -> int:
        return sum(o.name == name and bool(re.search(key, o.key)) for o in self.log)

    async def head(self, key: str) -> Head | None:
        check_key(key)
        async with self._operation("head", key):
            found = self.objects.get(key)
        return found.head if found else None

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, end: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator[Reading]:
        check_key(key)
        check_range(start, end)
        async with self._operation("read", key):
            found = self.objects.get(key)
            if found is None:
                raise NotFound("there is no such object")
            if etag is not None and found.etag != etag:
                raise ConditionFailed("the object is not what it was")
            if start and start >= len(found.body):
                raise RangeInvalid("the range starts behind the end")
        yield Reading(found.head, _chunks(found.body[start:end]))

    async def put(
        self, key: str, body: bytes, metadata: Mapping[str, str], condition: Condition = None
    ) -> Head:
        check_key(key)
        async with self._operation("put", key, len(body)):
            self.remote.require(key, condition)
            if not self.remote.honours and condition is not None:
                self.remote.between()
            self.traffic.sent_bytes += len(body)
            return self.remote.write(key, body, metadata)

    async def copy(self, source: str, target: str, *, etag: str) -> Head:
        check_key(target)
        async with self._operation("copy", target):
            if self.remote.copies == "not":
                raise Unsupported("this server cannot copy")
            self.remote.require(source, Matches(etag))
            self.remote.require(target, Absent())
            found = self.objects[source]
            length = len(found.body) // (2 if self.remote.copies == "short" else 1)
            return self.remote.write(target, found.body[:length], found.metadata)

    async def list(self, prefix: str) -> AsyncIterator[Entry]:
        async with self._operation("list", prefix):
            found = sorted(key for key in self.objects if key.startswith(prefix))
        for key in found:
            head = self.objects[key].head
            yield Entry(key, head.size, head.etag, head.modified)

    async def delete(self, key: str) -> None:
        check_removable(key, self.remote.prefix)
        async with self._operation("delete", key):
            self.objects.pop(key, None)
            self.remote.ledger.deleted(key)

    async def close(self) -> None:
        self.closed = True

    def _add(self, fault: Fault) -> Fault:
        self.faults.append(fault)
        return fault

    @asynccontextmanager
    async def _operation(self, name: str, key: str, size: int = 0) -> AsyncIterator[None]:
        fault = next((fault for fault in self.faults if fault.befalls(name, key)), None)
        with self._logged(name, key, size):
            await asyncio.sleep(0)  # others get their turn, as at any request
            self._step()
            if fault and fault.hold and not fault.hold_answer:
                await _held(fault)
            if fault and fault.before:
                raise fault.before
            yield
            if fault and fault.hold and fault.hold_answer:
                await _held(fault)
            if fault and fault.after:
                raise fault.after
            self._step()

    @contextmanager
    def _logged(self, name: str, key: str, size: int) -> Iterator[None]:
        outcome = "ok"
        try:
            yield
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            self.log.append(Operation(name, key, size, outcome))
            self.traffic.count(name, outcome)

    def _step(self) -> None:
        if self._steps_left is None:
            return
        self._steps_left = max(0, self._steps_left - 1)
        if self._steps_left == 0:  # and it stays dead until `recover`
            raise Crashed


async def _held(fault: Fault) -> None:
    assert fault.hold is not None
    fault.arrived.set()
    await fault.hold.wait()


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]


def _conforms(store: MemoryStore) -> Store:
    return store
