"""The values that travel between the stages. Plain frozen data, no behaviour but what reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transcriptd.content import Content


class State(StrEnum):
    """What a session is, in the words that status, metrics, logs and `verify` share."""

    CURRENT = "current"  # everything that stood in it is archived
    PENDING = "pending"  # changed, waiting for its turn
    UPLOADING = "uploading"  # being archived now
    RETRYING = "retrying"  # an attempt failed; another follows
    QUARANTINED = "quarantined"  # cannot be read; tried again when it changes
    CONFLICT = "conflict"  # another writer owns its key; archived under .conflicts/
    BEHIND = "behind"  # the archive holds more than this file; nothing is written
    SOURCE_GONE = "source_gone"  # the file is gone; the archive stays
    EXCLUDED = "excluded"  # the configuration says that it never leaves
    DISABLED = "disabled"  # no archive is configured


@dataclass(frozen=True, slots=True)
class Session:
    """One session of one source. `root` is the watched directory, `name` the path below it."""

    source: str
    id: str
    root: str
    name: str

    @property
    def path(self) -> Path:
        return Path(self.root, self.name)


class Stat(NamedTuple):
    """What tells two states of one file apart without reading it.

    A tuple, because a rescan makes two of them a file.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent read of a session: `content` is the whole stream, `records` its lines.

    `document` is the content of `session.json`, where it was asked for.
    """

    session: Session
    stat: Stat
    content: Content
    records: int
    document: bytes | None = None


@dataclass(frozen=True, slots=True)
class Guard:
    """By what the first `length` bytes of a mirrored file are known again without reading them all.

    `chain` is the digest up to the last whole block of 1 MiB, `head` the SHA-256 of the first
    64 KiB, both in hex. `feeds` counts line feeds, `damaged` lines that are no JSON. `inode` and
    `ctime_ns` are those of the file.
    """

    length: int
    chain: str
    head: str
    feeds: int
    damaged: int
    inode: int
    ctime_ns: int


class Mask(NamedTuple):
    """What stands in a stream, from byte `start` on, instead of what the source has there.

    `text` is ASCII, as long as what it replaces.
    """

    start: int
    text: str


@dataclass(frozen=True, slots=True)
class Screening:
    """What the rules found in the first `length` bytes of a stream, and what of it is masked.

    `found` counts findings by rule, `in_document` those in `session.json`. Where there are `masks`
    (ascending), `plain` is the digest of what the source has there, and `chain` that of the stream
    up to the last whole block of 1 MiB; both in hex. Holds nothing of what was found.
    """

    length: int
    found: Mapping[str, int]
    in_document: Mapping[str, int]
    masks: tuple[Mask, ...] = ()
    plain: str = ""
    chain: str = ""


NO_DOCUMENT = "none"


@dataclass(frozen=True, slots=True)
class Cursor:
    """How much of a stream is archived, and as what.

    `digest` is the chained digest (`digest`) of the first `length` bytes of `generation`; the last
    `tail_length` of them lie in `segments` tail segments, the rest in the base, which has been
    behind since `behind_since` (Unix seconds). `etag` and `writer` belong to the base as it was
    last seen; with `generation` they are its identity. `sent` counts the bytes that this
    generation has cost so far. `document_digest` is the SHA-256 of the `session.json` that was
    archived last, `NO_DOCUMENT` where there is none yet, empty where that is not known.
    """

    key: str
    generation: int
    records: int
    length: int
    digest: str
    etag: str
    writer: str
    document_digest: str = ""
    tail_length: int = 0
    segments: int = 0
    behind_since: float = 0.0
    sent: int = 0

    @property
    def base_length(self) -> int:
        return self.length - self.tail_length
