"""Which workspace a session belongs to: the directory that its agent worked in.

A CodeTether document names it (`metadata.directory`). Where none does, a session that lies in a
workspace's own `.codetether-agent/sessions` belongs to that workspace.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath

import msgspec

_OWN = (".codetether-agent", "sessions")


class _Metadata(msgspec.Struct):
    directory: str | None = None


class _Document(msgspec.Struct):
    metadata: _Metadata | None = None


_decoder = msgspec.json.Decoder(_Document)


def named_in(document: bytes) -> str | None:
    """Return the absolute path that a document, or its `session.json`, names; `None` for none."""
    try:
        metadata = _decoder.decode(document).metadata
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    named = metadata.directory if metadata else None
    return named if named and PurePath(named).is_absolute() else None


def owner_of(root: str) -> str | None:
    """Return the workspace that a sessions directory lies in; `None` for one of all workspaces."""
    path = PurePath(root)
    return str(path.parent.parent) if path.parts[-2:] == _OWN else None


def named_in_file(path: Path, largest: int) -> str | None:
    """Return the directory that a session's file names. Blocks; a larger file is not read."""
    try:
        if path.is_file() and path.stat().st_size <= largest:
            return named_in(path.read_bytes())
    except OSError:
        pass
    return None


def is_within(directory: str, workspace: Path) -> bool:
    """Say whether a directory is a workspace or lies below it, by its name or where links lead."""
    wanted = {os.path.abspath(workspace), os.path.realpath(workspace)}  # noqa: PTH100 - links stay as they are named
    named = {os.path.normpath(directory), os.path.realpath(directory)}
    return any(PurePath(each).is_relative_to(one) for each in named for one in wanted)
