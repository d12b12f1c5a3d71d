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
        return named_in_whole(document)
    except ValueError:
        return None


def named_in_whole(document: bytes) -> str | None:
    """Return the absolute path that a document names. Raises `ValueError` for what is none."""
    try:
        metadata = _decoder.decode(document).metadata
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise ValueError("no document") from None
    named = metadata.directory if metadata else None
    return named if named and is_directory(named) else None


def is_directory(text: str) -> bool:
    """Say whether a text can be the absolute path of a directory, in any file system."""
    try:
        return b"\0" not in os.fsencode(text) and PurePath(text).is_absolute()
    except UnicodeEncodeError:
        return False


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
    named = {os.path.normpath(directory), os.path.realpath(directory)}
    return any(PurePath(each).is_relative_to(one) for each in named for one in spelt(workspace))


def spelt(directory: Path) -> set[str]:
    """Return a directory as it is named, and where links lead."""
    return {os.path.abspath(directory), os.path.realpath(directory)}  # noqa: PTH100 - links stay as they are named
