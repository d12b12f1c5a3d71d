"""`transcriptd ls`: what is archived, by anyone, and how it stands on this machine."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transcriptd import logs, workspace
from transcriptd.cli.config import archive_line, archive_place
from transcriptd.cli.ending import told
from transcriptd.cli.listed import OTHER_AGENTS, Listed, gathered, line, show
from transcriptd.cli.options import config_option
from transcriptd.errors import NotFound
from transcriptd.expiry import Expiry
from transcriptd.files import stat_at
from transcriptd.journal import Journal
from transcriptd.layout import Meta, Names, document_key
from transcriptd.listing import streams_in
from transcriptd.mirrors import session_of
from transcriptd.model import State
from transcriptd.sources import open_sources
from transcriptd.stores import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transcriptd.config import Config
    from transcriptd.listing import Archived
    from transcriptd.rows import Record
    from transcriptd.stores import Store

_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be listed, of everything."""

    within: Path | None = None
    agent: str | None = None
    machine: str | None = None

    def __str__(self) -> str:
        of = {"agent": self.agent, "machine": self.machine, "workspace": self.within}
        said = "".join(f" of {name} {value}" for name, value in of.items() if value is not None)
        return f" of CodeTether's{said}" if self.within else said


@click.command(
    "ls",
    epilog="""\b
Examples:
  transcriptd ls
  transcriptd ls --workspace . --long
  transcriptd ls --agent claude --machine laptop
  transcriptd ls --json | jq -r 'select(.closed != []) | .session'
  transcriptd ls --json | jq -s 'sort_by(.changed_at) | last'
""",
)
@click.option(
    "as_json",
    "--json",
    is_flag=True,
    help="Print one JSON object a line: each session, and each file that is mirrored.",
)
@click.option(
    "long",
    "--long",
    "-l",
    is_flag=True,
    help="Ask the archive about each session: records, writer, workspace. Two requests a session.",
)
@click.option(
    "each_file",
    "--all",
    "-a",
    is_flag=True,
    help="Show each mirrored file: subagents, tool output and former names, too.",
)
@click.option("--agent", metavar="NAME", help="Only sessions of this agent.")
@click.option(
    "--machine",
    metavar="NAME",
    help="Only what is mirrored of this machine; CodeTether's sessions are of none.",
)
@click.option("within", "--workspace", metavar="DIR", type=click.Path(path_type=Path),
              help="Only CodeTether's sessions of this directory and those below it, by what its "
              "document says (metadata.directory, archived as session.json; else the file on this "
              "machine), or else by the workspace whose .codetether-agent/sessions holds the file. "
              "One request a session. For others: restore --project DIR --dry-run.")  # fmt: skip
@config_option
def command(
    config: Config,
    within: Path | None,
    agent: str | None,
    machine: str | None,
    *,
    as_json: bool,
    long: bool,
    each_file: bool,
) -> None:
    """List what is archived: every session, from whichever machine.

    SIZE is that of the current generation, its tail included; GENS counts the finished ones, too;
    LAST CHANGE is how long ago it was. STATE is known where this machine's journal knows the
    session. A conflict, a second history of one session, stands below it. FILES are those of a
    mirrored session: its subagents and large tool output are shown with it, as is what it was
    under former names. SIZE and LAST CHANGE are then those of all, and STATE is that of one that
    is not current, if there is any. What its agent is going to delete here within a week is said
    beside the state; it stays archived.

    Read from one listing of the archive; no daemon is needed.

    Exit status 1 where nothing is archived, or the archive cannot be read.
    """
    logs.configure("warning")
    if config.store == "disabled":
        raise click.ClickException(archive_line(config))
    wanted = _Wanted(within, agent, machine)
    with told():
        asyncio.run(_list(config, wanted, as_json=as_json, long=long, each_file=each_file))


async def _list(
    config: Config, wanted: _Wanted, *, as_json: bool, long: bool, each_file: bool
) -> None:
    store = open_store(config)
    looker = _Looker(config, store, wanted, long=long)
    listed: list[Listed] = []
    is_nothing = True
    try:
        async for each in looker.listed(streams_in(store.list(config.prefix), config.prefix)):
            is_nothing = False
            if as_json:
                click.echo(line(each))
            else:
                listed.append(each)
    finally:
        await store.close()
    if is_nothing:
        where = f"under {config.prefix} in {archive_place(config)}"
        several = ", ".join(sorted(looker.machines)) or "none"
        known = f" Machines of which something is: {several}." if wanted.machine else ""
        others = f"\n{OTHER_AGENTS}" if wanted.within else ""
        raise click.ClickException(f"Nothing{wanted} is archived {where}.{known}{others}")
    if not as_json:
        show(listed if each_file else gathered(listed), archive_place(config))


class _Looker:
    """Adds to what a listing shows what is known here, and what the archive says when asked.

    `machines` are those of which something mirrored has come by.
    """

    def __init__(self, config: Config, store: Store, wanted: _Wanted, *, long: bool) -> None:
        self.machines: set[str] = set()
        self._config = config
        self._store = store
        self._wanted = wanted
        self._long = long
        self._sources = open_sources(config, os.environ)
        self._expiry = Expiry(self._sources)
        self._by_key = self._known_here()

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
        mirror = session_of(self._config.prefix, archived)
        if mirror:
            self.machines.add(mirror.machine)
        wanted, machine = self._wanted, mirror.machine if mirror else None
        if wanted.agent not in {None, archived.source} or wanted.machine not in {None, machine}:
            return None
        record = self._by_key.get(archived.key)
        directory = None
        if self._long or wanted.within:
            directory = await self._directory(archived, record)
        if directory is None and record:
            directory = workspace.owner_of(record.session.root)
        if wanted.within and not (directory and workspace.is_within(directory, wanted.within)):
            return None
        if self._long and (head := await self._store.head(archived.key)):
            archived = replace(archived, meta=Meta.decode(head.metadata))
        conflicts = tuple(Listed(c, self._by_key.get(c.key)) for c in archived.conflicts)
        return Listed(archived, record, conflicts, directory, mirror, self._expires_at(record))

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

    def _expires_at(self, record: Record | None) -> float | None:
        """Return when its agent deletes a session's file here, in Unix seconds."""
        if record is None or record.state is State.SOURCE_GONE:
            return None
        if self._expiry.after(record.session.source) is None:
            return None
        stat = stat_at(record.session.path)
        return self._expiry.at(record.session.source, stat.mtime_ns / 1e9) if stat else None

    def _known_here(self) -> dict[str, Record]:
        """Return what the journal knows, by base key, if it is about this archive."""
        config = self._config
        journal = Journal(config.state_dir / "journal.db")
        if journal.fact("archive") != f"{config.prefix} in {self._store.place}":
            return {}
        names = Names(config.prefix, f"{config.machine}.")
        known: dict[str, Record] = {}
        # A file that has another name by now may have the same stream: what stands there counts.
        for record in sorted(
            journal.everything(), key=lambda each: each.state != State.SOURCE_GONE
        ):
            source = self._sources.get(record.session.source)
            if record.cursor:
                known[record.cursor.key] = record
            elif source:
                known.setdefault(source.key(names, record.session), record)
        return known
