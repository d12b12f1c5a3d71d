"""The daemon as a whole: what is wired to what, and the order of starting and stopping.

The only module that knows all the others. `serve` has it run as a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from contextlib import AsyncExitStack
from time import monotonic, time
from typing import TYPE_CHECKING, Self

from transcriptd import identity, notify
from transcriptd.budget import Budget
from transcriptd.debounce import Debounce
from transcriptd.exclude import reasons
from transcriptd.gate import Gate
from transcriptd.journal import Journal
from transcriptd.layout import Names
from transcriptd.left import Result, what_is_left
from transcriptd.lock import Lock
from transcriptd.logs import get_logger
from transcriptd.model import State
from transcriptd.pool import Pool
from transcriptd.screens import screens_of, secret_of
from transcriptd.scrub import Scrub
from transcriptd.sealing import seconds_left
from transcriptd.sources import open_sources
from transcriptd.status import Status
from transcriptd.stores import open_store
from transcriptd.stores.patience import Patience
from transcriptd.takeover import Taken, take_over
from transcriptd.tree import Tree
from transcriptd.upload import Uploader
from transcriptd.watch import Watch
from transcriptd.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from transcriptd.config import Config
    from transcriptd.errors import StoreError
    from transcriptd.model import Session
    from transcriptd.sources import Source
    from transcriptd.stores import Store

log = get_logger("transcriptd.app")

_SUMMARY_S = 300.0
_FOREIGN_S = 3600.0
_REQUESTS_A_TURN = 6  # of full size: a generation is read, copied, read back, then replaced
_HOPELESS_PROBES = 3
_DESCRIPTORS = 32  # of the journal, the event loop, the watcher and the sockets
_DESCRIPTORS_A_WORKER = 3  # a file and two requests, or three


class Daemon:
    """Everything that runs, wired. Use as `async with`; see `serve` for the order of things."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self.config = config
        self.status = Status()
        self.store: Store | None = None if config.store == "disabled" else open_store(config)
        self._workers = _affordable(config.workers)
        self.gate = Gate(self._workers, on_change=self._store_changed)
        self.journal = Journal(config.state_dir / "journal.db", on_trouble=self._journal_changed)
        self.sources = open_sources(config, environ)
        self.screens = screens_of(config, self.sources)
        self._closing = AsyncExitStack()
        self._lock = Lock(config.state_dir / "lock")
        self._worker: Worker | None = None
        self._stopping = asyncio.Event()
        self._summary_due = 0.0

    async def __aenter__(self) -> Self:
        config = self.config
        async with AsyncExitStack() as opened:
            opened.enter_context(self._lock)
            names = Names(config.prefix, identity.writer(config.state_dir, config.machine))
            await opened.enter_async_context(self.journal)
            if self.store is not None:
                opened.push_async_callback(self.store.close)
            self.pool, self.watch = self._wire(names)
            self.scrub = Scrub(
                self.sources,
                self.journal,
                rate=config.scrub.rate if self.pool else 0,
                after_s=config.scrub.after,
                max_bytes=config.max_document,
                on_doubt=self.pool.touch if self.pool else lambda _: None,
            )
            self._closing = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._closing.aclose()

    def _wire(self, names: Names) -> tuple[Pool | None, Watch]:
        config = self.config
        if self.store is None:
            missing = ", ".join(config.missing)
            self.status.degrade(
                "disabled",
                f"nothing is archived: {missing} not set",
                "set all of the CODETETHER_HISTORY_S3_* variables, or none",
            )
            return None, self._watching({}, on_change=lambda _: None)
        uploader = Uploader(
            self.store,
            self.journal,
            names,
            secret=secret_of(config, self.screens.values()),
            on_foreign=self._foreign_writer,
        )
        self._worker = worker = Worker(
            sources=self.sources,
            screens=self.screens,
            excluded=reasons(config, self.sources),
            journal=self.journal,
            uploader=uploader,
            gate=self.gate,
            budget=Budget(config.memory_budget),
            status=self.status,
            names=names,
            max_document=config.max_document,
            max_lag=config.seal.max_lag,
        )
        pool = Pool(
            worker.attempt,
            workers=self._workers,
            debounce=Debounce(config.debounce.quiet, config.debounce.max_wait),
            on_failure=worker.failed,
        )
        return pool, self._watching(self.sources, on_change=pool.touch)

    def _watching(
        self, sources: Mapping[str, Source], *, on_change: Callable[[Session], None]
    ) -> Watch:
        config = self.config
        return Watch(
            sources.values(),
            self.journal,
            self.status,
            on_change=on_change,
            on_wake=self.gate.reset,
            quiet_s=config.debounce.quiet,
            rescan_s=config.watch.rescan,
            force_polling=config.watch.force_polling,
        )

    async def start(self) -> None:
        """Scan everything once. Never waits for the store."""
        if self.store is not None:
            archive = f"{self.config.prefix} in {self.store.place}"
            if await self.journal.belongs_to(archive):
                hint = "the sources are archived anew here; the old archive stays as it is"
                log.warning("archive.changed", hint=hint)
        await self.watch.start()
        if self.pool is not None:
            # Of a mirror there is nothing besides the lines.
            documents = (s for s in self.sources.values() if not isinstance(s, Tree))
            for source in documents:
                for record in self.journal.without_document(source.name):
                    self.pool.settle(record.session)
            # The configuration may have changed.
            for record in self.journal.in_state(State.EXCLUDED):
                self.pool.touch(record.session)
            for record in self.journal.behind():
                assert record.cursor is not None
                max_lag = self.config.seal.max_lag
                left = seconds_left(record.cursor, time(), max_lag=max_lag)
                self.pool.settle(record.session, within=left or 0.0)
        self.status.ready = True

    async def run(self) -> None:
        """Watch and archive until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self.watch.run(), name="watch"),
                tasks.create_task(self.scrub.run(), name="scrub"),
                tasks.create_task(self._summarise_outages(), name="summary"),
            ]
            working = self._start_pool(tasks)
            await self._stopping.wait()
            self.status.stopping = True
            await _cancel(running)
            await self._drain()
            await _cancel(working)

    def stop(self) -> None:
        """Begin to stop: one last scan, drain, close."""
        self._stopping.set()

    async def sync(self, timeout_s: float, *, seal: bool = False) -> Result:
        """Make everything due now and wait until it is archived, or `timeout_s` is over.

        `seal`: the bases take in their tails, too.
        """
        if self.pool is None:
            return Result(0, ({"session": "*", "state": State.DISABLED.value},))
        before = self.status.events["archived"]
        asked = monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.watch.scan()
                self.gate.reset()
                self.pool.hurry(seal=seal)
                asked = monotonic()
                await self.pool.worked_off()
        left = what_is_left(self.pool, self.status, self.watch.scans, for_s=monotonic() - asked)
        return Result(self.status.events["archived"] - before, left)

    async def sync_once(self, timeout_s: float, *, seal: bool = False) -> Result:
        """Do one pass over everything without a running daemon."""
        async with asyncio.TaskGroup() as tasks:
            working = self._start_pool(tasks)
            await self.start()
            result = await self.sync(timeout_s, seal=seal)
            await _cancel(working)
        return result

    async def take_over(self, sessions: Collection[str], machine: str | None) -> list[Taken]:
        """Take sessions in conflict over from other machines. Raises `StoreError`."""
        if self.pool is None or self._worker is None:
            return []
        return await take_over(
            self.journal, self._worker, self.pool, sessions=sessions, machine=machine
        )

    def _start_pool(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        return [tasks.create_task(self.pool.run(), name="pool")] if self.pool else []

    async def _drain(self) -> None:
        if self.pool is None:
            return
        log.info(
            "daemon.draining",
            waiting=self.pool.backlog,
            at_most_s=self.config.drain,
            hint="a second signal ends at once",
        )
        notify.extend(self.config.drain + 5)
        ending = [
            asyncio.create_task(self._work_off(self.pool), name="drain"),
            asyncio.create_task(self._despair(), name="despair"),
        ]
        await asyncio.wait(ending, timeout=self.config.drain, return_when=asyncio.FIRST_COMPLETED)
        await _cancel(ending)
        left = self.pool.backlog
        if left:
            log.info("daemon.drained", left=left, hint="archived at the next start")
        else:
            log.info("daemon.drained", left=0)

    async def _work_off(self, pool: Pool) -> None:
        await self.watch.scan()
        self.gate.reset()
        pool.hurry(seal=True)
        await pool.worked_off()

    async def _despair(self) -> None:
        """Return when half of the drain is over and the store still does not answer."""
        await asyncio.sleep(self.config.drain / 2)
        await self.gate.hopeless(_HOPELESS_PROBES)

    async def _summarise_outages(self) -> None:
        """Say every five minutes that an outage goes on."""
        while True:
            await asyncio.sleep(_SUMMARY_S)
            foreign = self.status.degraded.get("foreign_writer")
            if foreign and time() - foreign.since > _FOREIGN_S:
                self.status.recover("foreign_writer")  # said again when it happens again
            for trouble in self.status.degraded.values():
                waiting = self.pool.backlog if self.pool else 0
                log.warning("daemon.still_degraded", reason=trouble.reason, waiting=waiting)

    def makes_progress(self) -> bool:
        """Whether no worker has been at one session for longer than any deadline allows."""
        if self.pool is None or self.gate.error is not None:
            return True
        now = monotonic()
        longest = _REQUESTS_A_TURN * Patience().deadline(self.config.max_document)
        return all(now - since < longest for since in self.pool.working_since.values())

    def _store_changed(self, error: StoreError | None) -> None:
        troubles = {"store_unreachable", "store_slow", "store_failing"}
        troubles |= {"auth", "denied", "bucket_missing"}
        if error is None:
            self.status.recover(*troubles)
        else:
            self.status.recover(*(troubles - {error.degraded}))
            self.status.degrade(error.degraded, str(error), error.hint)

    def _journal_changed(self, error: Exception | None) -> None:
        if error is None:
            self.status.recover("journal")
        else:
            self.status.degrade(
                "journal",
                f"the journal cannot be written ({error}); it goes on in memory",
                f"look at the disk of {self.config.state_dir}",
            )

    def _foreign_writer(self, session: Session) -> None:
        self.status.degrade(
            "foreign_writer",
            f"somebody else writes to the keys of session {session.id}",
            "give the CODETETHER_HISTORY_S3_* variables to transcriptd alone, not to CodeTether",
        )


def _affordable(workers: int) -> int:
    """Return how many may work at once with the descriptors that this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(1, (soft - _DESCRIPTORS) // _DESCRIPTORS_A_WORKER)
    if soft == resource.RLIM_INFINITY or workers <= most:
        return workers
    log.warning("workers.reduced", to=most, descriptors=soft, hint="raise the limit (ulimit -n)")
    return most


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
