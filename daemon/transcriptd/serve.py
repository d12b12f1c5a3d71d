"""The daemon as a process: its signals, what it tells systemd, and when it ends.

`serve` reads as the life of the process: start, be ready, work until told to stop, drain, close.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any

from transcriptd import memory, notify
from transcriptd.app import Daemon
from transcriptd.health import Health
from transcriptd.logs import get_logger
from transcriptd.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from transcriptd.config import Config

log = get_logger("transcriptd.serve")

_BEAT_S = 30.0


async def serve(config: Config, environ: Mapping[str, str]) -> int:
    """Run the daemon until it is told to stop; return the exit status.

    Raises `LockHeld` where another daemon runs on the same state directory or socket.
    """
    asyncio.get_running_loop().set_exception_handler(unheard)
    async with Daemon(config, environ) as daemon:
        _say_where(daemon)
        with _signals(daemon.stop):
            async with Health(daemon.config.health, Report(daemon), daemon.sync, daemon.take_over):
                await daemon.start()
                notify.ready()
                log.info("daemon.started", sessions=daemon.watch.files)
                beside = [
                    asyncio.create_task(_beat(daemon, environ), name="watchdog"),
                    asyncio.create_task(_keep_small(daemon), name="memory"),
                ]
                try:
                    await daemon.run()
                finally:
                    notify.stopping()
                    for task in beside:
                        task.cancel()
                    await asyncio.gather(*beside, return_exceptions=True)
    log.info("daemon.stopped")
    return 0


def _say_where(daemon: Daemon) -> None:
    config = daemon.config
    if daemon.store is None:
        return
    said = {"place": daemon.store.place, "machine": config.machine}
    if config.store == "local" and config.origin["local.path"] == "default":
        said["hint"] = "set s3.bucket, or the CODETETHER_HISTORY_S3_* variables, to archive to S3"
    log.info("archive.opened", **said)


async def _beat(daemon: Daemon, environ: Mapping[str, str]) -> None:
    """Tell systemd that we live and how we are, as long as the workers make progress."""
    interval = notify.watchdog_interval(environ)
    said = ""
    while True:
        if daemon.makes_progress():
            notify.watchdog()
        text = _summary(daemon)
        if text != said:
            notify.status(text)
            said = text
        await asyncio.sleep(interval or _BEAT_S)


async def _keep_small(daemon: Daemon) -> None:
    def rest() -> None:
        for screen in daemon.screens.values():
            screen.rest()

    await memory.keep_small(lambda: daemon.status.events["archived"], rest)


def _summary(daemon: Daemon) -> str:
    waiting = daemon.pool.backlog if daemon.pool else 0
    troubles = ", ".join(daemon.status.degraded)
    return f"{daemon.watch.files} sessions, {waiting} waiting" + (
        f"; degraded: {troubles}" if troubles else ""
    )


def unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Hear of an error that nobody waited for.

    Where a connection is lost while a body is sent, the request fails and is tried again; what was
    still sending it fails beside it, and has nothing to add.
    """
    error = context.get("exception")
    if isinstance(error, ConnectionError):
        log.debug("connection.lost", error=str(error))
    else:
        loop.default_exception_handler(context)


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """Stop at the first SIGTERM or SIGINT; the second one ends the process at once.

    Also when the terminal goes, unless whoever started this said that it shall not matter (nohup).
    """
    loop = asyncio.get_running_loop()
    wanted = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        wanted.append(signal.SIGHUP)

    def first(number: signal.Signals) -> None:
        log.info("signal.received", signal=number.name)
        for each in wanted:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        stop()

    for each in wanted:
        loop.add_signal_handler(each, first, each)
    try:
        yield
    finally:
        for each in wanted:
            loop.remove_signal_handler(each)
