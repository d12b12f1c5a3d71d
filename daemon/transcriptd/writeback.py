"""CodeTether's journal of one session, `<id>.journal.jsonl`: its lines, read and written.

For users of the library. The daemon keeps a journal of its own (`journal`) and never writes into an
agent's directory.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Phase = Literal["staged", "committed", "rejected"]


class Op(msgspec.Struct, frozen=True, tag_field="op"):
    """What is about to change; one subclass each."""


class Save(Op, frozen=True, tag="save"):
    """The session is saved."""


class Reset(Op, frozen=True, tag="reset"):
    """The messages are discarded."""


class ContextReset(Op, frozen=True, tag="context_reset"):
    """The derived context is discarded."""


class Compaction(Op, frozen=True, tag="compaction"):
    """The messages are compacted; both are counts of messages."""

    before: int
    after: int


class HistorySinkUpload(Op, frozen=True, tag="history_sink_upload"):
    """The history is uploaded; `bytes` is its length."""

    bucket: str
    key: str
    bytes: int


class Reason(msgspec.Struct, frozen=True, tag_field="reason"):
    """Why a change was rejected; one subclass each."""


class DestructiveOp(Reason, frozen=True, tag="destructive_op"):
    """It would have destroyed what was archived."""


class SchemaMismatch(Reason, frozen=True, tag="schema_mismatch"):
    """It could not be read."""

    detail: str


class ProvenanceFail(Reason, frozen=True, tag="provenance_fail"):
    """It came from another writer."""

    detail: str


class InvariantViolation(Reason, frozen=True, tag="invariant_violation"):
    """Its checksum or length was wrong."""

    detail: str


AnyOp: TypeAlias = Save | Reset | ContextReset | Compaction | HistorySinkUpload
AnyReason: TypeAlias = DestructiveOp | SchemaMismatch | ProvenanceFail | InvariantViolation


class JournalEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. `op` only where staged, `reason` only where rejected.

    `at` is kept as it was written: RFC 3339 in UTC, with more digits than a `datetime` holds. An op
    or reason that this version does not know is kept as a dictionary.
    """

    phase: Phase
    txn: int
    at: str
    op: AnyOp | dict[str, Any] | None = None
    reason: AnyReason | dict[str, Any] | None = None


class _Line(msgspec.Struct):
    phase: Phase
    txn: int
    at: str
    op: msgspec.Raw = msgspec.Raw()
    reason: msgspec.Raw = msgspec.Raw()


class WritebackJournal:
    """Appends to one file and reads it back. One writer per file; every line is fsynced.

    A line that a crash tore is skipped when reading, and ended before anything is appended.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Read what is there. Raises `OSError` where it cannot be read."""
        self.path = path
        self._clock = clock
        self._next = 0
        self._open: dict[int, AnyOp | dict[str, Any] | None] = {}
        for entry in self.entries():
            self._next = max(self._next, entry.txn + 1)
            if entry.phase == "staged":
                self._open[entry.txn] = entry.op
            else:
                self._open.pop(entry.txn, None)

    @property
    def staged(self) -> dict[int, AnyOp | dict[str, Any] | None]:
        """The transactions that were neither committed nor rejected, and their ops."""
        return dict(self._open)

    def stage(self, op: AnyOp) -> int:
        """Say what is about to change; returns the transaction's number."""
        txn = self._next
        self._append(JournalEntry("staged", txn, self._now(), op=op))
        self._next, self._open[txn] = txn + 1, op
        return txn

    def commit(self, txn: int) -> None:
        """Say that it took effect. Raises `ValueError` for a transaction that is not staged."""
        self._settle(JournalEntry("committed", txn, self._now()))

    def reject(self, txn: int, reason: AnyReason) -> None:
        """Say that it did not, and why. Raises `ValueError` as `commit` does."""
        self._settle(JournalEntry("rejected", txn, self._now(), reason=reason))

    def entries(self) -> list[JournalEntry]:
        """Read every whole line; none where there is no file."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        return list(_parse(data))

    def _settle(self, entry: JournalEntry) -> None:
        if entry.txn not in self._open:
            raise ValueError(f"transaction {entry.txn} is not staged")
        self._append(entry)
        del self._open[entry.txn]

    def _append(self, entry: JournalEntry) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        is_new = not self.path.exists()
        descriptor = os.open(self.path, flags, 0o600)
        with open(descriptor, "r+b", buffering=0) as file:  # noqa: PTH123 - a descriptor has no path
            size = os.fstat(descriptor).st_size
            is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            line = memoryview((b"\n" if is_torn else b"") + msgspec.json.encode(entry) + b"\n")
            while line:
                line = line[file.write(line) :]
            os.fsync(descriptor)
        if is_new:
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat().replace("+00:00", "Z")


def _parse(data: bytes) -> Iterator[JournalEntry]:
    for text in data.splitlines():
        try:
            line = msgspec.json.decode(text, type=_Line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue  # torn, or not for us
        yield JournalEntry(
            line.phase, line.txn, line.at, _known(line.op, AnyOp), _known(line.reason, AnyReason)
        )


def _known(raw: msgspec.Raw, kinds: Any) -> Any:  # noqa: ANN401 - one of two unions, or neither
    if not bytes(raw):
        return None
    try:
        return msgspec.json.decode(raw, type=kinds)
    except msgspec.ValidationError:
        return msgspec.json.decode(raw)
