"""CodeTether: one JSON document per session, rewritten on every save.

Owns where CodeTether keeps sessions, which files count, and how a document becomes lines: message
`i` of the document is line `i`, as compact JSON. Values, the spelling of numbers and the order of
keys are never changed; a document that is compact already passes through byte for byte.
"""

from __future__ import annotations

import errno
import os
import re
import stat as modes
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING

import msgspec

from transcriptd.content import Joined
from transcriptd.errors import Unreadable
from transcriptd.files import stat_at
from transcriptd.layout import document_key, history_key
from transcriptd.model import Session
from transcriptd.places import Places
from transcriptd.sources import Frame, Lines
from transcriptd.workspace import named_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from transcriptd.layout import Names
    from transcriptd.model import Stat

_NAME = re.compile(r"[\w-]{1,128}\.json")
_POINTER = re.compile(r"([\w-]{1,128})\.path")
_MAX_POINTER_BYTES = 4096
_READ_AGAIN_NS = 60 * 10**9
_NOT_IN_DOCUMENT = ("messages", "pages")
_NOT_IN_METADATA = "history_sink"  # may hold credentials
_LATEST = ".workspace_index.json"
_MAX_LATEST_BYTES = 16 << 20
_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")
_CACHE_USAGE = ("cache_read_tokens", "cache_write_tokens")


class _Document(msgspec.Struct):
    """What of a document is looked at on every save; the rest is skipped, not built."""

    id: str
    messages: list[msgspec.Raw]


class _Saved(msgspec.Struct):
    updated_at: str


class _Latest(msgspec.Struct):
    entries: dict[str, str]


