"""What is the matter with what was found of a stream, by the rules of the format. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transcriptd.layout import META_PREFIX, Meta, SegmentMeta, generation_key
from transcriptd.verify.finding import Finding, What
from transcriptd.verify.inventory import Has
from transcriptd.verify.places import document_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Sized

    from transcriptd.model import Cursor
    from transcriptd.stores import Head
    from transcriptd.tail import Segment
    from transcriptd.verify.look import Found

KEEP = "verify changes nothing; keep what is there, and look who else writes to this archive"
_UPDATE = "a later transcriptd may have written it: check with that version"
RESTORE = "bring the object back from a backup, or from an earlier version if the bucket keeps them"
_STRAY = "readers stop before it; look who else writes to this stream"


def audit(prefix: str, found: Found, *, is_adopted: bool = False) -> Iterator[Finding]:
    """Yield what is wrong.

    `is_adopted`: this machine goes on from a base that somebody wrote without our metadata.
    """
    yield from _base(found, is_adopted=is_adopted)
    yield from _numbers(prefix, found)
    for number, head in sorted(found.closed.items()):
        yield from _finished(found.keys[number], number, head)
    yield from _tail(found)
    yield from _orphans(prefix, found)


def held(found: Found, cursor: Cursor, known: Mapping[int, str]) -> bool:
    """Say whether the archive holds what our journal says was archived.

    `known` are digests of the current generation by length. What is not known is believed.
    """
    kept = found.closed.get(cursor.generation)
    if kept is not None and kept.size >= cursor.length:
        meta = Meta.decode(kept.metadata)
        told = meta.digest if meta and meta.length == cursor.length else cursor.digest
        return told == cursor.digest
    if found.head is None:
        return False
    if found.meta and found.generation != cursor.generation:
        return False  # without our metadata the number is not known: then its bytes count
    end = found.head.size if found.is_short else found.chain.end
    return end >= cursor.length and known.get(cursor.length, cursor.digest) == cursor.digest


def _base(found: Found, *, is_adopted: bool) -> Iterator[Finding]:
    if found.head is None:
        return
    if found.meta is None:
        if not is_adopted:
            yield _untold(found.key, found.head, "the base")
        return
    yield from _length(found.key, found.head, found.meta)


def _length(key: str, head: Head, meta: Meta) -> Iterator[Finding]:
    if head.size < meta.length:
        yield Finding(
            What.LENGTH, key, f"{head.size:,} bytes stand there where {meta.length:,} should", KEEP
        )
    elif head.size > meta.length:
        message = f"{head.size:,} bytes stand there; its metadata say {meta.length:,}"
        yield Finding(What.LENGTH, key, message, KEEP)


def _untold(key: str, head: Head, name: str) -> Finding:
    """Say what is the matter with an object that does not tell us what it is."""
    said = {word.lower(): value for word, value in head.metadata.items()}
    version = said.get(f"{META_PREFIX}format")
    if version is not None:
        message = f"{name} is of format {version[:20]!r}, or its metadata are damaged"
        return Finding(What.FORMAT, key, message, _UPDATE)
    return Finding(
        What.FOREIGN, key, f"{name} has no metadata of ours: somebody else wrote it",
        "CodeTether's own sink writes so: give the CODETETHER_HISTORY_S3_* variables to "
        "transcriptd alone; the session's next save adopts it, or keeps it aside",
    )  # fmt: skip


def _numbers(prefix: str, found: Found) -> Iterator[Finding]:
    """Hold the numbers of the generations against each other."""
    current = found.generation
    if current is None:
        return
    before = -1
    for number in sorted({*found.closed, current}):
        if before + 1 < number <= current:
            yield _nowhere(prefix, found, before + 1, number - 1)
        before = number
    for number in sorted(found.closed):
        if number > current:
            message = f"generation {number} is finished, and the base is of generation {current}"
            yield Finding(What.NUMBER, found.keys[number], message, KEEP)


def _nowhere(prefix: str, found: Found, first: int, last: int) -> Finding:
    several = f"generations {first} to {last} stand"
    which = f"generation {first} stands" if first == last else several
    return Finding(
        What.LOST, generation_key(prefix, found.key, first),
        f"{which} nowhere, and the current one is {found.generation}", RESTORE,
    )  # fmt: skip


def _finished(key: str, number: int, head: Head) -> Iterator[Finding]:
    meta = Meta.decode(head.metadata)
    if meta is None:
        yield _untold(key, head, f"generation {number}")
        return
    if meta.generation != number:
        message = f"it lies there as generation {number} and says that it is {meta.generation}"
        yield Finding(What.NUMBER, key, message, KEEP)
    yield from _length(key, head, meta)


def _tail(found: Found) -> Iterator[Finding]:
    """Look whether the current generation's segments continue its base, each the one before."""
    chained = found.chain
    for segment in chained.content:
        head = found.segments.get(segment.key)
        said = SegmentMeta.decode(head.metadata) if head else None
        if head and said is None:
            yield _untold(segment.key, head, "a tail segment")
        elif said and found.meta and not _continues(found.meta, segment, said):
            yield foreign_segment(segment.key)
    reach = chained.end
    for segment in chained.astray:
        if segment.start > reach:
            message = f"bytes {reach:,} to {segment.start:,} of the stream are missing before it"
            yield Finding(What.GAP, segment.key, message, _STRAY)
        elif segment.start < reach:
            message = f"it begins at {segment.start:,}, and what precedes it ends at {reach:,}"
            yield Finding(What.OVERLAP, segment.key, message, _STRAY)
        reach = max(reach, segment.end)
    yield from _leftover(chained.folded, "the base holds")


