"""What the rules find in a file or a session of this machine, line by line.

Reads, and nothing else. Of what was found no more leaves than its place and, where that is asked
for, a hint of it. Memory does not grow with the size of a file, but for documents and for sessions
inside a database, which are read whole.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transcriptd.content import BLOCK, Held
from transcriptd.errors import Unreadable
from transcriptd.files import open_content, open_file
from transcriptd.inflated import Inflated
from transcriptd.redaction import in_lines, in_text
from transcriptd.snapshot import read
from transcriptd.sources.codetether import CodeTether
from transcriptd.tree import JSONL, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transcriptd.content import Content
    from transcriptd.model import Session
    from transcriptd.redaction import RuleSet
    from transcriptd.sources import Documents, Source

_COMPRESSED = ".jsonl.zst"
_SHOWN = 4  # characters at either end of a hint, at most
_SIXTH = 6  # so that both ends together are a third at most
_EDGE = 1 << 10  # bytes, of a match that is too long to be read whole
_MARKS = 16


@dataclass(frozen=True, slots=True)
class Subject:
    """One file, or one session inside of one. Without a `source` it is nobody's session.

    `size` is about how many bytes there are to read.
    """

    session: Session
    source: Source | None = None
    size: int = 0


@dataclass(frozen=True, slots=True)
class Find:
    """What a rule takes for a secret. `hint` is empty unless it was asked for.

    `line` counts from 1; of a document's messages each is one. What stands beside the messages,
    which is archived as `session.json`, has none.
    """

    rule: str
    line: int | None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class _Part:
    content: Content
    has_lines: bool = True
    is_numbered: bool = True


def finds_in(
    rules: RuleSet,
    subject: Subject,
    *,
    max_document: int,
    with_hints: bool = False,
    on_read: Callable[[float], None] = lambda _: None,
) -> Iterator[Find]:
    """Yield what the rules find, in order. Blocks.

    `max_document` (bytes) bounds what is read whole; `on_read` hears how much of the subject is
    read, from 0 to 1. Raises any `SourceError`, or `Unscannable`.
    """
    for part in _parts(subject, max_document):
        content = _Counted(part.content, on_read if part.is_numbered else _unheard)
        look = in_lines if part.has_lines else in_text
        for each in look(rules, content, 0, content.size):
            line = content.line(each.start) if part.is_numbered else None
            shown = hint(part.content, each.start, each.end) if with_hints else ""
            yield Find(each.rule, line, shown)


def hint(content: Content, start: int, end: int) -> str:
    """Return the ends of bytes `[start, end)`: up to 4 characters each, a third of all at most."""
    if end - start > 2 * _EDGE:
        raw = content.read(start, start + _EDGE) + content.read(end - _EDGE, end)
    else:
        raw = content.read(start, end)
    text = raw.decode("utf-8", "replace")
    kept = min(_SHOWN, len(text) // _SIXTH)
    return f"{text[:kept]}…{text[-kept:]}" if kept else "…"


def _parts(subject: Subject, max_document: int) -> Iterator[_Part]:
    session, source = subject.session, subject.source
    if isinstance(source, Tree):
        content, _ = source.content(session, max_document)
        yield _Part(content, source.is_jsonl(session))
    elif source:
        data, _ = read(session, max_document)
        yield from _document(source, session, data)
    elif session.name.endswith(_COMPRESSED):
        yield _Part(Inflated.measure(lambda: open_file(session), sys.maxsize))
    else:
        has_lines = JSONL.fullmatch(session.name) is not None
        yield from _file(session, max_document, has_lines=has_lines)


def _file(session: Session, max_document: int, *, has_lines: bool) -> Iterator[_Part]:
    """Yield what a file of whomever holds: messages, where it is a document of CodeTether's."""
    content: Content = open_content(session)
    source = CodeTether((), {})
    document = source.session(Path(session.root), session.name)
    if document and content.size <= max_document:
        data, _ = read(document, max_document)
        try:
            yield from _document(source, document, data)
        except Unreadable:
            content = Held(data)
        else:
            return
    yield _Part(content, has_lines)


def _document(source: Documents, session: Session, data: bytes) -> Iterator[_Part]:
    lines, rest = source.lines(session, data), source.document(session, data)
    yield _Part(lines.content)
    if rest:
        yield _Part(Held(rest), is_numbered=False)


def _unheard(_: float) -> None:
    """Hear nothing of what is read beside the messages."""


class _Counted:
    """Content, which counts the lines of what is read from it while that passes.

    So a file is read once. What it says of lines is true in whatever order it is read; near the
    end of what was read it is cheap.
    """

    def __init__(self, content: Content, on_read: Callable[[float], None]) -> None:
        self._content = content
        self._on_read = on_read
        # Places, and how many line feeds are before each: the last one asked for, and those where
        # pieces ended.
        self._asked = (0, 0)
        self._marks = deque([(0, 0)], maxlen=_MARKS)

    @property
    def size(self) -> int:
        return self._content.size

    def read(self, start: int, end: int) -> bytes:
        piece = self._content.read(start, end)
        last, feeds = self._marks[-1]
        behind = start + len(piece)
        if start <= last < behind:
            self._marks.append((behind, feeds + piece.count(b"\n", last - start)))
            self._on_read(behind / self.size)
        return piece

    def line(self, at: int) -> int:
        """Return the number of the line that has byte `at`, from 1. Places are asked in order."""
        before = max(mark for mark in (self._asked, *self._marks) if mark[0] <= at)
        behind = min((mark for mark in self._marks if mark[0] >= at), default=(at, -1))
        start, feeds = before
        if behind[1] != feeds:  # else nothing is to be counted, such as in a line of many pieces
            while start < at:
                piece = self._content.read(start, min(start + BLOCK, at))
                feeds += piece.count(b"\n")
                start += len(piece)
        self._asked = (at, feeds)
        return feeds + 1


def _conforms(content: _Counted) -> Content:
    return content
