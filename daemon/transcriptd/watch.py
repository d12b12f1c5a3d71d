"""Which sessions may have changed: file events, and a rescan that finds what events missed.

Every way of noticing a change ends in the same call, `on_change`. Watched directories are only
read. Events may be lost without a word (a full kernel queue, a directory that was made again), so
the rescan is the guarantee and the events are the speed. Knows nothing of what a change leads to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from time import thread_time
from typing import TYPE_CHECKING

from watchfiles import Change, awatch

from transcriptd.logs import get_logger
from transcriptd.model import State
from transcriptd.snapshot import stat_of
from transcriptd.sources import Places
from transcriptd.status import Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from transcriptd.journal import Journal
    from transcriptd.model import Session, Stat
    from transcriptd.sources import Source
    from transcriptd.status import Status

log = get_logger("transcriptd.watch")

_SUPERVISE_S = 2.0
_POLL_S = 2.0
_RESCAN_COST = 200  # a rescan may take one part in this many of the time
_SHORTEST_STEP_MS = 20  # below that, an idle daemon wakes up for nothing
_LONGEST_STEP_MS = 200
_SLEPT_S = 10.0
_LOOK_AGAIN = {State.QUARANTINED, State.BEHIND, State.PENDING}

Identity = tuple[int, int]  # (st_dev, st_ino)


class Watch:
    """Watches one source. `run` works until it is cancelled.

    `on_change` hears of each session that may have changed, `on_wake` that the machine slept.
    """

    def __init__(
        self,
        source: Source,
        journal: Journal,
        status: Status,
        *,
        on_change: Callable[[Session], None],
        on_wake: Callable[[], None],
        quiet_s: float,
        rescan_s: float,
        force_polling: bool = False,
    ) -> None:
        self._source = source
        self._journal = journal
        self._status = status
        self._on_change = on_change
        self._on_wake = on_wake
        # Events wait for a step on top of the debounce: a fifth of it is not felt.
        step_ms = round(quiet_s * 1000 / 5)
        self._step_ms = min(_LONGEST_STEP_MS, max(_SHORTEST_STEP_MS, step_ms))
        self._rescan_s = rescan_s
        self._force_polling = force_polling
        self._polling = force_polling
        self._places = Places(())
        self._armed: dict[Path, Identity] = {}
        self._said: set[Path] = set()
        self._rearm = asyncio.Event()
        self._rescan = asyncio.Event()
        self._scanning = asyncio.Lock()
        self._scan_cpu_s = 0.0
        self.files = 0
        self.unreadable: dict[Path, str] = {}

    @property
    def source_name(self) -> str:
        return self._source.name

    @property
    def is_polling(self) -> bool:
        return self._polling

    @property
    def roots(self) -> list[tuple[Path, bool]]:
        """The directories that are watched, and whether each exists."""
        return [(root, _identity(root) is not None) for root in self._places.roots]

    async def start(self) -> None:
        """Find the roots and scan them once, with all that was not well before."""
        self._places = _remembered(self._journal.fact(self._fact))
        for record in self._journal.not_current():
            if record.session.source == self._source.name:
                if record.state in _LOOK_AGAIN:
                    self._on_change(record.session)
                else:
                    since = record.since_ns / 1e9
                    standing = Standing(record.state, since, record.reason, record.message)
                    self._status.restore(record.session, standing)
        for session in self._journal.unsettled():
            self._on_change(session)
        await self.scan()

    async def run(self) -> None:
        """Notice changes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_events(), name=f"events {self._source.name}")
            tasks.create_task(self._rescan_regularly(), name=f"rescan {self._source.name}")
            tasks.create_task(self._supervise(), name=f"roots {self._source.name}")

    async def _scan(self) -> None:
        """Compare every file with the journal by its stat, and report what differs."""
        async with self._scanning:
            began, asked = self._places, (self._places.roots, self._places.indexes)
            found, changed, self.files, self._scan_cpu_s = await asyncio.to_thread(
                self._find_and_compare, began
            )
            # An event may have named another root meanwhile.
            roots = tuple(dict.fromkeys((*found.roots, *self._places.roots)))
            self._places = replace(found, roots=roots)
            if (roots, found.indexes) != asked:
                self._rearm.set()
            if self._places != began:
                said = {"roots": [str(root) for root in roots], "watermark": found.watermark}
                await self._journal.remember(self._fact, json.dumps(said))
        for session in changed:
            self._on_change(session)
        if self.unreadable:
            which = "; ".join(f"{root}: {why}" for root, why in self.unreadable.items())
            hint = "let the daemon's user read and enter the directory"
            self._status.degrade("root_unreadable", which, hint)
        else:
            self._status.recover("root_unreadable")

    async def scan(self) -> None:
        """Find the sessions that differ from the journal; live on where that fails once."""
        try:
            await self._scan()
        except Exception as error:  # a scan that fails must not end the watching
            log.exception("scan.failed", source=self._source.name)
            self._status.degrade("scan_failed", str(error), "please report the logged traceback")
        else:
            self._status.recover("scan_failed")

    async def _follow_events(self) -> None:
        while True:
            self._rearm.clear()
            self._armed = dict(_distinct((*self._places.roots, *self._places.indexes)))
            for root in set(self._armed) & set(self._places.roots) - self._said:
                self._said.add(root)
                log.info("root.watched", source=self._source.name, path=str(root))
            # Whatever happened while nothing was watched is found by a scan.
            self._rescan.set()
            try:
                await self._follow_events_once()
            except FileNotFoundError:
                continue  # a root went in this moment; the supervisor waits for it
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
                log.warning("watch.restarted", source=self._source.name, error=str(why))
                await asyncio.sleep(_SUPERVISE_S)

    async def _follow_events_once(self) -> None:
        """Follow events until the directories have to be armed anew."""
        # `ignore_permission_denied` would do, but it ignores the watch limit as well.
        readable = [place for place in self._armed if os.access(place, os.R_OK)]
        if self._polling or not readable:
            await self._rearm.wait()
            return
        indexes = set(self._places.indexes)
        async for changes in awatch(
            *readable,
            watch_filter=None,
            recursive=False,
            debounce=self._step_ms,
            step=self._step_ms,
            stop_event=self._rearm,
        ):
            for change, name in changes:
                path = Path(name)
                if change is Change.deleted and path in self._armed:
                    self._rearm.set()  # made again, it may have the same identity
                elif path.parent in indexes:
                    self._look_at_index(path)
                elif session := self._source.session(path.parent, path.name):
                    self._on_change(session)

    def _look_at_index(self, entry: Path) -> None:
        root = self._source.root_named_by(entry)
        if root is not None and root not in self._places.roots:
            self._places = replace(self._places, roots=(*self._places.roots, root))
            self._rearm.set()

    async def _rescan_regularly(self) -> None:
        while True:
            shortest = _POLL_S if self._polling else self._rescan_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(shortest, _RESCAN_COST * self._scan_cpu_s)):
                    await self._rescan.wait()
            self._rescan.clear()
            await self.scan()

    async def _supervise(self) -> None:
        """Notice roots that come, go or are replaced, and that the machine slept."""
        while True:
            before = _time_with_sleep()
            await asyncio.sleep(_SUPERVISE_S)
            if _time_with_sleep() - before > _SUPERVISE_S + _SLEPT_S:
                log.info("machine.woke_up")
                self._on_wake()
                self._rescan.set()
            places = (*self._places.roots, *self._places.indexes)
            if dict(_distinct(places)) != self._armed:
                self._rearm.set()

    @property
    def _fact(self) -> str:
        return f"places.{self._source.name}"

    def _find_and_compare(self, known: Places) -> tuple[Places, list[Session], int, float]:
        """Return the places, what differs from the journal, how many files, and CPU seconds."""
        began = thread_time()
        places = self._source.places(known)
        changed: list[Session] = []
        files = 0
        unreadable: dict[Path, str] = {}
        for root, _ in _distinct(places.roots):
            try:
                names = self._names(root)
                descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                continue  # absence is not deletion
            except OSError as error:
                unreadable[root] = error.strerror or "unreadable"
                continue
            try:
                files += len(names)
                changed += self._compare_root(root, names, descriptor)
            except PermissionError as error:
                unreadable[root] = error.strerror or "unreadable"
            finally:
                os.close(descriptor)
        self.unreadable = unreadable
        return places, changed, files, thread_time() - began

    def _names(self, root: Path) -> list[str]:
        with os.scandir(root) as entries:
            return sorted(e.name for e in entries if self._source.counts(e.name))

    def _compare_root(self, root: Path, names: list[str], descriptor: int) -> Iterator[Session]:
        """Merge the sorted names of a root with the journal's: no memory beside the names."""
        known = self._journal.known_files(self._source.name, str(root))
        row = next(known, None)
        for name in names:
            while row is not None and row[0] < name:
                yield from self._gone(root, row)
                row = next(known, None)
            if row is not None and row[0] == name:
                dealt_with, row = row[1], next(known, None)
            else:
                dealt_with = None
            try:
                stat = stat_of(os.stat(name, dir_fd=descriptor, follow_symlinks=False))
            except PermissionError:
                raise
            except OSError:
                continue  # it went in this moment; the next scan says so
            if stat != dealt_with and (session := self._source.session(root, name)):
                yield session
        while row is not None:
            yield from self._gone(root, row)
            row = next(known, None)

    def _gone(self, root: Path, row: tuple[str, Stat | None, State]) -> Iterator[Session]:
        name, _, state = row
        if state is not State.SOURCE_GONE and (session := self._source.session(root, name)):
            yield session


def _remembered(fact: str | None) -> Places:
    """Restore the places of the last run, also those that are not there now."""
    try:
        said = json.loads(fact or "")
        roots = tuple(Path(str(name)) for name in said["roots"])
        return Places(roots, watermark=int(said["watermark"]))
    except (ValueError, KeyError, TypeError):
        return Places(())


def _distinct(places: Iterable[Path]) -> Iterator[tuple[Path, Identity]]:
    """Give each directory that exists once, by the first of its names."""
    seen: set[Identity] = set()
    for place in places:
        identity = _identity(place)
        if identity is not None and identity not in seen:
            seen.add(identity)
            yield place, identity


def _identity(place: Path) -> Identity | None:
    try:
        stat = place.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _time_with_sleep() -> float:
    """Return seconds on a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
