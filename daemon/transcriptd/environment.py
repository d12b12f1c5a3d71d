"""The environment that the daemon and the command line share: `~/.config/transcriptd/env`.

The systemd unit reads that file; so does every verb, so that all of them mean the same archive.
What the shell sets goes before it. Standard library only: a health probe comes through here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

_UNIT = "CODETETHER_HISTORY_S3_"


def complete(environ: MutableMapping[str, str]) -> None:
    """Add what the file sets and the environment does not.

    The variables of CodeTether's sink are one unit: where the environment has one of them, none is
    taken from the file. A file that cannot be read sets nothing.
    """
    has_unit = any(name.startswith(_UNIT) for name in environ)
    for name, value in _read(_path(environ)).items():
        if not (has_unit and name.startswith(_UNIT)):
            environ.setdefault(name, value)


def _path(environ: Mapping[str, str]) -> str:
    base = environ.get("XDG_CONFIG_HOME", "")
    if not base.startswith("/"):
        base = os.path.join(environ.get("HOME") or "/nonexistent", ".config")  # noqa: PTH118 - pathlib costs a probe its time
    return os.path.join(base, "transcriptd", "env")  # noqa: PTH118 - as above


def _read(path: str) -> dict[str, str]:
    """Read `NAME=value` lines as systemd's EnvironmentFile= does: quotes and comments go."""
    found: dict[str, str] = {}
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - as above
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return found
    for line in lines:
        name, separator, value = line.strip().partition("=")
        if not separator or name.startswith(("#", ";")):
            continue
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name.strip()] = value
    return found
