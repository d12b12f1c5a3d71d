"""The sessions of this machine, and what its journal knows of them. Reads, and nothing else."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from transcriptd.content import BLOCK
from transcriptd.errors import SourceError, Unreadable, Vanished
from transcriptd.files import stat_at
from transcriptd.layout import MASKED, Names, copy_key
from transcriptd.model import Session, State
from transcriptd.places import Places
from transcriptd.screen import Screen
from transcriptd.tree import Tree
from transcriptd.verify.places import base_of
from transcriptd.walk import inner_names, walk

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from transcriptd.content import Content
    from transcriptd.journal import Journal
    from transcriptd.masks import Secret
    from transcriptd.model import Stat
    from transcriptd.rows import Record
    from transcriptd.sources import Source


_MOST_OF_A_MIRROR = 4 * BLOCK


@dataclass(frozen=True, slots=True)
class Read:
    """What is to be archived of a session's file; without `content`, the state that follows.

    `plain` is the same without masks.
    """

    content: Content | None
    stat: Stat | None = None
    state: State = State.PENDING
    reason: str = ""
    plain: Content | None = None


@dataclass(slots=True)
class Here:
    """This machine. Without a `journal`, or with one about another archive, it knows nothing.

    `screens` are the rules for each source; one that is not among them has none. With its `secret`
    masked sources are known again (`masks`). `max_document` in bytes. `unreadable` are the
    directories that could not be read, and why.
    """

    sources: Mapping[str, Source]
    prefix: str
    machine: str
    max_document: int
    journal: Journal | None = None
    screens: Mapping[str, Screen] = field(default_factory=dict)
    secret: Secret | None = None
    unreadable: dict[Path, str] = field(default_factory=dict)

    def sessions(self, streams: Iterable[str], wanted: Collection[str]) -> dict[str, list[Session]]:
        """Return sessions by the base key of the stream where they are archived, or will be.

        Those with a file here, and those of which the journal says that they are archived; only
        those with an id or a base key in `wanted`, or all. Blocks.
        """
        records = self.journal.everything() if self.journal else []
        known = {r.session: r.cursor.key for r in records if r.cursor}
        roots: dict[str, dict[str, None]] = defaultdict(dict)
        for record in records:
            roots[record.session.source][record.session.root] = None
        aside = self._aside(streams)
        found: dict[Session, str] = {}
        for source in self.sources.values():
            for session in self._files(source, roots[source.name]):
                base = source.key(Names(self.prefix, f"{self.machine}."), session)
                found[session] = known.get(session) or self._key(session, base, aside[base])
        by_key: dict[str, list[Session]] = defaultdict(list)
        for session, key in (known | found).items():
            if not wanted or session.id in wanted or base_of(self.prefix, key) in wanted:
                by_key[key].append(session)
        return dict(by_key)

    def record(self, session: Session) -> Record | None:
        """Return what the journal knows of a session by now."""
        return self.journal.record(session) if self.journal else None

    def base_key(self, session: Session) -> str | None:
        """Return the key that a session has where nobody else has it."""
        source = self.sources.get(session.source)
        return source.key(Names(self.prefix, f"{self.machine}."), session) if source else None

    async def read(self, session: Session, record: Record | None = None) -> Read:
        """Read a session's file. Its `record` tells what is masked, and which last line counts."""
        source = self.sources.get(session.source)
        if source is None:
            return Read(None, await self.stat(session))
        cursor, known = (record.cursor, record.screening) if record else (None, None)
        if not isinstance(source, Tree) and not (known and known.masks):
            cursor = None  # what was checked is checked again
        look = self._screen(source).look
        try:
            seen = await asyncio.to_thread(
                look, source, session, cursor, known=known, max_bytes=self.max_document
            )
        except Unreadable as error:
            return Read(None, await self.stat(session), State.QUARANTINED, error.reason)
        except Vanished:
            return Read(None, None, State.SOURCE_GONE)
        except SourceError:
            return Read(None, await self.stat(session))
        content = seen.snapshot.content
        plain = seen.screened.plain if seen.screened else content
        return Read(content, seen.snapshot.stat, plain=plain)

    async def stat(self, session: Session) -> Stat | None:
        """Return what stands of a session at this moment; `None` where it is gone."""
        source = self.sources.get(session.source)
        look = source.stat if source else lambda each: stat_at(each.path)
        return await asyncio.to_thread(look, session)

    async def size(self, session: Session) -> int:
        """Return how many bytes are held in memory while a session is read, about."""
        stat = await self.stat(session)
        source = self.sources.get(session.source)
        if stat is None or source is None:
            return 0
        is_read_in_blocks = isinstance(source, Tree) and not source.is_store(session.name)
        return min(stat.size, _MOST_OF_A_MIRROR if is_read_in_blocks else self.max_document)

    def _screen(self, source: Source) -> Screen:
        """Return the rules, where they change what is archived: what they count is not asked."""
        screen = self.screens.get(source.name)
        return screen if screen and screen.mode == MASKED else Screen()

    def _files(self, source: Source, known: Iterable[str]) -> Iterator[Session]:
        seen: set[tuple[int, int]] = set()
        for root in source.places(Places(tuple(map(Path, known)))).roots:
            try:
                stat = root.stat()
                if (stat.st_dev, stat.st_ino) in seen:
                    continue  # the same directory under another name
                seen.add((stat.st_dev, stat.st_ino))
                found = walk(root, source.enters)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                self.unreadable[root] = error.strerror or "cannot be read"
                continue
            self.unreadable.update(found.unreadable)
            for name in found.names:
                for each in inner_names(source, root, name):
                    if session := source.session(root, each):
                        yield session

    def _aside(self, streams: Iterable[str]) -> dict[str, list[str]]:
        """Return the streams of this machine under `.conflicts/`, by the key they stand beside."""
        aside: dict[str, list[str]] = defaultdict(list)
        folder = f"{self.prefix}.conflicts/"
        for key in streams:
            base, _, name = key.removeprefix(folder).rpartition("/")
            if key.startswith(folder) and name.startswith(f"{self.machine}."):
                aside[self.prefix + base].append(key)
        return aside

    def _key(self, session: Session, base: str, aside: Iterable[str]) -> str:
        """Say where a session is that the journal does not know: beside its key, if at all."""
        mark = copy_key("", base, "", session.root).rpartition("~")[2]
        copies = [key for key in aside if key.endswith(f"~{mark}")]
        others = [key for key in aside if "~" not in key.rpartition("/")[2]]
        return next(iter((*copies, *others)), base)
