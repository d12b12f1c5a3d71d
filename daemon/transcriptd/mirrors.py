"""Which mirrored sessions there are in the archive, and which of them somebody means.

A session is a file of an agent. Some agents rename theirs: Codex moves a rollout to another
directory and keeps its name, ZeroClaw appends `.importing` and `.migrated` to it. Streams that
differ in nothing else are one session, on one machine: what changed last is its stream, the others
are former ones. Everywhere else another path is another session, such as one file of Claude Code in
two projects. Reads no content.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from transcriptd.layout import mirrored
from transcriptd.listing import streams_in
from transcriptd.sources import session_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from transcriptd.listing import Archived
    from transcriptd.stores import Entry, Store

SHORTEST_PREFIX = 8
"""How much of an id has to be said: as much as a UUID has before its first dash."""

_RENAMED = {"codex": re.compile(r".*/"), "zeroclaw": re.compile(r"\.(importing|migrated)$")}
"""What an agent changes of a file's path when it renames it, by agent."""

_COMPANION = {"claude": re.compile(r"(.+?)(?:/(?:subagents|tool-results)/.+|\.meta\.json)")}
"""Which files belong to a session, by agent; the group is its path without its suffix."""

_BEFORE_BASES = (".conflicts/", ".generations/", ".tail/", "")
"""Where objects of streams lie, in the order of a listing of everything."""


@dataclass(frozen=True, slots=True)
class MirroredSession:
    """One session, by the stream that changed last.

    `session_id` is what a person asks by; several sessions may have the same. `path` is where the
    file stands in the agent's mirror; `is_shortened` says that a segment of it was too long for a
    key, so that the file's own name is not known. `former` are the keys of the session's streams
    under other names, what changed last first.
    """

    session_id: str
    machine: str
    agent: str
    path: str
    key: str
    archived: Archived
    former: tuple[str, ...] = ()
    is_shortened: bool = False


async def find_mirrors(
    store: Store, prefix: str, *, machine: str | None = None, agent: str | None = None
) -> list[MirroredSession]:
    """Find mirrored sessions, of all machines and agents or of one, in the order of their keys.

    Asks once; streams that have lost their base are left out. Raises `StoreError`.
    """
    sessions = [
        session
        async for archived in streams_in(_entries(store, prefix, machine, agent), prefix)
        if archived.size is not None and (session := session_of(prefix, archived))
    ]
    return joined(s for s in sessions if agent in {None, s.agent} and machine in {None, s.machine})


def session_of(prefix: str, archived: Archived) -> MirroredSession | None:
    """Return the session that a stream is; `None` where it is no mirror."""
    file = mirrored(prefix, archived.key)
    if file is None:
        return None
    name = session_id(file.agent, file.path)
    return MirroredSession(
        name, file.machine, file.agent, file.path, archived.key, archived,
        is_shortened=file.is_shortened,
    )  # fmt: skip


def joined(sessions: Iterable[MirroredSession]) -> list[MirroredSession]:
    """Make one of what is one session under several names; the order is that of the first names."""
    same: dict[object, list[MirroredSession]] = defaultdict(list)
    for session in sessions:
        same[identity(session)].append(session)
    return [_last(names) for names in same.values()]


def identity(session: MirroredSession) -> object:
    """Return what all names of one session have in common."""
    renamed = _RENAMED.get(session.agent)
    stays = renamed.sub("", session.path) if renamed else session.path
    return session.machine, session.agent, session.session_id, stays


def owner(session: MirroredSession) -> str | None:
    """Return the path of the session that a file belongs to; `None` for what is a session itself.

    Whether that one is archived is another question.
    """
    pattern = _COMPANION.get(session.agent)
    match = pattern.fullmatch(session.path) if pattern else None
    return f"{match[1]}.jsonl" if match else None


def named(sessions: Iterable[MirroredSession], what: str) -> list[MirroredSession]:
    """Return the sessions that somebody means: none, one, or several that are called so.

    By id, path or key, former keys included; where nothing is called just so, by the beginning of
    an id, of at least 8 characters. That of a session does not mean what belongs to it, such as its
    subagents (`<id>/…`).
    """
    sessions = list(sessions)
    exact = [s for s in sessions if what in {s.session_id, s.path, s.key, *s.former}]
    if exact or len(what) < SHORTEST_PREFIX:
        return exact
    return [
        s
        for s in sessions
        if s.session_id.startswith(what) and "/" not in s.session_id.removeprefix(what)
    ]


def machines(sessions: Iterable[MirroredSession]) -> list[str]:
    """Return the names of the machines that these are of, sorted."""
    return sorted({session.machine for session in sessions})


def _last(names: list[MirroredSession]) -> MirroredSession:
    if len(names) == 1:
        return names[0]
    latest, *former = sorted(
        names, key=lambda s: (s.archived.modified, s.archived.length), reverse=True
    )
    return replace(latest, former=tuple(session.key for session in former))


async def _entries(
    store: Store, prefix: str, machine: str | None, agent: str | None
) -> AsyncIterator[Entry]:
    """List as little as holds what is wanted, in the order of a listing of everything."""
    below = [prefix]
    if machine is not None:
        files = f"{machine}/raw/{agent}/" if agent else f"{machine}/raw/"
        below = [f"{prefix}{folder}{files}" for folder in _BEFORE_BASES]
    for each in below:
        async for entry in store.list(each):
            yield entry
