"""A safe, consistent read of one session file, and what it means against the cursor.

Nothing here trusts the path: it may be a link, a pipe, somebody else's file, or change while it is
read. Runs in a thread; knows neither the store nor the journal.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transcriptd.digest import digests
from transcriptd.errors import Changing, Unreadable
from transcriptd.files import open_file, stat_of, wait_out_the_tick
from transcriptd.model import Cursor, Guard, Session, Snapshot, Stat

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from transcriptd.content import Content
    from transcriptd.model import Mask, Screening
    from transcriptd.sources import Documents, Lines

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Screened:
    """What was done about secrets in a look.

    `plain` is the content as the source has it, `plain_digest` its digest. The first `archived`
    bytes are as they stand in the archive, whatever the rules say by now. `find` asks those about
    all of it: how often each finds something, and what would be masked. It blocks, and raises
    `Unreadable`.
    """

    mode: str
    rules: str
    plain: Content
    plain_digest: str
    screening: Screening
    archived: int
    find: Callable[[], tuple[Counter[str], tuple[Mask, ...]]]


@dataclass(frozen=True, slots=True)
class Look:
    """A snapshot beside what is archived of it.

    `digest` is that of the whole content; `extends` says whether the content begins with all that
    the cursor holds (true where nothing is archived yet). `is_verified`: all of it was read, not
    only what `guard` does not vouch for. `is_unfinished`: behind the content there is a line
    without its end; it counts in `unfinished_s` seconds, if nothing comes meanwhile (`None`: not
    without its end). `origin` is
    the stream that the session had under a former name, where the content begins with all of it.
    `screened` is what the rules say, where there are any: `digest` and `extends` are about what
    they leave. `begins_anew`: the archive was masked by other rules, and with another key.
    """

    snapshot: Snapshot
    digest: str
    extends: bool
    guard: Guard | None = None
    is_verified: bool = True
    is_unfinished: bool = False
    unfinished_s: float | None = None
    origin: Cursor | None = None
    screened: Screened | None = None
    begins_anew: bool = False


def look(
    source: Documents,
    session: Session,
    cursor: Cursor | None,
    *,
    max_bytes: int,
    with_document: bool = False,
) -> Look:
    """Read a session and compare it with its cursor. Raises any `SourceError`."""
    data, stat = read(session, max_bytes)
    known = cursor.records if cursor else 0
    lines = source.lines(session, data, known)
    digest, extends = _compare(lines, cursor)
    if known and not extends:
        # What was archived before is not what stands there now: nothing of it is known any more.
        lines = source.lines(session, data)
        digest, extends = _compare(lines, cursor)
    document = None
    if with_document:
        with contextlib.suppress(Unreadable):  # the lines can be read, and they come first
            document = source.document(session, data)
    snapshot = Snapshot(session, stat, lines.content, lines.records, document)
    return Look(snapshot, digest, extends)


def _compare(lines: Lines, cursor: Cursor | None) -> tuple[str, bool]:
    content, size = lines.content, lines.content.size
    if cursor is None:
        return digests(content, [size])[0], True
    if cursor.length > size:
        return digests(content, [size])[0], False
    before, whole = digests(content, [cursor.length, size])
    return whole, before == cursor.digest


def read(session: Session, max_bytes: int) -> tuple[bytes, Stat]:
    """Read a file that holds still: `fstat` before and after agree.

    Raises `Vanished`, `Changing`, or `Unreadable` for what is no regular file, not owned by us or
    by the owner of its directory, larger than `max_bytes`, or not permitted.
    """
    descriptor = open_file(session)
    try:
        for _ in range(_TRIES):
            before = os.fstat(descriptor)
            if before.st_size > max_bytes:
                message = f"{before.st_size} bytes; max_document allows {max_bytes} bytes"
                raise Unreadable("too_large", message)
            wait_out_the_tick(before.st_mtime_ns)
            data = _read_all(descriptor, before.st_size)
            after = stat_of(os.fstat(descriptor))
            if len(data) == after.size and stat_of(before) == after:
                return data, after
    except OSError as error:
        raise Changing(f"could not be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    raise Changing("it changed each time it was read")


def _read_all(descriptor: int, size: int) -> bytes:
    """Read from the start; one byte more than `size` is asked for, so that growth is noticed."""
    pieces: list[bytes] = []
    offset, wanted = 0, size + 1
    while wanted > 0 and (piece := os.pread(descriptor, wanted, offset)):
        pieces.append(piece)
        offset += len(piece)
        wanted -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
