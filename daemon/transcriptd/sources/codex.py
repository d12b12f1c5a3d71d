"""Codex: JSONL appended in place, below `~/.codex`.

A session is `sessions/YYYY/MM/DD/rollout-<local time>-<uuid>.jsonl`. Archiving moves it flat into
`archived_sessions/`; its id stays. A rollout that is idle may be compressed to `.jsonl.zst` and the
plain file removed, and comes back as it was when it is appended to: both are one stream.
`session_index.jsonl` beside those directories holds the sessions' names.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from transcriptd.errors import Vanished
from transcriptd.files import open_file
from transcriptd.inflated import Inflated
from transcriptd.tree import LINES, Tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transcriptd.content import Content
    from transcriptd.model import Session, Stat

_ROLLOUT = re.compile(r"rollout-[^/]*\.jsonl(\.zst)?")
_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_COMPRESSED = ".zst"
_ACTIVE, _ARCHIVED = "sessions", "archived_sessions"
_INDEX = "session_index.jsonl"


class Codex(Tree):
    """See the module's docstring. `roots` are configured ones, beside those that are found."""

    name = "codex"

    def __init__(self, roots: Sequence[str], environ: Mapping[str, str]) -> None:
        home = Path(environ.get("HOME") or Path.home())
        named = environ.get("CODEX_HOME", "").strip()
        base = Path(named).expanduser().absolute() if named else home / ".codex"
        sessions = environ.get("CODEX_SESSIONS_DIR", "").strip()
        active = Path(sessions).expanduser().absolute() if sessions else base / _ACTIVE
        configured = (Path(root).expanduser().absolute() for root in roots)
        self._base = base
        super().__init__([active, base / _ARCHIVED, base / _ACTIVE, *configured, base])

    def label(self, root: Path) -> str:
        if root == self._base:
            return ""
        return f"{_ARCHIVED if root.name == _ARCHIVED else _ACTIVE}/"

    def enters(self, directory: str) -> bool:
        return directory.replace("/", "").isdigit()  # YYYY/MM/DD

    def mirrors(self, path: str) -> bool:
        if "/" not in path:
            return path == _INDEX
        return _ROLLOUT.fullmatch(path.rpartition("/")[2]) is not None

    @staticmethod
    def session_id(path: str) -> str:
        stem = path.rpartition("/")[2].removesuffix(_COMPRESSED).removesuffix(LINES)
        found = _ID.search(stem)
        return found[0] if found else stem

    def counts(self, root: Path, name: str) -> bool:
        return super().counts(root, name) and not _stands_plain(root, name)

    def stat(self, session: Session) -> Stat | None:
        doubled = _stands_plain(Path(session.root), session.name)
        return None if doubled else super().stat(session)

    def path(self, session: Session) -> str:
        return super().path(session).removesuffix(_COMPRESSED)

    def content(self, session: Session, max_bytes: int) -> tuple[Content, Stat]:
        if not session.name.endswith(_COMPRESSED):
            return super().content(session, max_bytes)
        if _stands_plain(Path(session.root), session.name):
            raise Vanished("the plain file stands beside it")
        content = Inflated.measure(lambda: open_file(session), sys.maxsize)
        return content, content.stat

    def name_below(self, root: Path, path: str) -> str | None:
        is_index = "/" not in path
        return super().name_below(root, path) if (root == self._base) == is_index else None

    def stands(self, root: Path, name: str) -> bool:
        return super().stands(root, name) or super().stands(root, name + _COMPRESSED)


def _stands_plain(root: Path, name: str) -> bool:
    """Say whether this is a compressed rollout beside the plain one, which says it all, or more."""
    plain = name.removesuffix(_COMPRESSED)
    return plain != name and os.path.lexists(root / plain)
