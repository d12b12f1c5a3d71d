"""All that is measured side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.contenders.daemon import Daemon
from tests.bench.contenders.loop import Aws, Rclone, S5cmd
from tests.bench.contenders.whole import Whole

if TYPE_CHECKING:
    from tests.bench.contender import Contender

CONTENDERS: tuple[type[Contender], ...] = (Daemon, Rclone, Aws, S5cmd, Whole)
