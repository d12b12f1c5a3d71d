"""What is wrong here, if anything: every check, in order, and what to do about what it finds.

Asks this machine (`machine`, `state`), the archive (`round_trip`) and its bucket (`bucket`); works
beside a running daemon and without one. Changes nothing but scratch objects below `.tail/.probe/`,
which it removes. No finding holds a secret or the text of a message.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from transcriptd.doctor import bucket, machine, redaction, round_trip, state
from transcriptd.doctor.finding import Finding, Level
from transcriptd.stores import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from transcriptd.config import Config
    from transcriptd.stores import Store

__all__ = ["Finding", "Level", "examine"]


async def examine(config: Config, environ: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Yield each finding as soon as it is made."""
    for finding in machine.configuration(config):
        yield finding
    said = await asyncio.to_thread(state.ask_daemon, config)
    for finding in await asyncio.to_thread(machine.sources, config, environ):
        yield finding
    for finding in state.examine(config, environ, said):
        yield finding
    for finding in redaction.examine(config):
        yield finding
    for finding in machine.inotify(config):
        yield finding
    if config.store != "disabled":
        async for finding in _archive(config):
            yield finding
    for finding in state.daemon(config, said):
        yield finding
    yield machine.versions()


async def _bucket(store: Store, config: Config) -> AsyncIterator[Finding]:
    from transcriptd.stores.s3 import S3Store  # it brings the SDK, which a local archive spares

    if isinstance(store, S3Store):
        enforced = await store.enforced()
        for finding in bucket.explain(enforced, config.prefix, config.s3.sse):
            yield finding


async def _archive(config: Config) -> AsyncIterator[Finding]:
    if config.store == "local":
        yield state.writable("archive", config.local.path)
        yield state.space("archive", config.local.path)
    store = open_store(config)
    try:
        healthy = True
        async for finding in round_trip.examine(store, config.prefix):
            healthy = healthy and finding.level is not Level.FAIL
            yield finding
        if config.store == "s3" and healthy:
            async for finding in round_trip.only_local(store, config):
                yield finding
            async for finding in _bucket(store, config):
                yield finding
    finally:
        await store.close()
