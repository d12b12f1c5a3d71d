"""Which sessions may have changed: file events, and a rescan that finds what events missed.

Every way of noticing a change ends in the same call, `on_change`. Watched directories are only
read. Events may be lost without a word (a full kernel queue, a directory that was made again), so
the rescan is the guarantee and the events are the speed. Knows nothing of what a change leads to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from watchfiles import Change, awatch

from transcriptd.logs import get_logger
from transcriptd.model import State
from transcriptd.scan import Scan, distinct
from transcriptd.status import Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from transcriptd.journal import Journal
    from transcriptd.model import Session
    from transcriptd.scan import Identity
    from transcriptd.sources import Source
    from transcriptd.status import Status

log = get_logger("transcriptd.watch")

_SUPERVISE_S = 2.0
_POLL_S = 2.0
_RESCAN_COST = 2500  # a rescan may take one part in this many of the time
_POLL_COST = 200  # and where there are no events, one part in so many
_LONGEST_RESCAN_S = 300.0  # however many sessions: a change whose event was lost waits no longer
_REARM_COST = 20  # and one that follows new directories, one in so many
_SHORTEST_STEP_MS = 20  # below that, an idle daemon wakes up for nothing
_LONGEST_STEP_MS = 200
_AT_ONCE = 1000  # changes
_SLEPT_S = 10.0
_LOOK_AGAIN = {State.QUARANTINED, State.BEHIND, State.PENDING}


class Watch:
    """Watches all sources. `run` works until it is cancelled.

    `on_change` hears of each session that may have changed, `on_wake` that the machine slept.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        journal: Journal,
        status: Status,
        *,
        on_change: Callable[[Session], None],
        on_wake: Callable[[], None],
        quiet_s: float,
        rescan_s: float,
        force_polling: bool = False,
    ) -> None:
        self.scans = [Scan(source, journal) for source in sources]
        self._journal = journal
        self._status = status
        self._on_change = on_change
        self._on_wake = on_wake
        # Events wait for a step on top of the debounce: a fifth of it is not felt.
        step_ms = round(quiet_s * 1000 / 5)
        self._step_ms = min(_LONGEST_STEP_MS, max(_SHORTEST_STEP_MS, step_ms))
        self._rescan_s = rescan_s
        self._polling = force_polling
        self._armed: dict[Path, Identity] = {}
        self._said: set[Path] = set()
        self._rearm = asyncio.Event()
        self._rescan = asyncio.Event()
        self._scanning = asyncio.Lock()

    @property
    def is_polling(self) -> bool:
        return self._polling

    @property
    def files(self) -> int:
        """How many sessions there are."""
        return sum(scan.files for scan in self.scans)

    async def start(self) -> None:
        """Find the roots and scan them once, with all that was not well before."""
        names = {scan.source_name for scan in self.scans}
        for scan in self.scans:
            scan.remember()
        for record in self._journal.not_current():
            if record.session.source not in names:
                continue
            if record.state in _LOOK_AGAIN:
                self._on_change(record.session)
            else:
                since = record.since_ns / 1e9
                standing = Standing(record.state, since, record.reason, record.message)
                self._status.restore(record.session, standing)
        for session in self._journal.unsettled():
            if session.source in names:
                self._on_change(session)
        await self.scan()

    async def run(self) -> None:
        """Notice changes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_events(), name="events")
            tasks.create_task(self._rescan_regularly(), name="rescan")
            tasks.create_task(self._supervise(), name="roots")

    async def scan(self) -> None:
        """Find the sessions that differ from the journal; live on where that fails once."""
        async with self._scanning:
            before = self._directories()
            went_well = [await self._scan(scan) for scan in self.scans]
            if all(went_well):
                self._status.recover("scan_failed")
            if self._directories() != before:
                self._rearm.set()
        unreadable = {root: why for scan in self.scans for root, why in scan.unreadable.items()}
        if unreadable:
            which = "; ".join(f"{root}: {why}" for root, why in unreadable.items())
            hint = "let the daemon's user read and enter the directory"
            self._status.degrade("root_unreadable", which, hint)
        else:
            self._status.recover("root_unreadable")

    async def _scan(self, scan: Scan) -> bool:
        try:
            changed = await scan.run()
        except Exception as error:  # a scan that fails must not end the watching
            log.exception("scan.failed", source=scan.source_name)
            hint = "please report the logged traceback"
            self._status.degrade("scan_failed", str(error), hint)
            return False
        for number, session in enumerate(changed):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)  # others have their turn
            self._on_change(session)
        return True

    def _directories(self) -> set[str]:
        # In one step: a thread may take in a new one meanwhile.
        return set().union(*(scan.found.directories for scan in self.scans))

    def _is_directory(self, path: Path) -> bool:
        return any(str(path) in scan.found.directories for scan in self.scans)

    def _places(self) -> list[Path]:
        """Return what must be looked at whether it is still the same: roots and indexes."""
        places = [scan.places for scan in self.scans]
        return [place for each in places for place in (*each.roots, *each.indexes)]

    async def _follow_events(self) -> None:
        while True:
            self._rearm.clear()
            self._armed = dict(distinct(self._places()))
            for scan in self.scans:
                for root in set(self._armed) & set(scan.places.roots) - self._said:
                    self._said.add(root)
                    log.info("root.watched", source=scan.source_name, path=str(root))
            # Whatever happened while nothing was watched is found by a scan.
            self._rescan.set()
            try:
                await self._follow_events_once()
            except FileNotFoundError:
                self._rescan.set()  # a directory went in this moment
                await asyncio.sleep(self._step_ms / 1000)
            except OSError as error:
                self._polling = True
                self._status.degrade(
                    "watch_polling",
                    f"file events are not to be had ({error}); directories are polled",
                    "raise fs.inotify.max_user_watches, or set watch.force_polling",
                )
            except (RuntimeError, ExceptionGroup) as error:
                # A file name that is not UTF-8 ends the watcher; what it raises comes in a group.
                why = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
                log.warning("watch.restarted", error=str(why))
                await asyncio.sleep(_SUPERVISE_S)

    async def _follow_events_once(self) -> None:
        """Follow events until the directories have to be armed anew."""
        # `ignore_permission_denied` would do, but it ignores the watch limit as well.
        below = [Path(each) for each in self._directories() - set(map(str, self._armed))]
        readable = [place for place in (*self._armed, *below) if os.access(place, os.R_OK)]
        if self._polling or not readable:
            await self._rearm.wait()
            return
        stop = asyncio.Event()
        rearming = asyncio.create_task(self._stop_when_rearmed(stop), name="rearm")
        try:
            # Not recursive: it would follow links, to wherever they lead.
            async for changes in awatch(
                *readable,
                watch_filter=None,
                recursive=False,
                debounce=self._step_ms,
                step=self._step_ms,
                stop_event=stop,
            ):
                for change, name in changes:
                    await self._look_at(change, Path(name))
        finally:
            rearming.cancel()

    async def _stop_when_rearmed(self, stop: asyncio.Event) -> None:
        """Let a burst of new directories lead to one arming, and that cost little of the time."""
        cost = sum(scan.found.cpu_s for scan in self.scans)
        armed = time.monotonic()
        await self._rearm.wait()
        rest = armed + max(self._step_ms / 1000, _REARM_COST * cost) - time.monotonic()
        if all(place in self._armed for place, _ in distinct(self._places())):
            await asyncio.sleep(max(0.0, rest))
        stop.set()

    async def _look_at(self, change: Change, path: Path) -> None:
        """Say what an event may mean."""
        if change is Change.deleted and (path in self._armed or self._is_directory(path)):
            self._rearm.set()  # made again, it may have the same identity
            return
        for scan in self.scans:
            if path.parent in scan.places.indexes:
                root = scan.source.root_named_by(path)
                if root is not None and scan.add_root(root):
                    self._rearm.set()
            elif (place := scan.place_of(path)) is not None:
                await self._look_below(scan, *place)

    async def _look_below(self, scan: Scan, root: Path, name: str) -> None:
        if session := scan.source.session(root, name):
            self._on_change(session)
        elif scan.source.is_store(name):
            self._rescan.set()
        elif scan.is_new_directory(root, name):
            for session in await asyncio.to_thread(scan.within, root, name):
                self._on_change(session)
            self._rearm.set()

    async def _rescan_regularly(self) -> None:
        while True:
            shortest = _POLL_S if self._polling else self._rescan_s
            part = _POLL_COST if self._polling else _RESCAN_COST
            cost = sum(scan.found.cpu_s for scan in self.scans)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(shortest, min(part * cost, _LONGEST_RESCAN_S))):
                    await self._rescan.wait()
            self._rescan.clear()
            await self.scan()
            # A database that is written to asks for one after the other.
            await asyncio.sleep(max(self._step_ms / 1000, _REARM_COST * cost))

    async def _supervise(self) -> None:
        """Notice roots that come, go or are replaced, and that the machine slept."""
        while True:
            before = _time_with_sleep()
            await asyncio.sleep(_SUPERVISE_S)
            if _time_with_sleep() - before > _SUPERVISE_S + _SLEPT_S:
                log.info("machine.woke_up")
                self._on_wake()
                self._rescan.set()
            if dict(distinct(self._places())) != self._armed:
                self._rearm.set()


def _time_with_sleep() -> float:
    """Return seconds on a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
