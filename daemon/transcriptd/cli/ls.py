"""`transcriptd ls`: what is archived, by anyone, and how it stands on this machine."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from transcriptd import logs, workspace
from transcriptd.cli.config import archive_line, archive_place
from transcriptd.cli.ending import told
from transcriptd.cli.options import config_option
from transcriptd.cli.status import duration, size
from transcriptd.errors import NotFound
from transcriptd.journal import Journal
from transcriptd.layout import Meta, document_key
from transcriptd.listing import Archived, streams_in
from transcriptd.model import State
from transcriptd.report import printable
from transcriptd.stores import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from transcriptd.config import Config
    from transcriptd.rows import Record
    from transcriptd.stores import Store

_AT_ONCE = 16
_ID_WIDTH = 36  # a UUID's; with it a row has 80 columns at most
_HEADER = f"{'SESSION':<{_ID_WIDTH}}  {'SIZE':>10}  {'GENS':>4}  {'LAST CHANGE':>11}  STATE"
_WELL = {State.CURRENT: "green", State.SOURCE_GONE: "bright_black"}


@dataclass(frozen=True, slots=True)
class Listed:
    """One session: what the archive says, and what this machine's journal does, if it knows it."""

    archived: Archived
    record: Record | None
    conflicts: tuple[Listed, ...] = ()
    workspace: str | None = None

    @property
    def records(self) -> int | None:
        """How many lines the current generation has, where that is known."""
        cursor, archived = self.record and self.record.cursor, self.archived
        here = (archived.key, archived.generation, archived.length)
        if cursor and (cursor.key, cursor.generation, cursor.length) == here:
            return cursor.records
        return archived.meta.records if archived.meta and not archived.tail else None


@click.command(
    "ls",
    epilog="""\b
Examples:
  transcriptd ls
  transcriptd ls --workspace . --long
  transcriptd ls --json | jq -r 'select(.closed != []) | .session'
  transcriptd ls --json | jq -s 'sort_by(.changed_at) | last'
""",
)
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object a line.")
@click.option("long", "--long", "-l", is_flag=True,
              help="Ask the archive about each session: records, writer, workspace. "
              "Two requests a session.")  # fmt: skip
@click.option("within", "--workspace", metavar="DIR", type=click.Path(path_type=Path),
              help="Only sessions of this directory and those below it, by what CodeTether's "
              "document says (metadata.directory, archived as session.json; else the file on this "
              "machine), or else by the workspace whose .codetether-agent/sessions holds the file. "
              "One request a session.")  # fmt: skip
@config_option
def command(config: Config, within: Path | None, *, as_json: bool, long: bool) -> None:
    """List what is archived: every session, from whichever machine.

    SIZE is that of the current generation, its tail included; GENS counts the finished ones, too;
    LAST CHANGE is how long ago it was. STATE is known where this machine's journal knows the
    session. A conflict, a second history of one session, stands below it.

    Read from one listing of the archive; no daemon is needed.

    Exit status 1 where nothing is archived, or the archive cannot be read.
    """
    logs.configure("warning")
    if config.store == "disabled":
        raise click.ClickException(archive_line(config))
    with told():
        asyncio.run(_list(config, within, _line if as_json else _rows, long=long))


async def _list(
    config: Config, within: Path | None, show: Callable[[Listed], str], *, long: bool
) -> None:
    store = open_store(config)
    looker = _Looker(config, store, within, long=long)
    sessions = total = 0
    try:
        async for listed in looker.listed(streams_in(store.list(config.prefix), config.prefix)):
            if show is _rows and not sessions:
                click.secho(_HEADER, bold=True)
            click.echo(show(listed))
            sessions += 1
            total += listed.archived.length
    finally:
        await store.close()
    if not sessions:
        of = f" of workspace {within}" if within else ""
        where = f"under {config.prefix} in {archive_place(config)}"
        raise click.ClickException(f"Nothing{of} is archived {where}.")
    if show is _rows:
        many = "session" if sessions == 1 else "sessions"
        click.echo(f"{sessions:,} {many}, {size(total)}, in {archive_place(config)}")


