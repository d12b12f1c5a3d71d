"""A store in memory: a fake at the outermost edge, with faults on demand.

A `Bucket` is the world: objects, which several machines may share, and a `Ledger` that watches
them. A `MemoryStore` is one client of it: it implements `Store`, logs every operation, and fails,
hangs or dies where a test says so. Knows nothing of sessions.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

from tests.ledger import Ledger
from transcriptd.errors import (
    AccessDenied,
    ConditionFailed,
    NotFound,
    RangeInvalid,
    StoreError,
    Unreachable,
)
from transcriptd.stores import (
    Absent,
    Condition,
    Entry,
    Fresh,
    Head,
    Matches,
    Reading,
    Stored,
    Traffic,
)
from transcriptd.stores.keys import check_key, check_range, check_removable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from transcriptd.stores import Piece, Store

T = TypeVar("T")

CHUNK = 64 * 1024


class Crashed(BaseException):
    """The process died here. No code of ours may catch it."""


@dataclass(frozen=True, slots=True)
class Object:
    """One object. `etag` is the MD5 of the body, as S3's: equal bytes have equal ETags.

    One that was written `apart` has another, as a multipart upload has.
    """

    body: bytes
    metadata: Mapping[str, str]
    apart: bool = False

    @property
    def etag(self) -> str:
        md5 = hashlib.md5(self.body, usedforsecurity=False).hexdigest()
        return f"{md5}-1" if self.apart else md5

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
    With `late` the client hears at once that there was no answer, and the effect takes place when
    the bucket's `arrive` says so.
    """

    name: str
    key: str = ""
    times: int | None = 1
    before: BaseException | None = None
    after: BaseException | None = None
    hold: asyncio.Event | None = None
    hold_answer: bool = False
    late: bool = False
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


@dataclass(frozen=True, slots=True)
class Late:
    """A request that its client gave up, and that the server has yet to receive."""

    name: str
    key: str
    effect: Callable[[], object]


