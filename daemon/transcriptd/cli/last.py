"""`transcriptd last`: the most recent session of a workspace."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from transcriptd import logs
from transcriptd.cli.config import archive_place
from transcriptd.cli.ending import told
from transcriptd.cli.listed import OTHER_AGENTS
from transcriptd.cli.options import config_option
from transcriptd.errors import NotFound, SourceError
from transcriptd.last import Found, last_archived, last_here, last_lines, newest_known
from transcriptd.layout import document_key, history_key
from transcriptd.report import printable
from transcriptd.snapshot import read
from transcriptd.sources.codetether import CodeTether
from transcriptd.stores import open_store

if TYPE_CHECKING:
    from transcriptd.config import Config


@click.command(
    "last",
    epilog="""\b
Examples:
  transcriptd last                                  the id of this directory's last session
  transcriptd last --workspace ~/src/app --json     and where its file is
  transcriptd last --tail 2 | jq -r '.content[].text // empty'
  codetether resume "$(transcriptd last)"
""",
)
@click.option("--workspace", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
              help="The workspace.  [default: the current directory]")  # fmt: skip
@click.option("count", "--tail", metavar="N", type=click.IntRange(min=1),
              help="Print its last N messages instead, one JSON object a line.")  # fmt: skip
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object.")
@config_option
def command(config: Config, workspace: Path | None, count: int | None, *, as_json: bool) -> None:
    """Print the id of CodeTether's most recent session of a workspace.

    By CodeTether's own index where that is right, else by what this machine's journal knows; as
    fast with many sessions as with few. Messages come from the session's file, or from the end of
    its archive where the file is gone. Of other agents it knows nothing: "transcriptd restore
    --project DIR --dry-run" names their sessions.

    Exit status 1 where there is no such session.
    """
    logs.configure("warning")
    directory = workspace or Path.cwd()
    source = CodeTether(config.sources.codetether.roots, os.environ)
    newest = newest_known(config.state_dir / "journal.db", source.name)
    with told():
        found = last_here(source, directory, newest, max_document=config.max_document)
        lines = _in_file(config, source, found, count) if found and count else None
        if found is None or (count and lines is None):
            found, lines = asyncio.run(_in_archive(config, source, directory, found, count))
        if found is None:
            raise click.ClickException(
                f"No session of CodeTether's of {printable(directory)} is known on this machine. "
                "`transcriptd ls --workspace DIR` looks through the archive.\n"
                f"{OTHER_AGENTS}"
            )
        if as_json:
            click.echo(msgspec.json.encode(_document(found, lines)))
        elif count:
            sys.stdout.buffer.write(b"".join(lines or []))
            sys.stdout.buffer.flush()
        else:
            click.echo(found.session_id)


def _in_file(config: Config, source: CodeTether, found: Found, count: int) -> list[bytes] | None:
    """Return the last messages in the session's file; `None` where it cannot be read now."""
    if found.session is None:
        return None
    with suppress(SourceError):
        data, _ = read(found.session, config.max_document)
        content = source.lines(found.session, data).content
        lines = content.read(0, content.size).removesuffix(b"\n")
        return [line + b"\n" for line in lines.split(b"\n")[-count:]] if lines else []
    return None


async def _in_archive(
    config: Config, source: CodeTether, directory: Path, found: Found | None, count: int | None
) -> tuple[Found | None, list[bytes] | None]:
    if config.store == "disabled":
        return found, None
    store = open_store(config)
    try:
        key_of = partial(document_key, config.prefix)
        found = found or await last_archived(source, directory, store, key_of)
        if found is None or count is None:
            return found, None
        key = history_key(config.prefix, found.session_id)
        return found, await last_lines(store, config.prefix, key, count)
    except NotFound:
        message = f"The session's file cannot be read, and {archive_place(config)} has none of it."
        raise click.ClickException(message) from None
    finally:
        await store.close()


def _document(found: Found, lines: list[bytes] | None) -> dict[str, object]:
    said: dict[str, object] = {
        "session": found.session_id,
        "workspace": printable(found.workspace),
        "path": printable(found.path) if found.path else None,
        "changed_at": found.changed_at,
    }
    if lines is not None:
        said["messages"] = [msgspec.Raw(line.strip()) for line in lines]
    return said
