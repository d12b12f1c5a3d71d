"""Projects that live in another directory now: what of a session says where it was.

Claude Code names a project's directory after its path and says the path in each record; Codex says
it in the records from which it resumes, CodeTether once in its document. Only these values change:
every other byte stays. Pure; knows neither files nor the archive.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from transcriptd.workspace import is_directory

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_LINE = 1 << 20
_CWD = b'"cwd"'
_CODEX_TYPES = frozenset({"session_meta", "turn_context"})
# A string without an end goes to the end: nothing behind its beginning is looked at as well.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_COLON = re.compile(rb"[ \t\r\n]*:")
_UNNAMED = re.compile(r"[^A-Za-z0-9]")
_BEYOND_16_BITS = 0xFFFF


class _Claude(msgspec.Struct):
    cwd: str


class _Payload(msgspec.Struct):
    cwd: str


class _Codex(msgspec.Struct):
    type: str
    payload: _Payload


class _Metadata(msgspec.Struct):
    directory: str


class _Document(msgspec.Struct):
    metadata: _Metadata


_claude = msgspec.json.Decoder(_Claude)
_codex = msgspec.json.Decoder(_Codex)
_document = msgspec.json.Decoder(_Document)
_string = msgspec.json.Decoder(str)
_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


def project_name(directory: str) -> str:
    """Return how Claude Code names the directory that it keeps for a project.

    It counts in units of UTF-16, as JavaScript does.
    """
    return _UNNAMED.sub(lambda m: "--" if ord(m[0]) > _BEYOND_16_BITS else "-", directory)


def may_be_below(name: str, project: str) -> bool:
    """Say whether the directory with one of Claude Code's names may lie below that with another."""
    return name.startswith(f"{project.rstrip('-')}-")


def main_path(path: str) -> str:
    """Return which transcript of Claude Code a file belongs to, by its path.

    What belongs to a session says nothing by itself: it stands in a directory of its name.
    """
    project, _, rest = path.partition("/")
    return f"{project}/{rest.partition('/')[0].removesuffix('.jsonl')}.jsonl"


def directory_in_head(head: bytes) -> str | None:
    """Return the directory that a CodeTether document names, of which this is the beginning."""
    try:
        span = _span(head, [b'"metadata"', b'"directory"'])
        said = _string.decode(head[slice(*span)]) if span else ""
    except (IndexError, *_UNREADABLE):  # it is no document
        return None
    return said if is_directory(said) else None


def directory_in(agent: str, line: bytes) -> str | None:
    """Return the directory that a record says its agent works in; `None` where it says none."""
    said = ""
    try:
        if agent == "claude":
            said = _claude.decode(line).cwd
        elif agent == "codex":
            record = _codex.decode(line)
            said = record.payload.cwd if record.type in _CODEX_TYPES else ""
    except _UNREADABLE:
        return None
    return said if is_directory(said) else None


