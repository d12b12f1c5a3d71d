"""What a source is, and the registry of those there are.

A source knows one agent's way of keeping sessions: where they are, which files count, and how a
file becomes lines. It reads names and parses bytes; it never opens a session (`snapshot` does).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transcriptd.config import Config
    from transcriptd.model import Session


@dataclass(frozen=True, slots=True)
class Lines:
    """A session as its stream: `content` is `records` lines, each ending in a line feed."""

    content: bytes
    records: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the lines of a session in the agent's own file.

    The file is `before`, the records with `between` between them, and `behind`.
    """

    before: bytes
    between: bytes
    behind: bytes


@dataclass(frozen=True, slots=True)
class Places:
    """Where sessions may be.

    `roots` hold sessions as direct children. `indexes` are directories whose entries name further
    roots; `watermark` (Unix nanoseconds) says up to which change they have been read.
    """

    roots: tuple[Path, ...]
    indexes: tuple[Path, ...] = ()
    watermark: int = 0


class Source(Protocol):
    """One agent's way of keeping sessions."""

    name: str

    def places(self, known: Places) -> Places:
        """Find all roots, starting from what is known; reads only what changed in the indexes."""

    def root_named_by(self, entry: Path) -> Path | None:
        """Return the root that one entry of an index leads to, if the entry counts."""

    def counts(self, name: str) -> bool:
        """Say whether a file of this name below a root is a session."""

    def session(self, root: Path, name: str) -> Session | None:
        """Say which session a file below a root is; `None` for every other file."""

    def key(self, prefix: str, session: Session) -> str:
        """Return the base key of a session's stream."""

    def document_key(self, prefix: str, session: Session) -> str | None:
        """Return the key of the session's other content; `None` where lines are all there is."""

    def lines(self, session: Session, data: bytes, known: int = 0) -> Lines:
        """Turn a file's bytes into lines.

        The first `known` records were checked when they were archived; the caller compares them by
        digest and asks again with 0 where they differ. Raises `Unreadable`.
        """

    def document(self, session: Session, data: bytes) -> bytes | None:
        """Return what a restore needs besides the lines. Raises `Unreadable`."""

    def frame(self, session_id: str, document: bytes | None, saved_at: float) -> Frame:
        """Return what goes around the lines when the agent's own file is rebuilt.

        `document` is what `document` gave. Without one it is the least that the agent loads, saved
        at `saved_at` (Unix seconds). Raises `Unreadable`.
        """

    def record(self, line: bytes) -> bytes:
        """Turn a line back into a record of the agent's own file. Raises `Unreadable`."""

    def saved_at(self, data: bytes) -> float | None:
        """Return when a file, or a document, says that it was saved, in Unix seconds."""

    def homes(self, workspace: Path) -> list[Path]:
        """Return the roots in which the agent keeps a workspace's sessions, the likeliest first."""

    def home(self, document: bytes | None) -> Path:
        """Return the root in which the agent looks for the session with this document."""

    def pointer(self, session: Session) -> Path:
        """Return the entry of the agent's index that leads it to a session by its id."""

    def latest(self, root: Path, workspace: str) -> Session | None:
        """Return what the agent's own index of a root says is a workspace's last session.

        The index may be wrong.
        """


_REGISTRY = {
    "codetether": "transcriptd.sources.codetether:CodeTether",
}


def open_sources(config: Config, environ: Mapping[str, str]) -> dict[str, Source]:
    """Make the sources that the configuration enables, by name."""
    opened: dict[str, Source] = {}
    for name, where in _REGISTRY.items():
        module, _, cls = where.partition(":")
        settings = getattr(config.sources, name)
        if settings.enabled:
            opened[name] = getattr(import_module(module), cls)(settings.roots, environ)
    return opened
