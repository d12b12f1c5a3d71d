"""Sets the scene for one contender: directories, a bucket, a tap; and clears it all away."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.contender import Ground
from tests.bench.tap import Tap
from tests.servers import create_bucket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.contender import Contender
    from tests.servers import Server


@dataclass(frozen=True, slots=True)
class Stage:
    """One contender, not yet started, with all it works on to itself."""

    contender: Contender
    sessions: Path
    tap: Tap


@contextmanager
def stage(server: Server, kind: type[Contender]) -> Iterator[Stage]:
    """Make a stage; whatever runs there is stopped in the end."""
    with (
        tempfile.TemporaryDirectory(prefix="transcriptd-bench-") as directory,
        Tap(create_bucket(server)) as tap,
    ):
        sessions, home = Path(directory, "sessions"), Path(directory, "home")
        sessions.mkdir()
        home.mkdir()
        contender = kind(Ground(sessions, home, tap.server))
        try:
            yield Stage(contender, sessions, tap)
        finally:
            contender.stop()
