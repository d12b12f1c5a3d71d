"""Which files there are below a root. Follows no link, and opens no file but those it is told to.

One directory's trouble is not another's: what cannot be read, or has a name that cannot be told, is
said and left out.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transcriptd.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from transcriptd.sources import Source


@dataclass(slots=True)
class Walked:
    """What was found below one root, by path below it; `directories` has the root itself as "".

    `unreadable` are directories and why, `skipped` says how many names were left out, by reason.
    """

    names: list[str] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    unreadable: dict[Path, str] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


def walk(root: Path, enters: Callable[[str], bool]) -> Walked:
    """Find all files below a root, in the order of their names. Blocks.

    Goes into the directories that `enters` allows. Raises `OSError` where the root itself cannot be
    read.
    """
    found = Walked()
    todo = [""]
    while todo:
        directory = todo.pop()
        try:
            with os.scandir(root / directory) as entries:
                found.directories.append(directory)
                todo += _sort_out(entries, directory, enters, found)
        except (FileNotFoundError, NotADirectoryError):
            if not directory:
                raise  # below, it went while we looked
        except OSError as error:
            if not directory:
                raise
            found.unreadable[root / directory] = error.strerror or "cannot be read"
    found.names.sort()
    return found


def inner_names(source: Source, root: Path, name: str) -> list[str]:
    """Return the sessions that a file stands for: those inside it, else itself. Blocks."""
    if not source.is_store(name):
        return [name]
    try:
        inside = source.inner(root, name)
    except SourceError:
        return [name]
    return [name] if inside is None else [each for each, _ in inside]


def _sort_out(
    entries: Iterable[os.DirEntry[str]],
    directory: str,
    enters: Callable[[str], bool],
    found: Walked,
) -> list[str]:
    """Note the files, return the directories to go into."""
    deeper: list[str] = []
    before = f"{directory}/" if directory else ""
    for entry in entries:
        if not entry.name.isascii() and not _is_text(entry.name):
            found.skipped["name_not_utf8"] += 1
            continue
        path = before + entry.name
        if not entry.is_dir(follow_symlinks=False):
            found.names.append(path)
            if entry.is_symlink() and _is_directory(entry) and enters(path):
                found.skipped["linked_directory"] += 1
        elif enters(path):
            deeper.append(path)
    return deeper


def _is_directory(link: os.DirEntry[str]) -> bool:
    return os.path.isdir(link)  # noqa: PTH112 - raises for no loop


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
