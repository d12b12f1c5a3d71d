"""What a store is, and the registry of those there are.

A store keeps objects under keys. It translates its own errors into `errors.StoreError`s, puts a
deadline on every request, and proves a write before it reports it. It knows nothing of sessions,
generations or retries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from transcriptd.config import Config


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

    async def copy(self, source: str, target: str, *, etag: str) -> Head:
        """Copy an object and its metadata inside the store, if nothing stands at `target`.

        Raises `ConditionFailed` when the source no longer has this ETag or the target exists,
        `Unsupported` where the store cannot copy; the caller verifies what arrived.
        """

    def list(self, prefix: str) -> AsyncIterator[Entry]:
        """List the objects below a prefix, in the order of their keys."""

    async def delete(self, key: str) -> None:
        """Remove an object below `.tail/`; absent is done. Any other key is a `ValueError`."""

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