class _Looker:
    """Adds to what a listing shows what is known here, and what the archive says when asked."""

    def __init__(self, config: Config, store: Store, within: Path | None, *, long: bool) -> None:
        self._config = config
        self._store = store
        self._within = within
        self._long = long
        journal = Journal(config.state_dir / "journal.db")
        is_of_this = journal.fact("archive") == f"{config.prefix} in {store.place}"
        records = journal.everything() if is_of_this else []
        self._by_key = {record.cursor.key: record for record in records if record.cursor}
        self._by_id = {record.session.id: record for record in records if not record.cursor}

    async def listed(self, archived: AsyncIterator[Archived]) -> AsyncIterator[Listed]:
        """Give what is wanted, in order, some asked about at once."""
        batch: list[Archived] = []
        async for each in archived:
            batch.append(each)
            if len(batch) == _AT_ONCE:
                for listed in await self._looked_at(batch):
                    yield listed
                batch = []
        for listed in await self._looked_at(batch):
            yield listed

    async def _looked_at(self, batch: list[Archived]) -> list[Listed]:
        try:
            async with asyncio.TaskGroup() as asking:
                tasks = [asking.create_task(self._look(archived)) for archived in batch]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [listed for task in tasks if (listed := task.result())]

    async def _look(self, archived: Archived) -> Listed | None:
        record = self._by_key.get(archived.key) or self._by_id.get(archived.name)
        directory = None
        if self._long or self._within:
            directory = await self._directory(archived, record)
        if directory is None and record:
            directory = workspace.owner_of(record.session.root)
        if self._within and not (directory and workspace.is_within(directory, self._within)):
            return None
        if self._long and (head := await self._store.head(archived.key)):
            archived = replace(archived, meta=Meta.decode(head.metadata))
        conflicts = tuple(Listed(c, self._by_key.get(c.key)) for c in archived.conflicts)
        return Listed(archived, record, conflicts, directory)

    async def _directory(self, archived: Archived, record: Record | None) -> str | None:
        """Return the directory that a session's document names."""
        if archived.source != "codetether":
            return None
        try:
            async with self._store.read(document_key(self._config.prefix, archived.name)) as found:
                document = b"".join([chunk async for chunk in found.chunks])
        except NotFound:
            document = b""
        if named := workspace.named_in(document):
            return named
        if record is None:
            return None
        largest = self._config.max_document
        return await asyncio.to_thread(workspace.named_in_file, record.session.path, largest)


def _line(listed: Listed) -> str:
    return json.dumps(_said(listed, listed.archived.name, None))


def _said(listed: Listed, session: str, conflict: str | None) -> dict[str, Any]:
    archived, record = listed.archived, listed.record
    return {
        "session": session,
        "conflict": conflict,
        "source": archived.source,
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
        "conflicts": [_said(each, session, each.archived.name) for each in listed.conflicts],
    }


def _rows(listed: Listed) -> str:
    rows = [_row(listed.archived.name, listed)]
    rows += [_row(f"  conflict {each.archived.name}", each) for each in listed.conflicts]
    if more := ", ".join(_more(listed)):
        rows.insert(1, f"    {more}")
    return "\n".join(rows)


def _row(name: str, listed: Listed) -> str:
    archived, record = listed.archived, listed.record
    generations = len(archived.closed) + (archived.size is not None)
    age = duration(time.time() - archived.modified) if archived.modified else ""
    state = click.style(record.state, fg=_WELL.get(record.state, "yellow")) if record else ""
    length = size(archived.length)
    return f"{name:<{_ID_WIDTH}}  {length:>10}  {generations:>4}  {age:>11}  {state}".rstrip()


def _more(listed: Listed) -> Iterator[str]:
    """Yield what `--long` found out."""
    archived, meta = listed.archived, listed.archived.meta
    if meta:
        if listed.records is not None:
            yield f"{listed.records:,} {'record' if listed.records == 1 else 'records'}"
        yield f"generation {meta.generation}"
        if archived.tail:
            yield f"{size(archived.tail)} of it in the tail"
        if archived.closed:
            yield f"finished ones {size(archived.closed_bytes)}"
        yield f"by {_shown(meta.writer)}"
        if listed.workspace:
            yield _shown(listed.workspace)


def _shown(text: str) -> str:
    """Return text from elsewhere without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
