"""What a source is, and the registry of those there are.

A source knows one agent's way of keeping sessions: where they are, which files count, and how a
file becomes a stream. There are two kinds: `Documents` are turned into lines, a `Tree` is mirrored
byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from transcriptd.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transcriptd.config import Config
    from transcriptd.content import Content
    from transcriptd.layout import Names
    from transcriptd.model import Session, Stat
    from transcriptd.places import Places


@dataclass(frozen=True, slots=True)
class Lines:
    """A session as its stream: `content` is `records` lines, each ending in a line feed."""

    content: Content
    records: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the lines of a session in the agent's own file.

    The file is `before`, the records with `between` between them, and `behind`.
    """

    before: bytes
    between: bytes
    behind: bytes


class Documents(Protocol):
    """An agent that keeps each session as one document, from which the lines are made."""

    name: str

    def places(self, known: Places) -> Places:
        """Find all roots, starting from what is known; reads only what changed in the indexes."""

    def root_named_by(self, entry: Path) -> Path | None:
        """Return the root that one entry of an index leads to, if the entry counts."""

    def enters(self, directory: str) -> bool:
        """Say whether there may be sessions in a directory, by its path below a root."""

    def counts(self, root: Path, name: str) -> bool:
        """Say whether a file below a root is a session, by its name alone."""

    def session(self, root: Path, name: str) -> Session | None:
        """Say which session a file below a root is; `None` for every other file."""

    def stat(self, session: Session) -> Stat | None:
        """Return what stands of a session at this moment; `None` where it is gone. Blocks."""

    def inner(self, root: Path, name: str) -> list[tuple[str, Stat]] | None:
        """Return the sessions inside a file that holds several; `None` for others."""

    def is_store(self, name: str) -> bool:
        """Say whether a change of this file may be one of sessions inside it."""

    def key(self, names: Names, session: Session) -> str:
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


Source = Documents | Tree

_REGISTRY = {
    "codetether": "transcriptd.sources.codetether:CodeTether",
    "claude": "transcriptd.sources.claude:Claude",
    "codex": "transcriptd.sources.codex:Codex",
    "zeroclaw": "transcriptd.sources.zeroclaw:ZeroClaw",
}
_OTHER = "transcriptd.sources.other:Other"


def session_id(agent: str, path: str) -> str:
    """Return by which id a person asks for a mirrored file, of whatever agent and machine.

    Several files may have the same: a session under its former names.
    """
    tree = _class(_REGISTRY.get(agent, _OTHER))
    return tree.session_id(path) if issubclass(tree, Tree) else path


def open_sources(config: Config, environ: Mapping[str, str]) -> dict[str, Source]:
    """Make the sources that the configuration enables, by name."""
    opened: dict[str, Source] = {}
    for name, where in _REGISTRY.items():
        settings = getattr(config.sources, name)
        if settings.enabled:
            opened[name] = _class(where)(settings.roots, environ)
    for other in config.sources.others:
        if other.enabled:
            opened[other.name] = _class(_OTHER)(other)
    return opened


def _class(where: str) -> Any:  # noqa: ANN401 - its constructor is the source's own
    """Import a source only where it is used: what is not, costs nothing."""
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)
