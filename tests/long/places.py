"""Where the archive of a run is: a server that is started, or a directory.

A place serves every example of a run, each below a prefix of its own, so that the server is probed
once. Knows nothing of what is archived there.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tests.contract.s3 import SMALL as SMALL_PARTS
from tests.contract.s3 import _settings
from tests.long.links import DirectoryLink, Held, Link, ServerLink
from tests.proxy import FaultProxy
from tests.servers import start
from tests.servers.process import fast_parent
from transcriptd.stores.local import LocalStore
from transcriptd.stores.s3 import S3Store
from transcriptd.write import COPYABLE, Sizes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.servers import Server
    from transcriptd.stores import Store
    from transcriptd.stores.s3_parts import Limits

PREFIX = "history/"
MACHINES = 2
SMALL = 150
TEXT, LARGE_TEXT = 3000, 3 << 20
TAKES_ANY_PART = {"ministack"}


class Place(Protocol):
    """`text` is how long a long message is, in bytes; `left` the keys of uploads without an end."""

    name: str
    runner: asyncio.Runner
    sizes: Sizes
    text: int
    guarantees: dict[str, str]
    left: list[str]

    def links(self, prefix: str) -> Sequence[Link]:
        """Give each machine its way to the archive below a prefix."""

    def reader(self, prefix: str) -> Store:
        """Give a store that nothing befalls."""

    async def unfinished(self, prefix: str) -> list[str]:
        """Name the keys to which something was uploaded and never ended."""


def is_honest(place: Place) -> bool:
    """Whether it compares conditions: without them the archive is for one writer."""
    return _honours(place, "if_none_match", "if_match")


def may_land_late(place: Place, held: Held, *, alone: bool) -> bool:
    """Whether a request may land when nobody waits for it.

    The server must know that it is too late. The end of an upload in parts it need not know: who
    starts anew aborts the upload before anything else. Only another machine does not.
    """
    if held.completes and not alone:
        return is_honest(place) and _honours(place, "complete_if_none_match", "complete_if_match")
    return is_honest(place) and held.may_land_late


def _honours(place: Place, *names: str) -> bool:
    return all(place.guarantees[name] == "honoured" for name in names)


@dataclass(slots=True)
class ServerPlace:
    """A bucket of a server, behind a proxy for each machine."""

    name: str
    server: Server
    proxies: list[FaultProxy]
    state: Path
    runner: asyncio.Runner
    sizes: Sizes
    text: int
    limits: Limits | None
    guarantees: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def links(self, prefix: str) -> Sequence[Link]:
        return [self._link(proxy, prefix) for proxy in self.proxies]

    def _link(self, proxy: FaultProxy, prefix: str) -> Link:
        proxy.rules.clear()
        proxy.requests.clear()
        return ServerLink(proxy, lambda: self._store(proxy.server, prefix))

    def reader(self, prefix: str) -> Store:
        return self._store(self.server, prefix)

    async def unfinished(self, prefix: str) -> list[str]:
        begun = {
            seen.key
            for proxy in self.proxies
            for seen in proxy.seen("POST")
            if seen.query.partition("=")[0] == "uploads"
        }
        store = self._store(self.server, prefix)
        try:
            left = [
                upload.key
                for key in sorted(begun)
                if key.startswith(prefix)
                async for upload in store._uploads.list(key)
            ]
        finally:
            await store.close()
        return left

    async def probe(self) -> None:
        for proxy in self.proxies:
            store = self._store(proxy.server, PREFIX)
            await store.put(f"{PREFIX}.tail/probed", b"probed\n", {})
            await store.copies()
            self.guarantees = dict(store.guarantees)
            await store.close()

    def _store(self, server: Server, prefix: str) -> S3Store:
        settings = _settings(server)
        return S3Store(settings, prefix=prefix, state_dir=self.state, limits=self.limits)


@dataclass(slots=True)
class DirectoryPlace:
    """A local archive."""

    path: Path
    runner: asyncio.Runner
    guarantees: dict[str, str]
    name: str = "local"
    sizes: Sizes = Sizes(small=SMALL)  # noqa: RUF009 - a frozen value
    text: int = TEXT
    left: list[str] = field(default_factory=list)

    def links(self, prefix: str) -> Sequence[Link]:
        return [DirectoryLink(self.path, prefix) for _ in range(MACHINES)]

    def reader(self, prefix: str) -> Store:
        return LocalStore(self.path, prefix=prefix)

    async def unfinished(self, prefix: str) -> list[str]:
        return []  # a file that was not put in its place is not seen by anybody


@contextmanager
def placed(name: str, *, large: bool = False, server: Server | None = None) -> Iterator[Place]:
    """Start what is needed for a run. Raises `Missing` where the server cannot be started.

    `large`: long messages are so long that a server must copy the parts of a base.
    """
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=fast_parent())))
        runner = stack.enter_context(asyncio.Runner())
        if name == "local":
            store = LocalStore(home / "archive", prefix=PREFIX)
            yield DirectoryPlace(home / "archive", runner, dict(store.guarantees))
            return
        server = server or stack.enter_context(start(name))
        proxies = AsyncExitStack()
        stack.callback(lambda: runner.run(proxies.aclose()))
        any_part = name in TAKES_ANY_PART and not large
        place = ServerPlace(
            name=name,
            server=server,
            proxies=[
                runner.run(proxies.enter_async_context(FaultProxy(server))) for _ in range(MACHINES)
            ],
            state=home,
            runner=runner,
            sizes=Sizes(
                SMALL,
                copyable=SMALL_PARTS.least if any_part else COPYABLE,
                whole=SMALL_PARTS.whole if any_part else 8 << 20,
            ),
            text=LARGE_TEXT if large else TEXT,
            limits=SMALL_PARTS if any_part else None,
        )
        runner.run(place.probe())
        yield place
