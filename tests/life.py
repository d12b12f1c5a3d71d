"""Everything that happens to sessions in an archive, done by the real daemon in one go.

Sessions begin, grow, are sealed, also by parts that the server copies, undone and moved; then the
journal is lost, and what is found in the archive is gone on with.
"""

from __future__ import annotations

import random
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.agents import Claude, Codex
from tests.daemon import running
from tests.documents import conversation, document, message, save
from tests.servers import Missing, create_bucket

if TYPE_CHECKING:
    from tests.daemon import Daemon
    from tests.home import Home
    from tests.servers import Pool, Server

_REQUESTS = re.compile(
    r'^transcriptd_store_requests_total{op="(\w+)",outcome="(\w+)"}', re.MULTILINE
)
LARGE = 6 << 20
"""More than the least size of a part, so that a base of it is copied."""


def bucket_on(name: str, servers: Pool) -> Server:
    """Return a server with a new bucket; the test is skipped where there is none."""
    try:
        return create_bucket(servers.get(name))
    except Missing as missing:
        pytest.skip(str(missing))


async def live(home: Home) -> set[tuple[str, str]]:
    """Live it; return what the store was asked for, and how it ended.

    Asserts that everything is archived after each step.
    """
    claude, codex = Claude(home.path), Codex(home.path)
    long = [message("user", random.Random(1).randbytes(LARGE // 2).hex())]
    save(home.sessions, document(conversation(4), "small"))
    save(home.sessions, document(long, "large"))
    claude.says("begin")
    rollout = codex.says("x" * 20_000)
    async with running(home) as daemon:
        await archived(daemon)
        grown = [*long, *conversation(400)]
        save(home.sessions, document(grown, "large"))
        save(home.sessions, document(conversation(9), "small"))
        claude.says("go on")
        await archived(daemon, seal=False)  # beside the base
        await archived(daemon)
        save(home.sessions, document(long, "large"))  # an undo
        codex.archives(rollout)
        await archived(daemon)
        save(home.sessions, document([*long, *conversation(2)], "large"))
        asked = await requests(daemon)
        assert await daemon.stop() == 0
    shutil.rmtree(home.state)
    async with running(home) as daemon:
        claude.says("and on")
        await archived(daemon)
        asked |= await requests(daemon)
        assert await daemon.stop() == 0
    return asked


async def archived(daemon: Daemon, *, seal: bool = True) -> None:
    answer = await daemon.sync(seal=seal)
    assert answer.is_ok, answer.json()


async def requests(daemon: Daemon) -> set[tuple[str, str]]:
    metrics = (await daemon.ask("/metrics")).body.decode()
    return set(_REQUESTS.findall(metrics))
