"""What stands in the place of a secret: as many bytes, which tell only the rule that found it."""

from __future__ import annotations

import re

_ENDS = re.compile(rb"[\r\n]")


def masked(finding_rule: str, raw: bytes) -> bytes:
    """Return `[rule]` and asterisks for `raw`, or asterisks alone where that does not fit.

    CR and LF stay where they are, so that a mask never changes where a line ends: the name stands
    in the first stretch that holds it.
    """
    name = f"[{finding_rule}]".encode("ascii")
    result = bytearray(b"*" * len(raw))
    start, named = 0, False
    for end in (*(match.start() for match in _ENDS.finditer(raw)), len(raw)):
        if not named and end - start >= len(name):
            result[start : start + len(name)] = name
            named = True
        if end < len(raw):
            result[end] = raw[end]
        start = end + 1
    return bytes(result)
