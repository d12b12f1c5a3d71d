"""Puts mirrored files back, byte for byte.

Owns where such a file goes and how it is written. A file of any length passes through in pieces.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from transcriptd.archive import Span, open_stream
from transcriptd.files import open_content
from transcriptd.landing import Landing, stands
from transcriptd.layout import mirrored
from transcriptd.model import Session
from transcriptd.projects import directory_of
from transcriptd.restore.outcome import Fate, Outcome, Ready, Refused, judged
from transcriptd.standing import Mirror, MirrorJudge, Standing, pieces
from transcriptd.tree import Tree
from transcriptd.wanted import asked
from transcriptd.whereabouts import Finder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transcriptd.content import Content
    from transcriptd.journal import Journal
    from transcriptd.layout import Names
    from transcriptd.model import Stat
    from transcriptd.remap import Mapper
    from transcriptd.restore.claims import Claims
    from transcriptd.restore.order import Order
    from transcriptd.sources import Source
    from transcriptd.stores import Store
    from transcriptd.wanted import WantedMirror

_LONGEST_NAME = 255 - len(".before-restore-999")
_COMPRESSED = ".zst"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a file goes. `path` is where it stands in the agent's mirror since then.

    `tree` is the agent, where the file goes to the agent's own place.
    """

    wanted: WantedMirror
    session: Session
    path: str
    tree: Tree | None


