"""How a session of this machine stands to its archive."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transcriptd.digest import digests
from transcriptd.model import State
from transcriptd.plan import Relation
from transcriptd.verify.audit import RESTORE, held
from transcriptd.verify.finding import Finding, What

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transcriptd.content import Content
    from transcriptd.masks import Secret
    from transcriptd.model import Cursor, Session, Stat
    from transcriptd.rows import Record
    from transcriptd.verify.here import Here, Read
    from transcriptd.verify.look import Found

_AGAIN = "the session's file still has them: the session's next save archives them again"
_CHANGE = "the session's next save archives it as a new generation"


@dataclass(frozen=True, slots=True)
class Standing:
    """A session's state, why, and what is wrong with it beside what is wrong with its stream."""

    state: State
    reason: str = ""
    findings: tuple[Finding, ...] = ()


async def stand(
    here: Here,
    session: Session,
    record: Record | None,
    found: Found,
    *,
    known: Mapping[int, str],
    read: Read | None,
) -> Standing:
    """Say how a session stands. `known` are digests of the current generation by length.

    `record` is what the journal knew before the archive was looked at, `read` the file as it was
    before, where everything is to be compared; else the file is read where the journal's word is
    not enough.
    """
    cursor = record.cursor if record and record.cursor and record.cursor.key == found.key else None
    stat = read.stat if read else await here.stat(session)
    compared = read is not None
    trusted = _trusted(record, cursor, stat, found)
    if trusted is None or (cursor and not held(found, cursor, known)):
        read = read or await here.read(session, record if cursor else None)
    state, reason = trusted or State.PENDING, record.reason if trusted and record else ""
    relation = None
    if read is not None:
        state, reason = read.state, read.reason
    if read is not None and read.content is not None:
        relation = await asyncio.to_thread(_relation_of, read, known, found, here.secret)
        is_aside = found.key != here.base_key(session)
        state = _state(relation, read.content.size, found, is_aside=is_aside)
    if cursor and not held(found, cursor, known):
        content = read.content if read else None
        has = content is not None and await asyncio.to_thread(_has, content, cursor)
        return Standing(State.PENDING if has else state, reason, (_gone(cursor, has=has),))
    if compared and trusted and relation is Relation.DIFFERS and found.machine == here.machine:
        message = "the session's file is not what was archived of it, though it seems unchanged"
        return Standing(state, reason, (Finding(What.DIFFERS, found.key, message, _CHANGE),))
    return Standing(state, reason)


def _trusted(
    record: Record | None, cursor: Cursor | None, stat: Stat | None, found: Found
) -> State | None:
    """Return the state by the journal, where file and archive are what they were by then."""
    if record is None or record.stat is None or record.stat != stat:
        return None
    if record.state in {State.QUARANTINED, State.EXCLUDED}:
        return record.state
    if record.state not in {State.CURRENT, State.CONFLICT}:
        return None
    if cursor is None:
        return record.state if found.head is None else None
    is_same = (found.generation, found.chain.end) == (cursor.generation, cursor.length)
    return record.state if is_same else None


def _relation_of(
    read: Read, known: Mapping[int, str], found: Found, secret: Secret | None
) -> Relation | None:
    """Say how a file stands to what is archived, by whichever rules that was masked, if at all."""
    relation = _relation(read.content, known, found) if read.content else None
    if relation is Relation.EXTENDS or read.plain is None:
        return relation
    is_told = _relation(read.plain, known, found) is Relation.EXTENDS
    return Relation.EXTENDS if is_told or _is_proven(read.plain, known, found, secret) else relation


def _is_proven(
    plain: Content, known: Mapping[int, str], found: Found, secret: Secret | None
) -> bool:
    """Whether the archive says, keyed with our secret, that its source began so."""
    said, end = found.said_of_source, found.chain.end
    is_whole = found.digests().items() <= known.items()
    if not (said and secret and is_whole) or end > plain.size:
        return False
    return secret.proves(said, digests(plain, [end])[0])


def _relation(content: Content, known: Mapping[int, str], found: Found) -> Relation | None:
    """Say how a file's content stands to what is archived; `None` where too little is known."""
    lengths = sorted(length for length in known if length <= content.size)
    if not lengths:
        return None
    if digests(content, lengths) != [known[length] for length in lengths]:
        return Relation.DIFFERS
    if found.chain.end <= content.size:
        return Relation.EXTENDS
    return Relation.BEHIND if content.size in known else None


def _state(relation: Relation | None, size: int, found: Found, *, is_aside: bool) -> State:
    if found.head is None:
        return State.PENDING if size else State.CURRENT
    if relation is Relation.EXTENDS and size == found.chain.end:
        return State.CONFLICT if is_aside else State.CURRENT
    return State.BEHIND if relation is Relation.BEHIND else State.PENDING


def _has(content: Content, cursor: Cursor) -> bool:
    if content.size < cursor.length:
        return False
    return digests(content, [cursor.length]) == [cursor.digest]


def _gone(cursor: Cursor, *, has: bool) -> Finding:
    message = (
        f"{cursor.length:,} bytes of generation {cursor.generation} were archived, by this "
        "machine's journal, and do not stand in the archive"
    )
    if has:
        return Finding(What.MISSING, cursor.key, message, _AGAIN)
    return Finding(What.LOST, cursor.key, f"{message}, nor in the session's file", RESTORE)
