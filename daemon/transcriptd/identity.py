"""Who writes: the machine's name and a random id that is kept in the state directory.

The id lies apart from the journal, so that a lost journal does not make us a stranger to our own
archive; so does the secret that digests of masked sources are keyed with.
"""

from __future__ import annotations

import os
import re
import secrets
from typing import TYPE_CHECKING

from transcriptd.masks import Secret

if TYPE_CHECKING:
    from pathlib import Path

_ID = re.compile(r"[0-9a-f]{12}")
_SECRET_BYTES = 32


def writer(state_dir: Path, machine: str) -> str:
    """Return `machine.id`; the id is made once. Raises `OSError` if it cannot be kept."""
    path = state_dir / "writer"
    try:
        known = path.read_text("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        known = ""
    if not _ID.fullmatch(known):
        known = secrets.token_hex(6)
        _write(path, known + "\n")
    return f"{machine}.{known}"


def secret(state_dir: Path, *, make: bool) -> Secret | None:
    """Return what digests of masked sources are keyed with; `None` where there is none.

    It is made once, if `make` says so. Raises `OSError` if it cannot be kept.
    """
    path = state_dir / "redaction.key"
    try:
        known = bytes.fromhex(path.read_text("ascii").strip())
    except (FileNotFoundError, ValueError):
        known = b""
    if len(known) != _SECRET_BYTES:
        if not make:
            return None
        known = secrets.token_bytes(_SECRET_BYTES)
        _write(path, known.hex() + "\n")
    return Secret(known)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, text.encode("ascii"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
