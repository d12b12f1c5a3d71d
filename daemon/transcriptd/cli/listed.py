"""The streams of an archive as `transcriptd ls` shows them: as JSON, and as a table of sessions."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from transcriptd.cli.units import duration, size
from transcriptd.doctor.finding import counted
from transcriptd.expiry import SOON_S
from transcriptd.mirrors import joined, owner
from transcriptd.model import State
from transcriptd.report import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transcriptd.listing import Archived
    from transcriptd.mirrors import MirroredSession
    from transcriptd.rows import Record

OTHER_AGENTS = (
    "Only CodeTether's sessions are looked at; for the other agents: "
    "`transcriptd restore --project DIR --dry-run`."
)
"""What is to be said where a directory was asked for."""

_ID_WIDTH = 36  # a UUID's; with it a row has 80 columns at most where nothing is mirrored
_WIDEST_ID = 64
_WELL = {State.CURRENT: "green", State.SOURCE_GONE: "bright_black"}


@dataclass(frozen=True, slots=True)
class Listed:
    """One stream: what the archive says, and what this machine's journal does, if it knows it.

    `mirror` is the session that it is if it is mirrored, `files` are the streams shown with it:
    the files that belong to the session, and its former names. `expires_at`, in Unix seconds, is
    when the agent deletes the file that is here.
    """

    archived: Archived
    record: Record | None
    conflicts: tuple[Listed, ...] = ()
    workspace: str | None = None
    mirror: MirroredSession | None = None
    expires_at: float | None = None
    files: tuple[Listed, ...] = ()

    @property
    def name(self) -> str:
        return self.mirror.session_id if self.mirror else self.archived.name

    @property
    def records(self) -> int | None:
        """How many lines the current generation has, where that is known."""
        cursor, archived = self.record and self.record.cursor, self.archived
        here = (archived.key, archived.generation, archived.length)
        if cursor and (cursor.key, cursor.generation, cursor.length) == here:
            return cursor.records
        return archived.meta.records if archived.meta and not archived.tail else None


def gathered(listed: list[Listed]) -> list[Listed]:
    """Put what belongs to a mirrored session to it; these come after CodeTether's."""
    by_key = {each.archived.key: each for each in listed}
    groups: dict[object, list[Listed]] = {}
    for session in joined(each.mirror for each in listed if each.mirror):
        former = tuple(by_key[key] for key in session.former)
        group = (session.machine, session.agent, owner(session) or session.path)
        groups.setdefault(group, []).append(replace(by_key[session.key], files=former))
    return [*(each for each in listed if not each.mirror), *map(_with_files, groups.values())]


def _with_files(group: list[Listed]) -> Listed:
    """Make one of a session and what belongs to it; of the first file where there is no session."""
    own = next((each for each in group if each.mirror and not owner(each.mirror)), group[0])
    return replace(own, files=(*own.files, *(each for each in group if each is not own)))


def show(listed: list[Listed], place: str) -> None:
    """Print a table, with columns for mirrors only where there are any."""
    table = _Table.of(listed)
    click.secho(table.header, bold=True)
    for each in listed:
        click.echo(table.rows(each))
    files = [file for each in listed for file in (each, *each.files)]
    total = size(sum(file.archived.length for file in files))
    many = counted(len(listed), "session")
    beside = f" ({len(files):,} files)" if len(files) > len(listed) else ""
    click.echo(f"{many}{beside}, {total}, in {place}")


def line(listed: Listed) -> str:
    """Return a stream as one line of JSON."""
    return json.dumps(_said(listed, listed.name, None))


