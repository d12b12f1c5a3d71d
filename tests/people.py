"""Other people on this machine: whose files are whose, and whom permissions concern."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SOMEBODY, SOMEBODY_ELSE = 12345, 12346
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives files away")


@contextmanager
def as_somebody() -> Iterator[None]:
    """Be somebody whom permissions concern."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(SOMEBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@contextmanager
def public_directory() -> Iterator[Path]:
    """Give a directory that somebody can get to, which pytest's own are not."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        path = Path(name).resolve()
        path.chmod(0o755)
        yield path
        for directory in [path, *path.rglob("*")]:
            if directory.is_dir() and not directory.is_symlink():
                directory.chmod(0o755)
