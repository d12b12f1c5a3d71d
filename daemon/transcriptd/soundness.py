"""Whether a database is as it was left, so that it need not be checked again.

A check reads all of the file, which takes longer than everything else at a start. A mark beside the
file says by which stat it is known again; it is taken away as soon as somebody works on the file.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

from transcriptd.files import stat_of, wait_out_the_tick

if TYPE_CHECKING:
    from pathlib import Path

_WORTH_A_MARK = 8 << 20  # bytes


def leave_mark(path: Path) -> None:
    """Say that a database was sound when it was closed, just now. Blocks for a moment.

    A small one gets no mark: it is checked in no time.
    """
    mark = _mark(path)
    with contextlib.suppress(OSError):
        stat = stat_of(os.lstat(path))
        if stat.size >= _WORTH_A_MARK:
            wait_out_the_tick(stat.mtime_ns)
            mark.touch(mode=0o600)
            mark.write_text(json.dumps(stat_of(os.lstat(path))), "ascii")


def take_mark(path: Path) -> bool:
    """Say whether a database is as it was when it was marked; from now on it is not.

    Where changes are left beside it, whoever made them did not close it.
    """
    mark = _mark(path)
    try:
        said = json.loads(mark.read_bytes())
        mark.unlink()
        return (
            said == [*stat_of(os.lstat(path))] and not path.with_name(f"{path.name}-wal").exists()
        )
    except (OSError, ValueError):
        return False


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.sound")