class Remap:
    """Directories and where each is now. Raises `ValueError` for what cannot be meant."""

    def __init__(self, moved: Iterable[tuple[str, str]]) -> None:
        self._moved: dict[str, str] = {}
        for old, new in moved:
            if not old.startswith("/") or not new.startswith("/"):
                raise ValueError(f"expected two absolute directories, got {old}={new}")
            f"{old}{new}".encode()  # raises for what is no text
            if self._moved.setdefault(_trimmed(old), _trimmed(new)) != _trimmed(new):
                raise ValueError(f"{old} cannot be in two places")

    def directory(self, at: str) -> str | None:
        """Return where a directory, or one around it, is now; `None` where it did not move."""
        for old in sorted(self._moved, key=len, reverse=True):
            if at == old or at.startswith(old.rstrip("/") + "/"):
                rest = at[len(old.rstrip("/")) :]
                return (self._moved[old].rstrip("/") + rest) or "/"
        return None

    def may_move(self, agent: str, path: str) -> bool:
        """Say whether the path of a mirrored file may say a directory that moved."""
        name = path.partition("/")[0]
        return agent == "claude" and any(name.startswith(project_name(o)) for o in self._moved)

    def path(self, agent: str, path: str, directory: str | None) -> str:
        """Return the path of a mirrored file as it is now.

        `directory` is what the session says that it is about: a name alone may stand for several.
        """
        name, separator, rest = path.partition("/")
        if agent != "claude":
            return path
        if directory is not None and project_name(directory) == name:
            now = self.directory(directory)
        else:
            now = next((new for old, new in self._moved.items() if project_name(old) == name), None)
        return project_name(now) + separator + rest if now else path

    def mapper(self, agent: str, path: str) -> Mapper | None:
        """Return what changes the records of a mirrored file; `None` where nothing may change."""
        is_known = agent == "codex" or (agent == "claude" and path.endswith(".jsonl"))
        return Mapper(self, agent) if is_known else None

    def document(self, document: bytes) -> bytes:
        """Return what a CodeTether document is now, or the rest of one besides its lines."""
        try:
            said = _document.decode(document).metadata.directory
        except _UNREADABLE:
            return document
        return _changed(document, ("metadata", "directory"), said, self.directory(said))

    def record(self, agent: str, line: bytes) -> bytes:
        """Return what a record is now."""
        if _CWD not in line:
            return line
        said = directory_in(agent, line)
        now = self.directory(said) if said is not None else None
        keys = ("payload", "cwd") if agent == "codex" else ("cwd",)
        return line if said is None else _changed(line, keys, said, now)


class Mapper:
    """Changes the records of one stream, which arrives in pieces of any size.

    A line above 1 MiB is left as it is: `left` counts them.
    """

    def __init__(self, remap: Remap, agent: str) -> None:
        self._remap = remap
        self._agent = agent
        self._kept: list[bytes] = []
        self._length = 0
        self._passes = False
        self.left = 0

    def feed(self, chunk: bytes) -> bytes:
        """Return what is known to stand there next."""
        *ended, rest = chunk.split(b"\n")
        out = [self._end(line + b"\n") for line in ended]
        return b"".join([*out, self._add(rest)])

    def end(self) -> bytes:
        """Return what is left: a last line without a line feed."""
        return self._end(b"")

    def _add(self, part: bytes) -> bytes:
        if self._passes:
            return part
        self._kept.append(part)
        self._length += len(part)
        if self._length <= LONGEST_LINE:
            return b""
        self._passes = True
        self.left += 1
        return self._taken()

    def _end(self, part: bytes) -> bytes:
        out = self._add(part)
        line, passed = self._taken(), self._passes
        self._passes = False
        return out if passed or not line else self._remap.record(self._agent, line)

    def _taken(self) -> bytes:
        taken = b"".join(self._kept)
        self._kept, self._length = [], 0
        return taken


def _trimmed(directory: str) -> str:
    return directory.rstrip("/") or "/"


def _changed(data: bytes, keys: tuple[str, ...], said: str, now: str | None) -> bytes:
    """Put one string of a JSON object in the place of another; all else stays as it is."""
    if now is None or now == said:
        return data
    span = _span(data, [f'"{key}"'.encode() for key in keys])
    if span is None or _string.decode(data[slice(*span)]) != said:
        return data  # its key is spelt in escapes, or stands there twice
    start, end = span
    return data[:start] + msgspec.json.encode(now) + data[end:]


def _span(data: bytes, keys: list[bytes]) -> tuple[int, int] | None:
    """Return where in a JSON object the string lies that these keys lead to."""
    at: list[bytes] = []  # the key in each object around, nothing in an array
    for token in _TOKEN.finditer(data):
        text = token[0]
        if text in b"{[":
            at.append(b"")
        elif text in b"}]":
            del at[-1:]
        elif _COLON.match(data, token.end()):
            at[-1] = text
        elif at == keys:
            return token.span()
    return None
