r"""What the patterns of the tables share, and what their examples are made of.

Examples are put together here so that none of them stands in the source as a token would: scanners
of pushes know the shapes, too.
"""

from __future__ import annotations

# Where a token begins: at an edge of a word, behind `_`, or behind a colour of a terminal, whose
# last byte is a letter.
START = r"(?:\b|_|\x1b\[[0-9;]{0,8}m)"

_MIXED = "7Qm2Xv9Lc4Rt6Zp1Kd8Ws3Bn5Hy0JfGaTeUoViMzNqYb"
_HEX = "9f3c1b7e0a5d2486c4e8"
_LETTERS = "QmXvLcRtZpKdWsBnHyJfGaTeUoViMzNqYbPxOlCk"


def mixed(size: int) -> str:
    """Return so many letters and digits."""
    return _repeated(_MIXED, size)


def upper(size: int) -> str:
    """Return so many capital letters and digits."""
    return _repeated(_MIXED.upper(), size)


def lower(size: int) -> str:
    """Return so many small letters and digits."""
    return _repeated(_MIXED.lower(), size)


def base32(size: int) -> str:
    """Return so many characters of base 32."""
    return _repeated("".join(one for one in _MIXED.upper() if one not in "0189"), size)


def digits(size: int) -> str:
    """Return so many digits."""
    return _repeated("8305917264", size)


def hexadecimal(size: int) -> str:
    """Return so many hexadecimal digits."""
    return _repeated(_HEX, size)


def letters(size: int) -> str:
    """Return so many letters."""
    return _repeated(_LETTERS, size)


def _repeated(text: str, size: int) -> str:
    return (text * (size // len(text) + 1))[:size]
