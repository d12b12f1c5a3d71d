"""`transcriptd cat`: the bytes of an archived session, as they are."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from transcriptd import logs
from transcriptd.archive import Span, open_stream, span_of
from transcriptd.cli.config import archive_line, archive_place
from transcriptd.cli.ending import told
from transcriptd.cli.options import config_option
from transcriptd.errors import NotFound, RangeInvalid, StoreError, TranscriptdError
from transcriptd.journal import Journal
from transcriptd.layout import Meta, closed_generation, generations_prefix
from transcriptd.lines import between
from transcriptd.pointer import PointerHandle
from transcriptd.report import printable
from transcriptd.stores import open_store

if TYPE_CHECKING:
    from transcriptd.archive import Stray
    from transcriptd.config import Config
    from transcriptd.stores import Store

_RANGE = re.compile(r"(\d+)-(\d*)")
_STRAYS = {
    "overlaps": "begins before what precedes it ends; it was left out",
    "other_bytes_before_it": "does not continue what is before it; nothing was read from there on",
    "unknown_format": "is of a format not known here; nothing was read from there on",
}


class _Range(click.ParamType[tuple[int, int | None]]):
    name = "A-B"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int | None]:
        match = _RANGE.fullmatch(str(value))
        if match is None:
            self.fail(f"expected A-B or A-, got {value!r}", param, ctx)
        start, end = int(match[1]), int(match[2]) if match[2] else None
        if end is not None and end <= start:
            self.fail(f"{value} holds nothing: B is the first one not wanted", param, ctx)
        return start, end


@click.command(
    "cat",
    epilog="""\b
Examples:
  transcriptd cat 5f1c0a7e-…                        the session's history, one message a line
  transcriptd cat 5f1c0a7e-… --lines 0-10           the first ten messages
  transcriptd cat 5f1c0a7e-… --bytes 4096-          everything behind the first 4096 bytes
  transcriptd cat 5f1c0a7e-… --generation 0         what it was before it was undone or compacted
  transcriptd cat history/.conflicts/…/….jsonl      any key of the archive
  transcriptd cat '{"bucket":"b","key":"history/x/history.jsonl","byte_range":[16,64]}'
""",
)
@click.argument("what", metavar="SESSION")
@click.option(
    "byte_range",
    "--bytes",
    type=_Range(),
    help="Only bytes A up to, not including, B, as in a pointer; A- is from A to the end.",
)
@click.option(
    "line_range",
    "--lines",
    type=_Range(),
    help="Only lines A up to, not including, B, the first one being 0; A- is from A to the end.",
)
@click.option(
    "--generation",
    type=click.IntRange(min=0),
    help="This generation, wherever it is.  [default: the current one]",
)
@config_option
def command(
    config: Config,
    what: str,
    byte_range: tuple[int, int | None] | None,
    line_range: tuple[int, int | None] | None,
    generation: int | None,
) -> None:
    """Print an archived session's bytes as they are.

    Nothing is added and nothing changed, also on a terminal. SESSION is a session's id (see
    "transcriptd ls"), a key of the archive, or the JSON of a pointer. Read straight from the
    archive, its tail included; no daemon is needed. Exit status 1 where there is no such thing, or
    where something in the archive is not as it should be: then standard error says what.
    """
    logs.configure("warning")
    if byte_range and line_range:
        raise click.UsageError("--bytes and --lines exclude each other")
    try:
        handle = PointerHandle.from_json(what) if what.startswith("{") else None
        span = span_of(config.prefix, handle or what)
    except ValueError:
        message = "expected a session id, a key or the JSON of a pointer"
        raise click.BadParameter(message, param_hint="SESSION") from None
    if byte_range or line_range:
        start, end = byte_range or (0, None)
        span = replace(span, start=start, end=end)
    if generation is not None:
        span = replace(span, generation=generation)
    if config.store == "disabled":
        raise click.ClickException(archive_line(config))
    with told():
        try:
            strays = asyncio.run(_print(config, span, handle, line_range))
        except (NotFound, RangeInvalid) as error:
            raise click.ClickException(_missing(config, what, span, error)) from None
    for stray in strays:
        click.echo(f"transcriptd: {stray.key} {_STRAYS[stray.reason]}", err=True)
    if strays:
        sys.exit(1)


async def _print(
    config: Config,
    span: Span,
    handle: PointerHandle | None,
    line_range: tuple[int, int | None] | None,
) -> list[Stray]:
    store = open_store(config)
    if handle and handle.bucket != store.bucket:
        raise ValueError(f"the pointer is into bucket {handle.bucket}; {archive_line(config)}")
    out, printed = sys.stdout.buffer, 0
    try:
        async with open_stream(store, config.prefix, span) as stream:
            chunks = between(stream.chunks, *line_range) if line_range else stream.chunks
            async for chunk in chunks:
                printed += out.write(chunk)
            out.flush()
    except NotFound as error:
        if span.generation is None or not (there := await _generations(store, config, span.key)):
            raise
        several = ", ".join(map(str, there))
        raise NotFound(str(error), hint=f" Those there are: {several}.") from error
    finally:
        await store.close()
    if line_range and line_range[0] and not printed:
        raise ValueError(f"{span.key} ends before line {line_range[0]}")
    return stream.faults


async def _generations(store: Store, config: Config, key: str) -> list[int]:
    """Return the generations there are of a stream; none where that cannot be found out."""
    found = set()
    with suppress(StoreError):
        async for entry in store.list(generations_prefix(config.prefix, key)):
            if (closed := closed_generation(entry.key)) is not None:
                found.add(closed)
        head = await store.head(key)
        if head and (meta := Meta.decode(head.metadata)):
            found.add(meta.generation)
    return sorted(found)


def _missing(config: Config, what: str, span: Span, error: TranscriptdError) -> str:
    if isinstance(error, RangeInvalid):
        return f"{span.key} ends before byte {span.start}"
    if span.generation is not None:
        return f"There is no generation {span.generation} of {span.key}.{error.hint}"
    return f"There is no {span.key} in {archive_place(config)}.{_known(config, what)}"


def _known(config: Config, session_id: str) -> str:
    """Say how a session stands by the journal, if it is one that the journal knows."""
    records = Journal(config.state_dir / "journal.db").everything()
    found = (record for record in records if record.session.id == session_id)
    return "".join(
        f"\nSession {session_id} ({printable(record.session.path)}) is "
        + ": ".join(filter(None, (record.state.value, record.reason, record.message)))
        for record in found
    )