def _continues(meta: Meta, segment: Segment, said: SegmentMeta) -> bool:
    """Whether a segment hangs on this base, as far as the two say; behind it, bytes would tell."""
    return segment.start != meta.length or said.pre == meta.digest


def foreign_segment(key: str) -> Finding:
    """Say that a segment hangs on other bytes than those that precede it."""
    message = "the tail segment continues other bytes than those that precede it"
    return Finding(What.FOREIGN_SEGMENT, key, message, _STRAY)


def _orphans(prefix: str, found: Found) -> Iterator[Finding]:
    """Name what belongs to nothing: its base, its generation or its lines are not there."""
    for number in sorted({s.generation for s in found.tails.segments} - {found.generation}):
        segments = found.tails.of(number)
        kept = found.closed.get(number)
        size = kept.size if kept else 0
        yield from _leftover([s for s in segments if s.end <= size], "a finished generation holds")
        if not (beyond := [s for s in segments if s.end > size]):
            continue
        what = f"{_counted(beyond, 'tail segment')} of generation {number}, which "
        what += f"is finished with {size:,} bytes" if kept else "has no base"
        yield Finding(What.ORPHAN, beyond[0].key, what, KEEP)
    if found.head is not None:
        return
    if found.closed:
        what = f"{_counted(found.closed, 'finished generation')} of a stream that has no base"
        yield Finding(What.ORPHAN, found.keys[min(found.closed)], what, KEEP)
    document = document_of(prefix, found.key)
    if found.has & Has.DOCUMENT and document:
        yield Finding(What.ORPHAN, document, "a session.json without lines beside it", KEEP)


def _leftover(segments: Sequence[Segment], held_by: str) -> Iterator[Finding]:
    if segments:
        yield Finding(
            What.LEFTOVER, segments[0].key,
            f"{_counted(segments, 'tail segment')} that {held_by} by now",
            "nothing is wrong; the writer removes it, if it may, when it next looks at the stream",
        )  # fmt: skip


def _counted(several: Sized, name: str) -> str:
    return f"a {name}" if len(several) == 1 else f"{len(several):,} {name}s"