def _said(listed: Listed, session: str, conflict: str | None) -> dict[str, Any]:
    archived, record, mirror = listed.archived, listed.record, listed.mirror
    return {
        "session": session,
        "conflict": conflict,
        "source": archived.source,
        "agent": archived.source,
        "machine": mirror.machine if mirror else None,
        "mirror_path": mirror.path if mirror else None,
        "belongs_to": owner(mirror) if mirror else None,
        "key": archived.key,
        "generation": archived.generation,
        "bytes": archived.length,
        "tail_bytes": archived.tail,
        "records": listed.records,
        "changed_at": archived.modified,
        "closed": archived.closed,
        "closed_bytes": archived.closed_bytes,
        "writer": archived.meta.writer if archived.meta else None,
        "workspace": listed.workspace,
        "path": printable(record.session.path) if record else None,
        "state": record.state if record else None,
        "reason": record.reason if record else None,
        "expires_at": listed.expires_at,
        "conflicts": [_said(each, session, each.archived.name) for each in listed.conflicts],
    }


@dataclass(frozen=True, slots=True)
class _Table:
    """How wide the columns are, 0 for one that is not shown."""

    name: int
    agent: int
    machine: int

    @staticmethod
    def of(listed: list[Listed]) -> _Table:
        mirrors = [each.mirror for each in listed if each.mirror]
        if not mirrors:
            return _Table(_ID_WIDTH, 0, 0)
        names = [len(shown(each.name)) for each in listed]
        return _Table(
            min(max(_ID_WIDTH, *names), _WIDEST_ID),
            max(len("AGENT"), *(len(each.archived.source) for each in listed)),
            max(len("MACHINE"), *(len(mirror.machine) for mirror in mirrors)),
        )

    @property
    def header(self) -> str:
        titles = self._mirrored("AGENT", "MACHINE", "FILES")
        return f"{'SESSION':<{self.name}}  {titles}{'SIZE':>10}  GENS  LAST CHANGE  STATE"

    def rows(self, listed: Listed) -> str:
        rows = [self._row(listed.name, listed)]
        rows += [self._row(f"  conflict {each.archived.name}", each) for each in listed.conflicts]
        if more := ", ".join(_more(listed)):
            rows.insert(1, f"    {more}")
        return "\n".join(rows)

    def _row(self, name: str, listed: Listed) -> str:
        archived, mirror, files = listed.archived, listed.mirror, (listed, *listed.files)
        machine, many = (mirror.machine, f"{len(files):,}") if mirror else ("", "")
        columns = self._mirrored(archived.source, machine, many)
        generations = len(archived.closed) + (archived.size is not None)
        modified = max(each.archived.modified for each in files)
        age = duration(time.time() - modified) if modified else ""
        length = size(sum(each.archived.length for each in files))
        row = f"{shown(name):<{self.name}}  {columns}{length:>10}  {generations:>4}  {age:>11}"
        return f"{row}  {_state(files)}".rstrip()

    def _mirrored(self, agent: str, machine: str, files: str) -> str:
        if not self.agent:
            return ""
        return f"{agent:<{self.agent}}  {machine:<{self.machine}}  {files:>5}  "


def _state(files: Sequence[Listed]) -> str:
    """Return the state of what is not as it should be, if anything is, else of the first.

    And when the agent deletes the first of the files, if that is soon.
    """
    states = [each.record.state for each in files if each.record]
    state = next((state for state in states if state not in _WELL), next(iter(states), None))
    told = click.style(state, fg=_WELL.get(state, "yellow")) if state else ""
    left = min((each.expires_at for each in files if each.expires_at), default=None)
    if left is None or left - time.time() > SOON_S:
        return told
    return f"{told}, deleted here in {duration(max(0.0, left - time.time()))}"


def _more(listed: Listed) -> Iterator[str]:
    """Yield what `--long` found out."""
    archived, meta = listed.archived, listed.archived.meta
    if meta:
        if listed.records is not None:
            yield counted(listed.records, "record")
        yield f"generation {meta.generation}"
        if archived.tail:
            yield f"{size(archived.tail)} of it in the tail"
        if archived.closed:
            yield f"finished ones {size(archived.closed_bytes)}"
        yield f"by {shown(meta.writer)}"
        if listed.workspace:
            yield shown(listed.workspace)
        if listed.mirror:
            yield shown(listed.mirror.path)


def shown(text: str) -> str:
    """Return text from elsewhere without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