class Bucket:
    """Objects by key. `between` is called between a look and a write that the server leaves to us.

    `honours`: whether the server compares conditions itself. `appends`: whether it continues an
    object in place. `copies`: "well", "not", or "short" for a server that answers well and stores
    half. `under_way`: the requests that have yet to arrive, oldest first.
    """

    def __init__(self, prefix: str = "history/") -> None:
        self.objects: dict[str, Object] = {}
        self.ledger = Ledger(prefix)
        self.prefix = prefix
        self.honours = True
        self.appends = False
        self.copies = "well"
        self.between: Callable[[], None] = lambda: None
        self.under_way: list[Late] = []

    def overwrite(self, key: str, body: bytes) -> None:
        """Write as CodeTether's own sink does: no metadata, no condition."""
        self.objects[key] = Object(body, {})
        self.ledger.overwritten(self.objects, key)

    def arrive(self, which: int | None = None) -> None:
        """Let one of the requests that are `under_way` arrive, or all: nobody hears the answer."""
        landing = self.under_way[:] if which is None else [self.under_way[which]]
        for late in landing:
            self.under_way.remove(late)
            with suppress(StoreError):
                late.effect()

    def write(
        self, key: str, body: bytes, metadata: Mapping[str, str], *, apart: bool = False
    ) -> Head:
        before = self.objects.get(key)
        self.objects[key] = written = Object(bytes(body), dict(metadata), apart)
        self.ledger.written(self.objects, key, before)
        return written.head

    def delete(self, key: str) -> None:
        before = self.objects.pop(key, None)
        self.ledger.deleted(self.objects, key, before)

    def require(self, key: str, condition: Condition) -> None:
        found = self.objects.get(key)
        match condition:
            case Absent() if found is not None:
                raise ConditionFailed("something stands there")
            case Matches(etag) if found is None or found.etag != etag:
                raise ConditionFailed("the object is not what it was")

    def copied(self, piece: Stored) -> bytes:
        """Return what this server copies of a piece."""
        self.require(piece.key, Matches(piece.etag))
        length = piece.end - piece.start
        kept = length // 2 if self.copies == "short" else length
        return self.objects[piece.key].body[piece.start : piece.start + kept]


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
    def objects(self) -> dict[str, Object]:
        return self.remote.objects

    @property
    def place(self) -> str:
        return "memory"

    @property
    def bucket(self) -> str:
        return "memory"

    @property
    def guarantees(self) -> Mapping[str, str]:
        conditions = "honoured" if self.remote.honours else "not honoured"
        return {"if_none_match": conditions, "if_match": conditions, "etag_is_md5": "not honoured"}

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

    def delay(self, name: str, *, key: str = "", times: int | None = 1) -> Fault:
        """Let puts, composes and deletes be given up, and arrive when the bucket says so."""
        return self._add(Fault(name, key, times, late=True))

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
            size = len(found.body)
            if start > size or (start == size and start not in {0, end}):
                raise RangeInvalid("the range starts behind the end")
        yield Reading(found.head, self._chunks(found.body[start:end]))

    async def put(
        self, key: str, body: bytes, metadata: Mapping[str, str], condition: Condition = None
    ) -> Head:
        check_key(key)
        async with self._operation("put", key, len(body)) as late:
            self.traffic.sent_bytes += len(body)
            write = self._under(key, condition, lambda: self.remote.write(key, body, metadata))
            return self._take_effect(late, "put", key, write)

    @property
    def appends(self) -> bool:
        return self.remote.appends

    async def copies(self) -> bool:
        return self.remote.copies != "not"

    async def compose(
        self,
        key: str,
        pieces: Sequence[Piece],
        metadata: Mapping[str, str],
        condition: Condition = None,
        *,
        apart: bool = False,
    ) -> Head:
        for name in (key, *(piece.key for piece in pieces if isinstance(piece, Stored))):
            check_key(name)
        fetched = [await self._fetched(key, index, piece) for index, piece in enumerate(pieces)]
        async with self._operation("compose", key, sum(p.end - p.start for p in pieces)) as late:
            body = b"".join(map(self._sent, fetched))
            write = self._under(
                key, condition, lambda: self.remote.write(key, body, metadata, apart=apart)
            )
            return self._take_effect(late, "compose", key, write)

    async def discard_uploads(self, key: str) -> None:
        check_key(key)
        async with self._operation("discard_uploads", key):
            pass  # nothing that is unfinished stays here

    async def list(self, prefix: str) -> AsyncIterator[Entry]:
        async with self._operation("list", prefix):
            below = ((key, o.head) for key, o in self.objects.items() if key.startswith(prefix))
            found = sorted(below, key=itemgetter(0))
        for key, head in found:
            yield Entry(key, head.size, head.etag, head.modified)

    async def delete(self, *keys: str) -> None:
        for key in keys:
            check_removable(key, self.remote.prefix)
        if not keys:
            return
        name = " ".join(keys)
        async with self._operation("delete", name) as late:
            self._take_effect(late, "delete", name, lambda: [*map(self.remote.delete, keys)])

    async def close(self) -> None:
        self.closed = True

    async def _fetched(self, key: str, index: int, piece: Piece) -> Piece | bytes:
        """Read a stored piece as a client must whose server cannot copy it."""
        if isinstance(piece, Fresh) or await self.copies():
            return piece
        found = self.objects.get(key)
        whole = found and Stored(key, 0, len(found.body), found.etag)
        if self.appends and index == 0 and piece == whole:
            return piece
        try:
            async with self.read(piece.key, piece.start, piece.end, etag=piece.etag) as reading:
                return b"".join([chunk async for chunk in reading.chunks])
        except NotFound:
            raise ConditionFailed("a stored piece is gone") from None

    def _sent(self, piece: Piece | bytes) -> bytes:
        """Return a piece's bytes as they arrive; counts what goes over the wire."""
        if isinstance(piece, Stored):
            return self.remote.copied(piece)
        body = piece.content.read(piece.start, piece.end) if isinstance(piece, Fresh) else piece
        self.traffic.sent_bytes += len(body)
        return body

    def _under(
        self, key: str, condition: Condition, write: Callable[[], Head]
    ) -> Callable[[], Head]:
        """Return a write that the server holds to its condition, where it honours any."""
        if not self.remote.honours and condition is not None:
            self.remote.require(key, condition)  # our own look; what follows has no condition
            self.remote.between()
            return write

        def checked() -> Head:
            self.remote.require(key, condition)
            return write()

        return checked

    def _take_effect(self, late: bool, name: str, key: str, effect: Callable[[], T]) -> T:  # noqa: FBT001 - how it befalls, not what is done
        if late:
            self.remote.under_way.append(Late(name, key, effect))
            raise Unreachable("there was no answer in time")
        return effect()

    def _add(self, fault: Fault) -> Fault:
        self.faults.append(fault)
        return fault

    @asynccontextmanager
    async def _operation(self, name: str, key: str, size: int = 0) -> AsyncIterator[bool]:
        """Let happen what happens to a request; gives whether its effect is to come late."""
        fault = next((fault for fault in self.faults if fault.befalls(name, key)), None)
        with self._logged(name, key, size):
            await asyncio.sleep(0)  # others get their turn, as at any request
            self._step()
            if fault and fault.hold and not fault.hold_answer:
                await _held(fault)
            if fault and fault.before:
                raise fault.before
            yield bool(fault and fault.late)
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
            self.traffic.count("get" if name == "read" else name, outcome)

    async def _chunks(self, body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), CHUNK):
            chunk = body[start : start + CHUNK]
            self.traffic.received_bytes += len(chunk)
            yield chunk

    def _step(self) -> None:
        if self._steps_left is None:
            return
        self._steps_left = max(0, self._steps_left - 1)
        if self._steps_left == 0:  # and it stays dead until `recover`
            raise Crashed


class AwsWithoutListing(MemoryStore):
    """What AWS is to who may not list: what is absent is forbidden, too."""

    async def head(self, key: str) -> Head | None:
        if (found := await super().head(key)) is None:
            raise AccessDenied("head: 403")
        return found

    async def list(self, prefix: str) -> AsyncIterator[Entry]:
        async with self._operation("list", prefix):
            raise AccessDenied("list: 403")
        yield  # type: ignore[unreachable]  # pragma: no cover - makes it a generator


async def _held(fault: Fault) -> None:
    assert fault.hold is not None
    fault.arrived.set()
    await fault.hold.wait()


def _conforms(store: MemoryStore) -> Store:
    return store
