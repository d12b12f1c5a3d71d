"""What a store is, and the registry of those there are.

A store keeps objects under keys. It translates its own errors into `errors.StoreError`s, puts a
deadline on every request, and proves a write before it reports it. It knows nothing of sessions,
generations or retries.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from transcriptd.config import Config
    from transcriptd.content import Content


@dataclass(frozen=True, slots=True)
class Head:
    """What a store says of one object. `etag` is an opaque token, `modified` in Unix seconds."""

    etag: str
    size: int
    modified: float
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a listing."""

    key: str
    size: int
    etag: str
    modified: float


@dataclass(frozen=True, slots=True)
class Absent:
    """Condition: nothing stands under this key."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Condition: the object under this key still has this ETag."""

    etag: str


Condition = Absent | Matches | None


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes `[start, end)` of an object of this store, as long as it has this ETag."""

    key: str
    start: int
    end: int
    etag: str


@dataclass(frozen=True, slots=True)
class Fresh:
    """Bytes `[start, end)` of a content that is not in this store yet."""

    content: Content
    start: int
    end: int


Piece = Stored | Fresh


@dataclass(frozen=True, slots=True)
class Reading:
    """An object being read: what it is, and its bytes as they come."""

    head: Head
    chunks: AsyncIterator[bytes]


@dataclass(slots=True)
class Traffic:
    """What was asked of a store so far: requests by operation and outcome, bytes of bodies."""

    requests: dict[tuple[str, str], int] = field(default_factory=dict)
    sent_bytes: int = 0
    received_bytes: int = 0

    def count(self, operation: str, outcome: str) -> None:
        self.requests[operation, outcome] = self.requests.get((operation, outcome), 0) + 1
        account = _ACCOUNT.get()
        if account is not None:
            account.requests += 1


@dataclass(slots=True)
class Account:
    """What was asked of a store on somebody's behalf."""

    requests: int = 0


_ACCOUNT: ContextVar[Account | None] = ContextVar("account", default=None)


@contextmanager
def on_account() -> Iterator[Account]:
    """Count what is asked inside, also by the tasks that are started inside."""
    account = Account()
    token = _ACCOUNT.set(account)
    try:
        yield account
    finally:
        _ACCOUNT.reset(token)


class Store(Protocol):
    """An archive's place. Every method may raise any `StoreError`."""

    traffic: Traffic

    @property
    def place(self) -> str:
        """Where this is, for people: `s3://bucket/prefix at https://…` or a directory."""

    @property
    def bucket(self) -> str:
        """The bucket's name, or the directory of a local archive."""

    @property
    def guarantees(self) -> Mapping[str, str]:
        """What is known of this store: a feature's name → "honoured", "not honoured", "unknown"."""

    async def head(self, key: str) -> Head | None:
        """Say what stands under a key; `None` where nothing does."""

    def read(
        self, key: str, start: int = 0, end: int | None = None, *, etag: str | None = None
    ) -> AbstractAsyncContextManager[Reading]:
        """Read bytes `[start, end)`. `end` behind the object's end is clamped.

        With `etag`, only if the object still has it. Raises `NotFound`, `RangeInvalid` (`start` at
        or behind the end), `ConditionFailed`; `Damaged` if the body is shorter than promised.
        """

    async def put(
        self, key: str, body: bytes, metadata: Mapping[str, str], condition: Condition = None
    ) -> Head:
        """Write an object and prove that it stands there as sent.

        Where the store does not honour conditions, looks first and writes then. Raises
        `ConditionFailed` when the condition does not hold, `Corrupted` when the bytes were refused,
        `Damaged` when the store accepted them and holds something else.
        """

    @property
    def appends(self) -> bool:
        """Whether `compose` of an object onto itself writes no more than what is new."""

    async def copies(self) -> bool:
        """Whether the store provably copies large pieces itself when it composes."""

    async def compose(
        self,
        key: str,
        pieces: Sequence[Piece],
        metadata: Mapping[str, str],
        condition: Condition = None,
        *,
        apart: bool = False,
    ) -> Head:
        """Write an object made of pieces, in their order, and prove that it stands there.

        Of any size, in bounded memory: large pieces that are stored are copied by the store where
        that is proven, the rest goes through here in parts. A first piece that is the whole object
        under `key` is continued in place where the store appends. `apart` asks for an ETag that a
        `put` of the same bytes does not have. Raises like `put`; `ConditionFailed` also when a
        stored piece is no longer what it was, and whatever reading a content raises.
        """

    async def discard_uploads(self, key: str) -> None:
        """Remove what interrupted writes to a key left behind, unseen, in the store."""

    def list(self, prefix: str) -> AsyncIterator[Entry]:
        """List the objects below a prefix, in the order of their keys."""

    async def delete(self, *keys: str) -> None:
        """Remove objects below `.tail/`; absent is done. Any other key is a `ValueError`.

        Many go in one request where the store can. Raises after having tried them all.
        """

    async def close(self) -> None:
        """Let connections go. The store may be used again afterwards."""


_REGISTRY = {
    "s3": "transcriptd.stores.s3:open_store",
    "local": "transcriptd.stores.local:open_store",
}


def open_store(config: Config) -> Store:
    """Open the store that the configuration names. Nothing is sent before it is used."""
    module, _, name = _REGISTRY[config.store].partition(":")
    store: Store = getattr(import_module(module), name)(config)
    return store
