"""Why bytes that were asked for are not there: CodeTether's fault vocabulary and its JSON.

Says what can go wrong for a reader of the archive; knows neither stores nor pointers.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from transcriptd.errors import TranscriptdError


class Kind(StrEnum):
    """The tag of a fault. Some are an agent's own and never raised here, only read and written."""

    NO_MATCH = "no_match"  # clean answer: there are no such bytes
    DENIED = "denied"
    BACKEND_ERROR = "backend_error"
    FLUSH_MISS = "flush_miss"
    POST_COMPACTION_BOOTSTRAP = "post_compaction_bootstrap"
    PINNED_INVARIANT_MISS = "pinned_invariant_miss"
    DUPLICATE_TOOL = "duplicate_tool"
    REFETCH = "refetch"


_WITH_REASON = frozenset({Kind.DENIED, Kind.BACKEND_ERROR})


class _Wire(msgspec.Struct):
    kind: Kind
    reason: str | None = None


class Fault(TranscriptdError):
    """An absence that has a name; `reason` says more where the kind has one (else it is empty)."""

    def __init__(self, kind: Kind | str, reason: str = "", *, hint: str = "") -> None:
        """Raise `ValueError` for a kind that does not exist, or a reason it does not have."""
        self.kind = Kind(kind)
        if reason and self.kind not in _WITH_REASON:
            raise ValueError(f"{self.kind} has no reason")
        self.reason = reason
        super().__init__(f"{self.kind}: {reason}" if reason else str(self.kind), hint=hint)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.kind, self.reason)

    def to_json(self) -> str:
        """Write `{"kind": …}`, with `reason` where the kind has one."""
        said = {"kind": str(self.kind)}
        if self.kind in _WITH_REASON:
            said["reason"] = self.reason
        return msgspec.json.encode(said).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Fault:
        """Read what `to_json`, or CodeTether, wrote. Raises `ValueError` for anything else."""
        wire = msgspec.json.decode(text, type=_Wire)
        return cls(wire.kind, (wire.reason or "") if wire.kind in _WITH_REASON else "")
