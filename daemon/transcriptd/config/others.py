"""What the file says of agents that are not known by name: read from either of two spellings.

`[sources.openclaw]` and an entry of `[[sources]]` with `name = "openclaw"` mean the same. An entry
may also name an agent that is known: then it is that agent's table. Knows neither where the file
is nor what a path counts from.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from transcriptd.config.agents import NAME, OF_PROJECTS, SHARED, SHIPPED, USUAL_GLOB, OtherSource
from transcriptd.config.kinds import is_glob
from transcriptd.config.reference import LEAVES, shown, unknown
from transcriptd.config.values import parsed, unfit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from transcriptd.config.kinds import Expand, Redaction
    from transcriptd.config.reference import Leaf

KEYS = ("root", "glob", "enabled", *SHARED)
"""What may be said of an agent that is not known by name."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PROJECTS = "exclude_projects"
_UNTOLD = "this agent's sessions do not say a project: expected `exclude`, or nothing"

Found: TypeAlias = "tuple[str, str]"


@dataclass(frozen=True, slots=True)
class Entry:
    """One agent, with what was said of it unread. A relative path counts from `base`."""

    name: str
    said: Mapping[str, Any]
    origin: str
    base: Path

    @property
    def key(self) -> str:
        return f"sources.{self.name}"


@dataclass(frozen=True, slots=True)
class Split:
    """`sources`, by who reads it: `tables` is what was said of agents that are known."""

    tables: dict[str, Any]
    entries: tuple[Entry, ...]
    problems: tuple[Found, ...]


def split(sources: object, origin: str, base: Path) -> Split:
    """Tell the agents that are known from the others, in either spelling."""
    problems: list[Found] = []
    tables: dict[str, Any] = {}
    entries: list[Entry] = []
    for name, said in _named(sources, problems):
        if name in SHIPPED:
            tables[name] = _of_known(name, said, problems)
        elif isinstance(said, dict):
            entries.append(Entry(name, said, origin, base))
        else:
            problems.append((f"sources.{name}", "expected a table"))
    return Split(tables, tuple(entries), tuple(problems))


def problems(entry: Entry, expand: Expand) -> Iterator[Found]:
    """Yield key and message of each problem."""
    if not NAME.fullmatch(entry.name):
        wanted = "expected a name of up to 64 of a-z 0-9 . _ - beginning with a letter or a digit"
        yield entry.key, f"{wanted}, got {shown(entry.name)}"
    for key, value in entry.said.items():
        if isinstance(value, dict):
            wanted = "expected no table here; a file has [[sources]] or [sources.NAME], not both"
            yield f"{entry.key}.{key}", wanted
        elif key == _PROJECTS:
            yield f"{entry.key}.{key}", _UNTOLD
        elif key not in KEYS:
            yield f"{entry.key}.{key}", unknown(key, KEYS)
    yield from _root(entry)
    yield from _glob(entry)
    if not isinstance(enabled := entry.said.get("enabled", True), bool | dict):
        yield f"{entry.key}.enabled", f"expected true or false, got {shown(enabled)}"
    for name in SHARED:
        value = entry.said.get(name)
        try:
            read = None if isinstance(value, dict) else _shared(entry, name, expand)
        except ValueError:
            yield f"{entry.key}.{name}", unfit(_leaf(name), value)
            continue
        if isinstance(read, tuple) and any(map(_CONTROL.search, read)):
            yield f"{entry.key}.{name}", "expected no line breaks or control characters"


def made(entry: Entry, expand: Expand, redaction: Redaction) -> OtherSource:
    """Return the source of an entry without problems. `redaction` is what the file says of all."""
    shared = {name: _shared(entry, name, expand) for name in SHARED if name in entry.said}
    return OtherSource(
        entry.name,
        roots=tuple(str(expand(root, entry.base)) for root in _texts(entry.said["root"])),
        glob=_texts(entry.said["glob"]) if "glob" in entry.said else USUAL_GLOB,
        enabled=entry.said.get("enabled", True),
        **{"redaction": redaction, **shared},
    )


def _leaf(name: str) -> Leaf:
    return LEAVES[f"sources.{SHIPPED[0]}.{name}"]


def _shared(entry: Entry, name: str, expand: Expand) -> Any:  # noqa: ANN401 - any key
    """Return what was said under a key that every agent has. Raises `ValueError`."""
    if name not in entry.said:
        return None
    return parsed(_leaf(name), entry.said[name], entry.base, expand)


def _named(sources: object, problems: list[Found]) -> Iterator[tuple[str, object]]:
    if isinstance(sources, dict):
        yield from sources.items()
        return
    if not isinstance(sources, list):
        problems.append(("sources", "expected tables"))
        return
    known: set[str] = set()
    for number, said in enumerate(sources, 1):
        name = said.get("name") if isinstance(said, dict) else None
        if not isinstance(name, str):
            problems.append((f"sources entry {number}", "expected a name such as 'openclaw'"))
            continue
        if name in known:
            problems.append((f"sources.{name}", f"entry {number} has the name of one before it"))
        known.add(name)
        yield name, {key: value for key, value in said.items() if key != "name"}


def _of_known(name: str, said: object, problems: list[Found]) -> object:
    """Return what was said of a known agent, without what can be said of others only."""
    if not isinstance(said, dict):
        return said
    wrong = {
        "root": "this agent is known: expected `roots` beside those that are found, or another name"
    }
    if name not in OF_PROJECTS:
        wrong[_PROJECTS] = _UNTOLD
    problems += [(f"sources.{name}.{key}", wrong[key]) for key in said if key in wrong]
    return {key: value for key, value in said.items() if key not in wrong}


def _root(entry: Entry) -> Iterator[Found]:
    key = f"{entry.key}.root"
    if "root" not in entry.said:
        close = difflib.get_close_matches(entry.name, SHIPPED, n=1)
        meant = f"; or did you mean sources.{close[0]}?" if close else ""
        yield key, f"expected the directory that its sessions are in{meant}"
        return
    value = entry.said["root"]
    roots = _texts(value)
    if not roots or not all(roots):
        if not isinstance(value, dict):
            yield key, f"expected a directory or a list of directories, got {shown(value)}"
    elif any(map(_CONTROL.search, roots)):
        yield key, "expected no line breaks or control characters"


def _glob(entry: Entry) -> Iterator[Found]:
    key = f"{entry.key}.glob"
    value = entry.said.get("glob", "*")
    globs = _texts(value)
    if not globs and not isinstance(value, dict):
        yield key, f"expected a pattern or a list of patterns, got {shown(value)}"
    for glob in globs:
        if not is_glob(glob) or _CONTROL.search(glob):
            wanted = "expected a pattern of what lies below root, such as '*/sessions/*.jsonl'"
            yield key, f"{wanted}, got {shown(glob)}"


def _texts(value: object) -> tuple[str, ...]:
    """Return a text, or a list of texts, as several; nothing where it is something else."""
    values = value if isinstance(value, list) else [value]
    texts = tuple(text for text in values if isinstance(text, str))
    return texts if len(texts) == len(values) else ()
