"""ZeroClaw: one JSONL file per session, or one SQLite database with all of them.

Files are `sessions/<key>.jsonl`; a migration to the database renames them to `.jsonl.importing`
and `.jsonl.migrated`, each mirrored under its name. Of `sessions/sessions.db` each session is a
stream of its own, as the lines that its file would have, below `sessions.db/`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from transcriptd.content import Held
from transcriptd.errors import SourceError, Vanished
from transcriptd.files import UNTOLD
from transcriptd.model import Stat
from transcriptd.sources import zeroclaw_store as store
from transcriptd.tree import LINES, Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from transcriptd.content import Content
    from transcriptd.model import Session

_FILE = re.compile(r"[^/]*\.jsonl(\.importing|\.migrated)?")
_STORE = "sessions.db"
_INSIDE = f"{_STORE}/"
_SUFFIXES = (".importing", ".migrated")
_KEPT = " !#$&'()*+,:;=?@[]~"  # the rest of what is printable; `%`, `/` and NUL are not


class ZeroClaw(Tree):
    """See the module's docstring. `roots` are configured ones, beside those that are found."""

    name = "zeroclaw"

    def __init__(self, roots: Sequence[str], environ: Mapping[str, str]) -> None:
        base = Path(environ.get("HOME") or Path.home()) / ".zeroclaw"
        variables = ("ZEROCLAW_DATA_DIR", "ZEROCLAW_WORKSPACE")
        named = (environ.get(variable, "").strip() for variable in variables)
        found = [Path(directory).expanduser().absolute() for directory in named if directory]
        found += [base / "data", base / "workspace", base]  # the older builds last
        configured = (Path(root).expanduser().absolute() for root in roots)
        super().__init__([*(directory / "sessions" for directory in found), *configured])
        self._seen: dict[Path, tuple[object, list[tuple[str, Stat]]]] = {}

    def enters(self, directory: str) -> bool:
        del directory
        return False

    def mirrors(self, path: str) -> bool:
        return _FILE.fullmatch(path.removeprefix(_INSIDE)) is not None

    @staticmethod
    def session_id(path: str) -> str:
        stem = path
        for suffix in (*_SUFFIXES, LINES):
            stem = stem.removesuffix(suffix)
        return stem if stem.removeprefix(_INSIDE) else path  # the empty key has a file, too

    def is_store(self, name: str) -> bool:
        return name.startswith(_STORE)  # with its `-wal`, which is what a save changes

    def inner(self, root: Path, name: str) -> list[tuple[str, Stat]] | None:
        if name != _STORE:
            return None
        place = root / _STORE
        state = store.state(place)
        seen, inside = self._seen.get(place, (None, []))
        if state != seen or state is None:
            # By all of its rows: one that is removed or changed in its place leaves no higher id.
            inside = sorted((_name(each.key), _stat(each)) for each in store.sessions(place))
            self._seen[place] = (state, inside)
        return inside

    def stat(self, session: Session) -> Stat | None:
        if not session.name.startswith(_INSIDE):
            return super().stat(session)
        try:
            inside = self.inner(Path(session.root), _STORE)
        except Vanished:
            return None
        except SourceError:
            return UNTOLD  # what cannot be read now is not gone
        return dict(inside or ()).get(session.name)

    def content(self, session: Session, max_bytes: int) -> tuple[Content, Stat]:
        if not session.name.startswith(_INSIDE):
            return super().content(session, max_bytes)
        # Before the rows are read: what is saved meanwhile differs from it, and is found.
        inside = self.inner(Path(session.root), _STORE)
        before = dict(inside or ()).get(session.name)
        if before is None:
            raise Vanished("the session is gone from the database")
        place = Path(session.root, _STORE)
        return Held(store.lines(place, _key(session.name), max_bytes)), before

    def has_lines(self, session: Session) -> bool:
        return not session.name.startswith(_INSIDE)  # whole rows: nothing is cut

    def is_jsonl(self, session: Session) -> bool:
        return session.name.startswith(_INSIDE) or super().is_jsonl(session)

    def destination(self, path: str, known: Iterable[Path] = ()) -> tuple[Path, str] | None:
        if path.startswith(_INSIDE):
            return None  # a row of the agent's own database: it is never written
        return super().destination(path, known)


def _name(key: str) -> str:
    """Return the name of a session inside the database: reversible, and a file's."""
    return f"{_INSIDE}{quote(key, safe=_KEPT)}{LINES}"


def _key(name: str) -> str:
    return unquote(name.removeprefix(_INSIDE).removesuffix(LINES))


def _stat(stored: store.Stored) -> Stat:
    """Return what tells two states of a session apart, in the place of a file's.

    The checksum in place of the inode: no guard vouches for rows that were changed in their place.
    """
    return Stat(stored.chars, stored.last_id, stored.rows, stored.checksum, 0)