class MirrorRestorer:
    """Restores mirrored files of all agents."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        sources: Mapping[str, Source],
        journal: Journal,
        *,
        order: Order,
        claims: Claims,
        names: Names | None,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._sources = sources
        self._journal = journal
        self._order = order
        self._claims = claims
        self._names = names
        self._judge = MirrorJudge(store, prefix)

    def stands(self, each: WantedMirror) -> Path | None:
        """Return where a session's file stands. Blocks. Raises `Refused`."""
        tree, (root, name) = self.place(each, each.path)
        session = Session(tree.name, each.session_id, str(root), name)
        there = next(self._standing_at(Target(each, session, each.path, tree)), None)
        return there[0].path if there else None

    async def target(self, each: WantedMirror) -> Target:
        """Say where a file goes. Raises `Refused`, `StoreError`."""
        path, remap = each.path, self._order.remap
        if remap and remap.may_move(each.agent, path):
            directory = await directory_of(self._store, self._prefix, each)
            path = remap.path(each.agent, path, directory)
        if self._order.to is not None:
            session = Session(each.agent, each.session_id, str(self._order.to / each.agent), path)
            return Target(each, session, path, None)
        tree, (root, name) = await asyncio.to_thread(self.place, each, path)
        return Target(each, Session(tree.name, each.session_id, str(root), name), path, tree)

    def place(self, each: WantedMirror, path: str) -> tuple[Tree, tuple[Path, str]]:
        """Return the agent and the place where it looks for a file. Blocks. Raises `Refused`."""
        tree = self._sources.get(each.agent)
        if not isinstance(tree, Tree):
            message = (
                f"no agent of the name {each.agent} is known here, or it is not enabled "
                f"(`sources.{each.agent}`); --to DIR writes it elsewhere"
            )
            raise Refused("unknown_agent", message)
        if each.is_shortened:
            message = "its path was too long for a key, so that it is not known; --to DIR writes it"
            raise Refused("shortened", message)
        stood = self._journal.records(tree.name, each.session_id)
        place = tree.destination(path, [Path(r.session.root) for r in stood])
        if place is None:
            message = (
                "it is no file of its agent, such as a session inside a database, which is never "
                "written to; --to DIR writes it as a file"
            )
            raise Refused("no_file", message)
        return tree, place

    async def prepare(self, target: Target) -> Ready | Outcome:
        """Write a file near its place, unless that holds it. Raises `OSError` too."""
        each, session = target.wanted, target.session
        finder = Finder(self._store, self._prefix, each.key)
        found = await asked(lambda: finder.find(each.generation, None))
        outcome = Outcome(
            each.session_id, Fate.RESTORED, session.path,
            generation=found.generation, agent=each.agent,
        )  # fmt: skip
        standing = Standing(None)
        for there in self._standing_at(target):
            mirror = Mirror(each.key, there[1], partial(self._mapper, each))
            opened = partial(self._open, target.tree, there[0])
            standing = await self._judge.look(mirror, opened, found)
            is_its_place = there[0] == session
            at = replace(outcome, path=there[0].path)
            fixed = self._order.without_writing(at, standing)
            if fixed and (is_its_place or fixed.fate is not Fate.PLANNED):
                return fixed
            if is_its_place:
                break
            standing = Standing(None)
        if self._order.is_dry:
            return replace(outcome, fate=Fate.PLANNED)
        landing = Landing.begin(session.path, self._beside(target))
        try:
            outcome = await self._write(landing, each, outcome)
            await self._claim(target)
        except BaseException:
            landing.discard()
            raise
        return Ready(outcome, session, landing, standing)

    async def _write(self, landing: Landing, each: WantedMirror, outcome: Outcome) -> Outcome:
        mapper, records = self._mapper(each), 0
        span = Span(each.key, generation=outcome.generation)
        async with open_stream(self._store, self._prefix, span) as stream:
            async for piece in pieces(stream.chunks, mapper):
                await asyncio.to_thread(landing.write, piece)
                records += piece.count(b"\n")
        found = judged(replace(outcome, size=landing.size), stream.faults)
        await asyncio.to_thread(landing.settle)
        unmapped = mapper.left if mapper else 0
        return replace(found, generation=stream.generation, records=records, unmapped=unmapped)

    async def _claim(self, target: Target) -> None:
        """Claim the stream that this machine's daemon goes on with, if that is the file's own."""
        if self._names is None or target.tree is None:
            return
        if target.tree.key(self._names, target.session) == target.wanted.key:
            await self._claims.put(target.wanted.key)

    def _mapper(self, each: WantedMirror) -> Mapper | None:
        remap = self._order.remap
        return remap.mapper(each.agent, each.path) if remap else None

    def _open(self, tree: Tree | None, session: Session) -> tuple[Content, Stat]:
        if tree is not None:
            return tree.content(session, 0)
        file = open_content(session)
        return file, file.stat

    def _standing_at(self, target: Target) -> Iterator[tuple[Session, Stat]]:
        """Yield the files that may hold the session: the one in its place, else under other names.

        An agent may have compressed it, or have it under a name that it had before.
        """
        session, tree = target.session, target.tree
        if stat := stands(session.path):
            yield session, stat
            return
        for root, name in self._other_names(target):
            other = tree.session(root, name) if tree else None
            if tree and other and (stat := tree.stat(other)):
                yield other, stat

    def _other_names(self, target: Target) -> Iterator[tuple[Path, str]]:
        if target.tree is None or target.path != target.wanted.path:
            return
        root, name = Path(target.session.root), target.session.name
        yield root, name + _COMPRESSED
        for key in target.wanted.former:
            file = mirrored(self._prefix, key)
            place = target.tree.destination(file.path) if file else None
            if place:
                yield place
                yield place[0], place[1] + _COMPRESSED

    def _beside(self, target: Target) -> Path:
        """Return by which name, with something added, nobody takes anything for a session.

        Beside the file, or in the nearest directory above it where the agent has none.
        """
        place, tree, root = target.session.path, target.tree, Path(target.session.root)
        name = place.name
        if len(os.fsencode(name)) > _LONGEST_NAME:
            name = f".{sha256(os.fsencode(name)).hexdigest()[:32]}"
        for directory in place.parents:
            if tree is None or directory == root:
                break
            inner = os.path.relpath(directory, root)
            if not tree.mirrors(f"{tree.label(root)}{inner}/{name}.new"):
                return directory / name
        return (place.parent if tree is None else root) / name
