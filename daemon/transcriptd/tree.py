"""An agent that keeps its sessions as files below a few directories: each is mirrored as it is.

Owns what all of them share: which stream a file belongs to, how it is read. What a name means is
for the agents' own modules (`sources/`) to say.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from transcriptd.files import open_content, stat_at
from transcriptd.layout import mirror_key
from transcriptd.model import Session, Stat
from transcriptd.places import Places

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transcriptd.content import Content
    from transcriptd.layout import Names

LINES = ".jsonl"
JSONL = re.compile(r".*\.jsonl(\.[^./]+)?", re.DOTALL)
"""The names of files of JSON lines, also of those that were renamed or compressed."""


class Tree(ABC):
    """One agent. A *path* is where a file stands in the agent's mirror: `label` of its root + name.

    `roots` are the directories, each once, the agent's own first.
    """

    name = ""

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots = tuple(dict.fromkeys(roots))

    def places(self, known: Places) -> Places:
        """Find all roots; these never change."""
        del known
        return Places(self._roots)

    def root_named_by(self, entry: Path) -> Path | None:
        """Return the root that an entry of an index leads to: there are no indexes."""
        del entry
        return None

    def enters(self, directory: str) -> bool:
        """Say whether there may be sessions in a directory, by its path below a root."""
        del directory
        return True

    def label(self, root: Path) -> str:
        """Return what paths of files below a root begin with: nothing, or a name and `/`."""
        del root
        return ""

    @abstractmethod
    def mirrors(self, path: str) -> bool:
        """Say whether a file with this path belongs to a session."""

    def counts(self, root: Path, name: str) -> bool:
        """Say whether a file below a root is a session."""
        return self.mirrors(self.label(root) + name)

    @staticmethod
    def session_id(path: str) -> str:
        """Return by which id a person asks for the file with this path."""
        return path.removesuffix(LINES)

    def session(self, root: Path, name: str) -> Session | None:
        """Say which session a file below a root is; `None` for every other file."""
        path = self.label(root) + name
        return (
            Session(self.name, self.session_id(path), str(root), name)
            if self.mirrors(path)
            else None
        )

    def stat(self, session: Session) -> Stat | None:
        """Return what stands of a session at this moment; `None` where it is gone. Blocks."""
        return stat_at(session.path)

    def inner(self, root: Path, name: str) -> list[tuple[str, Stat]] | None:
        """Return the sessions inside a file that holds several, in order; `None` for others.

        Blocks. Raises any `SourceError`.
        """
        del root, name
        return None

    def is_store(self, name: str) -> bool:
        """Say whether a change of this file may be one of sessions inside it."""
        del name
        return False

    def path(self, session: Session) -> str:
        """Return where a session's stream stands in the mirror."""
        return self.label(Path(session.root)) + session.name

    def key(self, names: Names, session: Session) -> str:
        """Return the base key of a session's stream."""
        path = self.path(session).encode()
        return mirror_key(names.prefix, names.machine, self.name, path)

    def document_key(self, prefix: str, session: Session) -> str | None:
        """Return the key of a session's other content: a mirror is all there is."""
        del prefix, session
        return None

    def has_lines(self, session: Session) -> bool:
        """Say whether a file grows line by line, so that it is cut behind a line feed."""
        return session.name.endswith(LINES)

    def is_jsonl(self, session: Session) -> bool:
        """Say whether a session's content is lines of JSON, whether it grows or not."""
        return JSONL.fullmatch(session.name) is not None

    def content(self, session: Session, max_bytes: int) -> tuple[Content, Stat]:
        """Open what a session is made of. `max_bytes` bounds what has to be held in memory.

        Blocks. Raises any `SourceError`.
        """
        del max_bytes
        file = open_content(session)
        return file, file.stat

    def expires_after(self) -> float | None:
        """Return after how many seconds without a change the agent deletes a session, if ever."""
        return None

    def destination(self, path: str, known: Iterable[Path] = ()) -> tuple[Path, str] | None:
        """Return the root and the name at which the agent has the file with this path.

        Of several roots that is the one where the file stands; else the first one that exists,
        those where it is `known` to have stood before all others; else the agent's own. Blocks.
        """
        if not self.mirrors(path):
            return None
        seats = {r: name for r in self._roots if (name := self.name_below(r, path))}
        standing = (root for root, name in seats.items() if self.stands(root, name))
        before = (root for root in known if root in seats and stat_at(root))
        existing = (root for root in seats if stat_at(root))
        root = next(chain(standing, before, existing, seats), None)
        return (root, seats[root]) if root else None

    def name_below(self, root: Path, path: str) -> str | None:
        """Return which name below a root has this path; `None` where none has."""
        label = self.label(root)
        return path.removeprefix(label) if path.startswith(label) else None

    def stands(self, root: Path, name: str) -> bool:
        """Say whether a session's file stands below a root, whatever it holds. Blocks."""
        return stat_at(root / name) is not None
