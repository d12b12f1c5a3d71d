"""transcriptd keeps a durable, append-only copy of every AI-agent session in an object store.

The names below are the library: the Python counterpart of CodeTether's history sink. They are
imported when they are first used, so that a health probe does not pay for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transcriptd.sink import (
        Fault,
        HistorySinkConfig,
        PointerHandle,
        WritebackJournal,
        encode_jsonl_delta,
        resolve_pointer,
        upload_full_history,
    )

__all__ = [
    "Fault",
    "HistorySinkConfig",
    "PointerHandle",
    "WritebackJournal",
    "__version__",
    "encode_jsonl_delta",
    "resolve_pointer",
    "upload_full_history",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("transcriptd.sink"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
