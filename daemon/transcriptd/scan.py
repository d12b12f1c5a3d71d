"""What of one source differs from the journal: its places, found and compared, session by session.

A scan needs no events and misses nothing. It merges the sorted names of a root with the journal's,
so that it holds no more than the names.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import thread_time
from typing import TYPE_CHECKING

from transcriptd.errors import SourceError, Vanished
from transcriptd.files import stat_of
from transcriptd.model import State
from transcriptd.places import Places
from transcriptd.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from transcriptd.journal import Journal
    from transcriptd.model import Session, Stat
    from transcriptd.sources import Source
    from transcriptd.walk import Walked

Identity = tuple[int, int]  # (st_dev, st_ino)


@dataclass(slots=True)
class Found:
    """What one scan came upon.

    `files` counts sessions, `directories` has each directory with its root and its path below it.
    """

    places: Places
    changed: list[Session] = field(default_factory=list)
    files: int = 0
    directories: dict[str, tuple[Path, str]] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0


class Scan:
    """Scans one source. `found` is what the last scan came upon."""

    def __init__(self, source: Source, journal: Journal) -> None:
        self.source = source
        self._journal = journal
        self._scanning = asyncio.Lock()
        self.found = Found(Places(()))

    @property
    def source_name(self) -> str:
        return self.source.name

    @property
    def places(self) -> Places:
        return self.found.places

    @property
    def files(self) -> int:
        """How many sessions there were."""
        return self.found.files

    @property
    def unreadable(self) -> dict[Path, str]:
        """The directories that could not be read, and why."""
        return self.found.unreadable

    @property
    def skipped(self) -> dict[str, int]:
        """How many names were left out, by reason."""
        return self.found.skipped

    @property
    def roots(self) -> list[tuple[Path, bool]]:
        """The directories that are watched, and whether each exists."""
        return [(root, identity(root) is not None) for root in self.places.roots]

    def remember(self) -> None:
        """Go on from the places of the last run."""
        self.found.places = _remembered(self._journal.fact(self._fact))

    def add_root(self, root: Path) -> bool:
        """Take in a root that an index names; returns whether it is a new one."""
        if root in self.places.roots:
            return False
        self.found.places = replace(self.places, roots=(*self.places.roots, root))
        return True

    async def run(self) -> list[Session]:
        """Compare every file with the journal by its stat; return the sessions that differ."""
        async with self._scanning:
            began = self.places
            found = await asyncio.to_thread(self._find_and_compare, began)
            # An event may have named another root meanwhile.
            roots = tuple(dict.fromkeys((*found.places.roots, *self.places.roots)))
            found.places = replace(found.places, roots=roots)
            self.found = found
            if found.places != began:
                watermark = found.places.watermark
                said = {"roots": [str(root) for root in roots], "watermark": watermark}
                await self._journal.remember(self._fact, json.dumps(said))
        return found.changed

    def place_of(self, path: Path) -> tuple[Path, str] | None:
        """Return the root below which a path stands, and its path there; `None`: below none."""
        if found := self.found.directories.get(str(path.parent)):
            root, directory = found
            return root, os.path.join(directory, path.name)  # noqa: PTH118 - a text
        return (path.parent, path.name) if path.parent in self.places.roots else None

    def is_new_directory(self, root: Path, name: str) -> bool:
        """Whether a path below a root is a directory that no scan has found. Blocks."""
        path = root / name
        is_known = str(path) in self.found.directories or not self.source.enters(name)
        return not is_known and not path.is_symlink() and path.is_dir()

    def within(self, root: Path, directory: str) -> list[Session]:
        """Take in a directory that is new; return every session below it. Blocks."""
        try:
            found = walk(root / directory, lambda below: self.source.enters(f"{directory}/{below}"))
        except OSError:
            return []
        for below in found.directories:
            path = os.path.join(directory, below) if below else directory  # noqa: PTH118 - a text
            self.found.directories[str(root / path)] = (root, path)
        names = (f"{directory}/{name}" for name in found.names)
        return [session for name in names if (session := self.source.session(root, name))]

    @property
    def _fact(self) -> str:
        return f"places.{self.source.name}"

    def _find_and_compare(self, known: Places) -> Found:
        began = thread_time()
        found = Found(self.source.places(known))
        for root, _ in distinct(found.places.roots):
            try:
                self._scan_root(root, found)
            except (FileNotFoundError, NotADirectoryError):
                continue  # absence is not deletion
            except OSError as error:
                found.unreadable[root] = error.strerror or "cannot be read"
        found.cpu_s = thread_time() - began
        return found

    def _scan_root(self, root: Path, found: Found) -> None:
        walked = walk(root, self.source.enters)
        found.skipped += walked.skipped
        for directory in walked.directories:
            path = os.path.join(root, directory) if directory else str(root)  # noqa: PTH118 - many
            found.directories[path] = (root, directory)
        inside = self._inside(root, walked)
        names = [name for name in walked.names if self.source.counts(root, name)]
        if inside:
            names = sorted({*names, *inside})
        found.files += len(names)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found.changed += self._compare(root, names, inside, descriptor, walked.unreadable)
        finally:
            os.close(descriptor)
        found.unreadable |= walked.unreadable

    def _inside(self, root: Path, walked: Walked) -> dict[str, Stat]:
        """Return the sessions inside files that hold several, with what stands of each."""
        inside: dict[str, Stat] = {}
        for name in walked.names:
            if self.source.is_store(name):
                try:
                    inside |= self.source.inner(root, name) or ()
                except Vanished:
                    continue
                except SourceError as error:
                    walked.unreadable[root / name] = str(error)
        return inside

    def _compare(
        self,
        root: Path,
        names: list[str],
        inside: dict[str, Stat],
        descriptor: int,
        unreadable: dict[Path, str],
    ) -> Iterator[Session]:
        """Merge the names of a root with the journal's; notes what cannot be looked at."""
        unread = tuple(f"{each.relative_to(root)}/" for each in unreadable)
        known = self._journal.known_files(self.source.name, str(root))
        row = next(known, None)
        for name in names:
            while row is not None and row[0] < name:
                yield from self._gone(root, row, unread)
                row = next(known, None)
            dealt_with = None
            if row is not None and row[0] == name:
                dealt_with, row = row[1], next(known, None)
            try:
                stat = inside.get(name) or stat_of(
                    os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                )
            except PermissionError as error:  # its directory can be listed, and not entered
                unreadable[(root / name).parent] = error.strerror or "cannot be entered"
                continue
            except OSError:
                continue  # it went in this moment; the next scan says so
            if stat != dealt_with and (session := self.source.session(root, name)):
                yield session
        while row is not None:
            yield from self._gone(root, row, unread)
            row = next(known, None)

    def _gone(
        self, root: Path, row: tuple[str, Stat | None, State], unread: tuple[str, ...]
    ) -> Iterator[Session]:
        name, _, state = row
        if state is State.SOURCE_GONE or name.startswith(unread):
            return  # what cannot be looked at is not gone
        if session := self.source.session(root, name):
            yield session


def distinct(places: Iterable[Path]) -> Iterator[tuple[Path, Identity]]:
    """Give each directory that exists once, by the first of its names."""
    seen: set[Identity] = set()
    for place in places:
        found = identity(place)
        if found is not None and found not in seen:
            seen.add(found)
            yield place, found


def identity(place: Path) -> Identity | None:
    """Return by what a directory is known again when it is made anew; `None` where it is not."""
    try:
        stat = place.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _remembered(fact: str | None) -> Places:
    """Restore the places of the last run, also those that are not there now."""
    try:
        said = json.loads(fact or "")
        roots = tuple(Path(str(name)) for name in said["roots"])
        return Places(roots, watermark=int(said["watermark"]))
    except (ValueError, KeyError, TypeError):
        return Places(())
