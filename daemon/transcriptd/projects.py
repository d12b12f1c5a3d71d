"""Which directory an archived session is about, by what it says itself.

CodeTether's document names it, Claude Code's and Codex's records do. Reads no more of a stream than
its beginning. Other agents say nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transcriptd.archive import Span, open_stream
from transcriptd.errors import NotFound, RangeInvalid
from transcriptd.layout import mirror_key
from transcriptd.remap import directory_in, main_path, may_be_below, project_name
from transcriptd.wanted import Wanted, read_small
from transcriptd.workspace import is_within, named_in, spelt

if TYPE_CHECKING:
    from transcriptd.stores import Store
    from transcriptd.wanted import WantedMirror

KNOWN = ("codetether", "claude", "codex")
"""The agents whose sessions say a directory."""

_HEAD = 1 << 20


async def directory_of(store: Store, prefix: str, each: Wanted | WantedMirror) -> str | None:
    """Return the directory that a session says; `None` for none. Raises `StoreError`."""
    if isinstance(each, Wanted):
        document = await read_small(store, each.document_key)
        return named_in(document) if document else None
    if each.agent == "codex":
        key = each.key
    elif each.agent == "claude":
        path = main_path(each.path).encode("utf-8", "surrogateescape")
        key = mirror_key(prefix, each.machine, each.agent, path)
    else:
        return None
    return await _said_in(store, prefix, key, each.agent)


async def is_about(store: Store, prefix: str, each: Wanted | WantedMirror, project: str) -> bool:
    """Say whether a session is about a directory, or one below; for Claude Code also by its name.

    Raises `StoreError`.
    """
    at = Path(project)
    if at == Path("/"):
        return True
    if not isinstance(each, Wanted) and each.agent == "claude":
        name = each.path.partition("/")[0]
        names = {project, *(project_name(directory) for directory in spelt(at))}
        if name in names:
            return True
        if not any(may_be_below(name, of) for of in names):
            return False
    directory = await directory_of(store, prefix, each)
    return directory is not None and is_within(directory, at)


async def _said_in(store: Store, prefix: str, key: str, agent: str) -> str | None:
    held = b""
    try:
        async with open_stream(store, prefix, Span(key, 0, _HEAD)) as stream:
            async for chunk in stream.chunks:
                *lines, held = (held + chunk).split(b"\n")
                for line in lines:
                    if directory := directory_in(agent, line):
                        return directory
    except (NotFound, RangeInvalid):
        return None
    return directory_in(agent, held)
