"""The word under which the end of a request is counted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transcriptd.errors import StoreError

OK = "ok"
CANCELLED = "cancelled"
_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")


def outcome_of(error: StoreError) -> str:
    """Return the error's name as a label: `ConditionFailed` → `condition_failed`."""
    return _WORD_START.sub("_", type(error).__name__).lower()
