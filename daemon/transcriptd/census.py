"""What each agent has on this machine, and how much of that is archived.

Looks by itself, beside a daemon and without one: at the names and times of files, which it compares
with the journal. Opens no session, and changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transcriptd.errors import SourceError
from transcriptd.files import stat_at
from transcriptd.journal import Journal
from transcriptd.model import State
from transcriptd.places import Places
from transcriptd.rows import ARCHIVED
from transcriptd.scan import Scan
from transcriptd.stores import open_store
from transcriptd.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from transcriptd.config import Config
    from transcriptd.expiry import Expiry
    from transcriptd.model import Stat
    from transcriptd.scan import Identity
    from transcriptd.sources import Source


@dataclass(slots=True)
class Root:
    """A directory in which an agent's sessions may be.

    `sessions` by their names below it, with what stands of each; a directory that has several names
    has them at the first. `unreadable` says what could not be read, and why; `skipped` how many
    names were left out, by reason.
    """

    path: Path
    is_there: bool = True
    sessions: dict[str, Stat | None] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    unreadable: dict[Path, str] = field(default_factory=dict)


@dataclass(slots=True)
class Count:
    """How many sessions of an agent there are, and how they stand.

    `gone` are those whose files are gone; `archived_bytes` is what is archived of all of them. Of
    those that are `expiring`, the agent deletes each soon. `excluded` are those that never leave,
    by the journal, `excluded_by` says why; these do not expire.
    """

    sessions: int = 0
    archived: int = 0
    waiting: int = 0
    quarantined: int = 0
    gone: int = 0
    archived_bytes: int = 0
    expiring: int = 0
    expiring_unarchived: int = 0
    excluded: int = 0
    excluded_bytes: int = 0
    excluded_by: dict[str, int] = field(default_factory=dict)


def journal_of(config: Config) -> Journal | None:
    """Return the journal if it is about the archive that is configured. Blocks.

    About another one it says nothing of what is archived there.
    """
    if config.store == "disabled":
        return None
    store = open_store(config)
    asyncio.run(store.close())
    journal = Journal(config.state_dir / "journal.db")
    is_of_this = journal.fact("archive") == f"{config.prefix} in {store.place}"
    return journal if is_of_this else None


def look(source: Source, journal: Journal | None = None) -> list[Root]:
    """Find all roots of a source and the sessions below them. Blocks.

    With a `journal` also those roots that a daemon found.
    """
    places = source.places(_known(source, journal))
    seen: set[Identity] = set()
    return [_look_into(source, path, seen) for path in dict.fromkeys(places.roots)]


def count(
    name: str, roots: Iterable[Root], journal: Journal | None, expiry: Expiry, *, within_s: float
) -> Count:
    """Count the sessions of a source; without a `journal` nothing is archived.

    What the agent deletes within `within_s` seconds counts as expiring.
    """
    found = Count()
    until = time.time() + within_s
    for root in roots:
        for stat, state in _standing(name, root, journal):
            found.sessions += 1
            is_archived = state in ARCHIVED
            found.archived += is_archived
            found.quarantined += state is State.QUARANTINED
            found.waiting += state is State.PENDING
            is_missed = stat is not None and state is not State.EXCLUDED
            expires_at = expiry.at(name, stat.mtime_ns / 1e9) if stat and is_missed else None
            if expires_at is not None and expires_at < until:
                found.expiring += 1
                found.expiring_unarchived += not is_archived
    for each in journal.sums() if journal else ():
        if each.source == name:
            found.archived_bytes += each.length
            found.gone += each.sessions if each.state == State.SOURCE_GONE else 0
    for kept in journal.excluded() if journal else ():
        if kept.source == name:
            found.excluded += kept.sessions
            found.excluded_bytes += kept.size
            found.excluded_by[kept.reason] = kept.sessions
    return found


def _known(source: Source, journal: Journal | None) -> Places:
    if journal is None:
        return Places(())
    scan = Scan(source, journal)
    scan.remember()
    return scan.places


def _look_into(source: Source, path: Path, seen: set[Identity]) -> Root:
    try:
        stat = path.stat()
        identity = stat.st_dev, stat.st_ino
        if identity in seen:
            return Root(path)
        seen.add(identity)
        walked = walk(path, source.enters)
    except (FileNotFoundError, NotADirectoryError):
        return Root(path, is_there=False)
    except OSError as error:
        return Root(path, unreadable={path: error.strerror or "cannot be read"})
    root = Root(path, skipped=walked.skipped, unreadable=walked.unreadable)
    for name in walked.names:
        if source.counts(path, name):
            root.sessions[name] = stat_at(path / name)
        if source.is_store(name):
            try:
                root.sessions |= source.inner(path, name) or ()
            except SourceError as error:
                root.unreadable[path / name] = str(error)
    return root


def _standing(
    name: str, root: Root, journal: Journal | None
) -> Iterator[tuple[Stat | None, State]]:
    """Say of each session what stands of it, and whether the journal knows just that."""
    files = journal.known_files(name, str(root.path)) if journal else ()
    known = {name: (stat, state) for name, stat, state in files}
    for each, stat in root.sessions.items():
        dealt_with, state = known.get(each, (None, State.PENDING))
        is_known = stat is not None and stat == dealt_with
        is_settled = state in ARCHIVED or state in {State.QUARANTINED, State.EXCLUDED}
        yield stat, state if is_known and is_settled else State.PENDING
