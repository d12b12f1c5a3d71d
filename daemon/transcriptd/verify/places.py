"""Which kind of object lies under a key, and to which stream it belongs. Pure.

The other direction of `layout`: whatever a key is taken for, `layout` must make the same key of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from transcriptd.layout import (
    claimed_by,
    closed_generation,
    conflict_key,
    document_key,
    generation_key,
    mirrored,
    probe_prefix,
    segment_key,
    segment_place,
)
from transcriptd.sources import session_id

if TYPE_CHECKING:
    from collections.abc import Collection

_HISTORY = re.compile(r"([\w-]{1,128})/history\.jsonl")
_DOCUMENT = re.compile(r"([\w-]{1,128})/session\.json")
_WRITER = re.compile(r"([\w-][\w.-]*\.[0-9a-f]{12}(?:~[0-9a-f]{8})?)(?:\.jsonl|\.json)?", re.ASCII)
_CONFLICTS, _GENERATIONS, _TAIL = ".conflicts/", ".generations/", ".tail/"


class Kind(Enum):
    """What an object is to its stream."""

    BASE = auto()
    DOCUMENT = auto()
    GENERATION = auto()
    SEGMENT = auto()
    STOP = auto()  # an empty object where the next segment of a closed generation would be
    CLAIM = auto()
    KEPT = auto()  # what somebody else wrote, under `.conflicts/foreign-…`
    SCRATCH = auto()
    STRANGER = auto()


@dataclass(frozen=True, slots=True)
class Place:
    """`stream` is a base key, empty where the object belongs to none."""

    kind: Kind
    stream: str = ""


_STRANGER = Place(Kind.STRANGER)


def place_of(prefix: str, key: str, size: int) -> Place:
    """Say what an object of `size` bytes is by its key, which begins with `prefix`."""
    if key.startswith(probe_prefix(prefix)):
        return Place(Kind.SCRATCH)
    below = key.removeprefix(prefix)
    if below.startswith(_TAIL):
        return _in_tail(prefix, key, size)
    if below.startswith(_GENERATIONS):
        stream = prefix + below.removeprefix(_GENERATIONS).rpartition("/")[0]
        number = closed_generation(key)
        made = number is not None and generation_key(prefix, stream, number) == key
        return Place(Kind.GENERATION, stream) if made and is_stream(prefix, stream) else _STRANGER
    if is_stream(prefix, key):
        return Place(Kind.BASE, key)
    if below.startswith(_CONFLICTS):
        return _in_conflicts(prefix, key)
    document = _DOCUMENT.fullmatch(below)
    return Place(Kind.DOCUMENT, f"{prefix}{document[1]}/history.jsonl") if document else _STRANGER


def is_stream(prefix: str, key: str) -> bool:
    """Say whether a key is the base key of a stream."""
    below = key.removeprefix(prefix)
    if not below.startswith(_CONFLICTS):
        history = _HISTORY.fullmatch(below) is not None
        return history or mirrored(prefix, key) is not None
    first, _, name = below.removeprefix(_CONFLICTS).rpartition("/")
    writer = name.removesuffix(".jsonl") if first.endswith(".jsonl") else name
    aside = _WRITER.fullmatch(name) and conflict_key(prefix, prefix + first, writer) == key
    return bool(aside) and not first.startswith(".") and is_stream(prefix, prefix + first)


def session_of(prefix: str, stream: str) -> str:
    """Return the id of the session whose stream this is. Several mirrors may have the same."""
    base = base_of(prefix, stream)
    if file := mirrored(prefix, base):
        return session_id(file.agent, file.path)
    below = base.removeprefix(prefix)
    history = _HISTORY.fullmatch(below)
    return history[1] if history else below


def is_meant(prefix: str, stream: str, wanted: Collection[str]) -> bool:
    """Say whether a stream is that of a session in `wanted`, by id or base key, or beside it."""
    return base_of(prefix, stream) in wanted or session_of(prefix, stream) in wanted


def document_of(prefix: str, stream: str) -> str | None:
    """Return where the `session.json` of a stream lies; `None` where there is never one."""
    base = base_of(prefix, stream)
    history = _HISTORY.fullmatch(base.removeprefix(prefix))
    if history is None:
        return None
    document = document_key(prefix, history[1])
    if base == stream:
        return document
    match = _WRITER.fullmatch(stream.rpartition("/")[2])
    return conflict_key(prefix, document, match[1]) if match else None


def base_of(prefix: str, stream: str) -> str:
    """Return the base key that a stream under `.conflicts/` stands beside, else itself."""
    aside = f"{prefix}{_CONFLICTS}"
    if not stream.startswith(aside):
        return stream
    return prefix + stream.removeprefix(aside).rpartition("/")[0]


def prefixes_of(prefix: str, session: str) -> tuple[str, ...]:
    """Return below which prefixes everything of one session lies, given a base key or its id.

    Of a mirror's id nothing follows: it may be anywhere.
    """
    name = f"{session}/"
    if is_stream(prefix, session):
        name = base_of(prefix, session).removeprefix(prefix).removesuffix("history.jsonl")
    folders = ("", _CONFLICTS, _GENERATIONS, _TAIL)
    apart = (f"{_GENERATIONS}{_CONFLICTS}", f"{_TAIL}{_CONFLICTS}")
    return tuple(f"{prefix}{folder}{name}" for folder in (*folders, *apart))


def _in_tail(prefix: str, key: str, size: int) -> Place:
    first, _, name = key.removeprefix(f"{prefix}{_TAIL}").rpartition("/")
    stream = prefix + first
    if not is_stream(prefix, stream):
        return _STRANGER
    place = segment_place(name)
    if place and segment_key(prefix, stream, *place) == key:
        return Place(Kind.SEGMENT if size else Kind.STOP, stream)
    return Place(Kind.CLAIM, stream) if claimed_by(name) else _STRANGER


def _in_conflicts(prefix: str, key: str) -> Place:
    first, _, name = key.removeprefix(f"{prefix}{_CONFLICTS}").rpartition("/")
    document = _DOCUMENT.fullmatch(first)
    if document and _WRITER.fullmatch(name):
        history = f"{prefix}{document[1]}/history.jsonl"
        stream = conflict_key(prefix, history, name.removesuffix(".json"))
        return Place(Kind.DOCUMENT, stream)
    kept = name.startswith("foreign-") and is_stream(prefix, prefix + first)
    return Place(Kind.KEPT, prefix + first) if kept else _STRANGER
