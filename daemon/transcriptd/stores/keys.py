"""Which keys a store takes. Every store refuses the same ones, whatever it could hold itself."""

from __future__ import annotations

MAX_KEY_BYTES = 1024


def check_key(key: str) -> None:
    """Raise `ValueError` for a key that could climb out of a directory or that S3 cannot hold."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ValueError(f"not UTF-8: {key!r}") from None
    if size > MAX_KEY_BYTES:
        raise ValueError(f"longer than {MAX_KEY_BYTES} bytes: {key[:64]!r}…")
    if "\0" in key or any(segment in {"", ".", ".."} for segment in key.split("/")):
        raise ValueError(f"not a key: {key!r}")


def check_removable(key: str, prefix: str) -> None:
    """Raise `ValueError` unless the key lies below `.tail/`: nothing else is ever removed."""
    check_key(key)
    if not key.startswith(f"{prefix}.tail/"):
        raise ValueError(f"never removed: {key!r}")


def check_range(start: int, end: int | None) -> None:
    """Raise `ValueError` for a range of bytes that runs backwards."""
    if start < 0 or (end is not None and end < start):
        raise ValueError(f"not a range: [{start}, {end})")
