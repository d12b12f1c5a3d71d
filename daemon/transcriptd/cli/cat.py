"""`transcriptd cat`: the bytes of an archived session, as they are."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from transcriptd import logs
from transcriptd.archive import Span, open_stream, span_of
from transcriptd.cli.config import archive_line, archive_place
from transcriptd.cli.ending import told
from transcriptd.cli.options import config_option
from transcriptd.errors import AccessDenied, NotFound, RangeInvalid, StoreError
from transcriptd.journal import Journal
from transcriptd.layout import Meta, closed_generation, generations_prefix
from transcriptd.lines import between
from transcriptd.mirrors import find_mirrors, named
from transcriptd.pointer import PointerHandle
from transcriptd.report import printable
from transcriptd.stores import open_store
from transcriptd.stores.keys import check_key
from transcriptd.wanted import asked

if TYPE_CHECKING:
    from transcriptd.archive import Stray
    from transcriptd.config import Config
    from transcriptd.stores import Store

_RANGE = re.compile(r"(\d+)-(\d*)")
_STRAYS = {
    "overlaps": "begins before what precedes it ends; it was left out",
    "other_bytes_before_it": "does not continue what is before it; nothing was read from there on",
    "other_bytes_than_it_says": "is not what its metadata describe; it was printed all the same",
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
  transcriptd cat 0f0e7a52                          Claude Code's session whose id begins so
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
    "transcriptd ls"), a key of the archive, or the JSON of a pointer. Of a session that is not
    CodeTether's, the first 8 characters of its id or more are enough, if no other begins so, or
    the path of its file below the agent's directory; what this machine has goes before what others
    have. Read straight from the archive, its tail included; no daemon is needed. Exit status 1
    where there is no such thing, where several are meant, or where something in the archive is not
    as it should be: then standard error says what.
    """
    logs.configure("warning")
    if byte_range and line_range:
        raise click.UsageError("--bytes and --lines exclude each other")
    try:
        handle = PointerHandle.from_json(what) if what.startswith("{") else None
        span = _span(config.prefix, what, handle)
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
            strays = asyncio.run(_print(config, what, span, handle, line_range))
        except NotFound:
            raise click.ClickException(_missing(config, what, span)) from None
    for stray in strays:
        click.echo(f"transcriptd: {stray.key} {_STRAYS[stray.reason]}", err=True)
    if strays:
        sys.exit(1)


def _span(prefix: str, what: str, handle: PointerHandle | None) -> Span:
    """Say what is meant if it is CodeTether's, or a key. Raises `ValueError` for what is nothing.

    The ids of other agents may be anything, so what is nothing of these is a key that is not there.
    """
    with suppress(ValueError):
        return span_of(prefix, handle or what)
    check_key(what)
    return Span(what)


async def _print(
    config: Config,
    what: str,
    span: Span,
    handle: PointerHandle | None,
    line_range: tuple[int, int | None] | None,
) -> list[Stray]:
    store = open_store(config)
    if handle and handle.bucket != store.bucket:
        raise ValueError(f"the pointer is into bucket {handle.bucket}; {archive_line(config)}")
    try:
        try:
            return await _print_stream(store, config, span, line_range)
        except (NotFound, AccessDenied):
            key = None if handle else await _mirror(store, config, what)
            if key is None:
                raise
        return await _print_stream(store, config, replace(span, key=key), line_range)
    finally:
        await store.close()


async def _print_stream(
    store: Store, config: Config, span: Span, line_range: tuple[int, int | None] | None
) -> list[Stray]:
    out, printed = sys.stdout.buffer, 0
    try:
        async with open_stream(store, config.prefix, span) as stream:
            chunks = between(stream.chunks, *line_range) if line_range else stream.chunks
            async for chunk in chunks:
                printed += out.write(chunk)
            out.flush()
    except RangeInvalid:
        raise ValueError(f"{span.key} ends before byte {span.start}") from None
    except NotFound:
        if not (there := await _generations(store, config, span)):
            raise
        several = ", ".join(map(str, there))
        message = f"There is no generation {span.generation} of {span.key}."
        raise ValueError(f"{message} Those there are: {several}.") from None
    if line_range and line_range[0] and not printed:
        raise ValueError(f"{span.key} ends before line {line_range[0]}")
    return stream.faults


async def _mirror(store: Store, config: Config, what: str) -> str | None:
    """Return the key of the one mirrored session that is called so; `None` where none is.

    This machine's goes before those of others, as in `restore`. Raises `ValueError` where several
    are called so.
    """
    try:
        sessions = await asked(partial(find_mirrors, store, config.prefix))
    except AccessDenied:
        return None  # without permission to list, a key is all that can be asked for
    everywhere = named(sessions, what)
    found = [each for each in everywhere if each.machine == config.machine] or everywhere
    if len(found) > 1:
        keys = "".join(f"\n  {session.key}" for session in found)
        raise ValueError(f"{what} may be any of these; say which by its key:{keys}")
    return found[0].key if found else None


async def _generations(store: Store, config: Config, span: Span) -> list[int]:
    """Return the generations there are if one was asked for; none where that is not known."""
    found, key = set[int](), span.key
    if span.generation is None:
        return []
    with suppress(StoreError):
        async for entry in store.list(generations_prefix(config.prefix, key)):
            if (closed := closed_generation(entry.key)) is not None:
                found.add(closed)
        head = await store.head(key)
        if head and (meta := Meta.decode(head.metadata)):
            found.add(meta.generation)
    return sorted(found)


def _missing(config: Config, what: str, span: Span) -> str:
    name = span.key if "/" in what else f"session {what}"
    which = "" if span.generation is None else f"generation {span.generation} of "
    return f"There is no {which}{name} in {archive_place(config)}.{_known(config, what)}"


def _known(config: Config, session_id: str) -> str:
    """Say how a session stands by the journal, if it is one that the journal knows."""
    records = Journal(config.state_dir / "journal.db").everything()
    found = (record for record in records if record.session.id == session_id)
    return "".join(
        f"\nSession {session_id} ({printable(record.session.path)}) is "
        + ": ".join(filter(None, (record.state.value, record.reason, record.message)))
        for record in found
    )