_saved = msgspec.json.Decoder(_Saved)
_latest = msgspec.json.Decoder(_Latest)
_document = msgspec.json.Decoder(_Document)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class CodeTether:
    """See the module's docstring. `roots` are the configured ones, beside those that are found."""

    name = "codetether"

    def __init__(self, roots: Sequence[str], environ: Mapping[str, str]) -> None:
        self._roots = [Path(root).expanduser().absolute() for root in roots]
        self._named_dirs, self._usual_dirs = _data_dirs(environ)
        self._home = Path(environ.get("HOME") or Path.home())

    def places(self, known: Places) -> Places:
        roots = dict.fromkeys(
            [
                *self._roots,
                *(data_dir / "sessions" for data_dir in self._named_dirs),
                *_roots_of_workspace(self._home),
                *(data_dir / "sessions" for data_dir in self._usual_dirs),
            ]
        )
        data_dirs = dict.fromkeys([*self._named_dirs, *self._usual_dirs])
        indexes = tuple(data_dir / "session-locations" for data_dir in data_dirs)
        watermark = known.watermark
        named: dict[Path, None] = dict.fromkeys(known.roots)
        for index in indexes:
            for changed, root in _named_roots(index, known.watermark):
                watermark = max(watermark, changed)
                if root is not None:
                    named[root] = None
        roots.update(named)
        for root in tuple(roots):
            roots.update(dict.fromkeys(_worktrees(root)))
        # An entry whose session was absent for a moment counts a little later.
        watermark = min(watermark, time_ns() - _READ_AGAIN_NS)
        return Places(tuple(roots), indexes, watermark)

    def root_named_by(self, entry: Path) -> Path | None:
        match = _POINTER.fullmatch(entry.name)
        return _root_named_by(entry, match[1]) if match else None

    def enters(self, directory: str) -> bool:
        del directory  # `recall/sessions/` and others have files with the same names
        return False

    def stat(self, session: Session) -> Stat | None:
        return stat_at(session.path)

    def inner(self, root: Path, name: str) -> None:
        del root, name

    def is_store(self, name: str) -> bool:
        del name
        return False

    def counts(self, root: Path, name: str) -> bool:
        del root
        return _NAME.fullmatch(name) is not None

    def session(self, root: Path, name: str) -> Session | None:
        if not self.counts(root, name):
            return None
        return Session(self.name, name.removesuffix(".json"), str(root), name)

    def key(self, names: Names, session: Session) -> str:
        return history_key(names.prefix, session.id)

    def document_key(self, prefix: str, session: Session) -> str | None:
        return document_key(prefix, session.id)

    def lines(self, session: Session, data: bytes, known: int = 0) -> Lines:
        try:
            document = _document.decode(data)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise _explained(data, error) from None
        if document.id != session.id:
            raise Unreadable("wrong_id", "the id inside the document is not the file's name")
        messages = document.messages
        lines = [*messages[:known], *map(_line, messages[known:])]
        return Lines(Joined(lines), len(lines))

    def document(self, session: Session, data: bytes) -> bytes | None:
        del session  # the document says it all
        return _encoded(data, _rest(data))

    def frame(self, session_id: str, document: bytes | None, saved_at: float) -> Frame:
        least = msgspec.json.encode(_least(saved_at))
        fields = _rest(least if document is None else document)
        fields["id"] = msgspec.Raw(msgspec.json.encode(session_id))
        rest = _encoded(document or least, fields)
        return Frame(rest[:-1] + b',"messages":[', b",", b"]}")

    def record(self, line: bytes) -> bytes:
        try:
            return bytes(_line(line))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise _explained(line, error) from None

    def saved_at(self, data: bytes) -> float | None:
        try:
            at = datetime.fromisoformat(_saved.decode(data).updated_at)
        except (ValueError, RecursionError):  # those of msgspec are `ValueError`s
            return None
        return at.replace(tzinfo=at.tzinfo or UTC).timestamp()

    def homes(self, workspace: Path) -> list[Path]:
        local = _workspace(workspace, self._home) / ".codetether-agent"
        data_dirs = [*self._named_dirs, local, *self._usual_dirs]
        return [data_dir / "sessions" for data_dir in data_dirs]

    def home(self, document: bytes | None) -> Path:
        if self._named_dirs:
            return self._named_dirs[0] / "sessions"
        named = named_in(document) if document else None
        if named and os.path.isdir(named):  # noqa: PTH112 - a path with a NUL is none, too
            workspace = _workspace(Path(named), self._home)
            if os.access(workspace, os.W_OK | os.X_OK):
                return workspace / ".codetether-agent" / "sessions"
        return self._usual_dirs[0] / "sessions"

    def pointer(self, session: Session) -> Path:
        data_dir = [*self._named_dirs, *self._usual_dirs][0]
        return data_dir / "session-locations" / f"{session.id}.path"

    def latest(self, root: Path, workspace: str) -> Session | None:
        try:
            with open(root / _LATEST, "rb", opener=_open_file) as file:
                entries = _latest.decode(file.read(_MAX_LATEST_BYTES)).entries
        except (OSError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return None
        named = entries.get(workspace)
        return self.session(root, f"{named}.json") if named else None


def compact(raw: msgspec.Raw | bytes) -> msgspec.Raw | bytes:
    """Return a JSON value without white space between its parts, itself if it has none."""
    formatted = msgspec.json.format(raw, indent=-1)
    return raw if len(formatted) == len(memoryview(raw)) else formatted


def _rest(data: bytes) -> dict[str, msgspec.Raw]:
    """Return the fields of a document that do not become lines and may be archived."""
    try:
        fields = _fields.decode(data)
        for name in _NOT_IN_DOCUMENT:
            fields.pop(name, None)
        if "metadata" in fields and bytes(fields["metadata"]).lstrip()[:1] == b"{":
            metadata = _fields.decode(fields["metadata"])
            metadata.pop(_NOT_IN_METADATA, None)
            fields["metadata"] = msgspec.Raw(msgspec.json.encode(metadata))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise _explained(data, error) from None
    return fields


def _encoded(data: bytes, fields: dict[str, msgspec.Raw]) -> bytes:
    try:
        encoded = msgspec.json.format(msgspec.json.encode(fields), indent=-1)
        encoded.decode()
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise _explained(data, error) from None
    return encoded


def _least(saved_at: float) -> dict[str, object]:
    """Return a document with all that CodeTether does not load without, in its order."""
    at = datetime.fromtimestamp(saved_at, UTC).isoformat().replace("+00:00", "Z")
    return {
        "id": "",
        "title": None,
        "created_at": at,
        "updated_at": at,
        "metadata": {"directory": None, "model": None, "shared": False, "share_url": None},
        "agent": "build",
        "tool_uses": [],
        "usage": {**dict.fromkeys(_USAGE, 0), **dict.fromkeys(_CACHE_USAGE)},
    }


def _line(message: msgspec.Raw | bytes) -> msgspec.Raw | bytes:
    line = compact(message)
    try:
        text = str(line, "utf-8")  # that it is UTF-8 is nowhere else checked
    except UnicodeDecodeError as error:
        raise Unreadable("invalid_utf8", f"a message is not UTF-8: {error.reason}") from None
    if not text.startswith("{"):
        raise Unreadable("wrong_type", "a message is not an object")
    return line


def _explained(data: bytes, error: Exception) -> Unreadable:
    """Say what is wrong without quoting the document."""
    if not data:
        return Unreadable("empty", "the file is empty")
    if not data.strip(b"\0 \t\r\n"):
        return Unreadable("blank", "the file holds nothing but NUL bytes or white space")
    if isinstance(error, RecursionError):
        return Unreadable("too_deep", "the document is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return Unreadable("invalid_utf8", f"the document is not UTF-8: {error.reason}")
    if isinstance(error, msgspec.ValidationError):
        return Unreadable("wrong_type", str(error))
    # msgspec reports a lone surrogate escape as truncated input, too.
    return Unreadable("invalid_json", f"not a JSON document: {error}")


def _data_dirs(environ: Mapping[str, str]) -> tuple[list[Path], list[Path]]:
    """Return the data directories that the environment names, and those of the platform."""
    home = Path(environ.get("HOME") or Path.home())
    configured = environ.get("CODETETHER_DATA_DIR", "").strip()
    if sys.platform == "darwin":
        data_home = home / "Library" / "Application Support"
    else:
        data_home = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    named = [Path(configured).expanduser().absolute()] if configured else []
    return named, [data_home / "codetether-agent", data_home / "codetether"]  # older builds


def _roots_of_workspace(home: Path) -> list[Path]:
    try:
        directory = Path.cwd()
    except OSError:
        return []  # it was removed under us
    return [_workspace(directory, home) / ".codetether-agent" / "sessions"]


def _workspace(directory: Path, home: Path) -> Path:
    for ancestor in (directory, *directory.parents):
        if ancestor not in {home, Path("/")} and os.access(ancestor / ".git", os.F_OK):
            return ancestor
    return directory


def _worktrees(root: Path) -> Iterable[Path]:
    """Return the roots of a repository's worktrees: `<repo>/.codetether-worktrees/*/…`."""
    if root.parent.name != ".codetether-agent":
        return []
    return sorted(root.parent.parent.glob(".codetether-worktrees/*/.codetether-agent/sessions"))


def _named_roots(index: Path, since: int) -> Iterator[tuple[int, Path | None]]:
    """Yield (time of change, root) for each entry of an index that changed at or after `since`."""
    try:
        with os.scandir(index) as entries:
            for entry in entries:
                match = _POINTER.fullmatch(entry.name)
                if match is None or (changed := _changed(entry)) is None:
                    continue
                if changed >= since:
                    yield changed, _root_named_by(Path(entry.path), match[1])
    except OSError:
        return  # no index, no further roots


def _open_file(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not modes.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


def _changed(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat(follow_symlinks=False).st_mtime_ns
    except OSError:
        return None  # it went in this moment; the others count


def _root_named_by(pointer: Path, session_id: str) -> Path | None:
    """Return the sessions directory that an index entry leads to, if the entry counts."""
    try:
        with open(pointer, "rb", opener=_open_file) as file:
            target = Path(os.fsdecode(file.read(_MAX_POINTER_BYTES).strip()))
        counts = target.is_absolute() and target.name == f"{session_id}.json" and target.is_file()
    except (OSError, ValueError):
        return None
    return target.parent if counts and target.parent.name == "sessions" else None
