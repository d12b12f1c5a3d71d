"""Reading what the archive holds, byte by byte, and holding it against its digests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from transcriptd.archive import Span, Stray, open_stream
from transcriptd.compare import digest_of
from transcriptd.digest import Digester
from transcriptd.errors import NotFound, Superseded
from transcriptd.layout import META_PREFIX, Meta, document_digest
from transcriptd.verify.audit import KEEP, RESTORE, foreign_segment
from transcriptd.verify.finding import Finding, What
from transcriptd.verify.inventory import Has
from transcriptd.verify.places import document_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from typing import Protocol, TypeVar

    from transcriptd.stores import Store
    from transcriptd.tail import Segment
    from transcriptd.verify.look import Found

    T = TypeVar("T")

    class Ask(Protocol):
        """Tries something until it is done, or hopeless."""

        async def __call__(self, attempt: Callable[[], Awaitable[T]]) -> T: ...


@dataclass(frozen=True, slots=True)
class Bytes:
    """What the bytes are: digests of the current generation by length, and what is wrong."""

    digests: dict[int, str]
    findings: tuple[Finding, ...]


async def read(
    store: Store,
    prefix: str,
    found: Found,
    lengths: Iterable[int],
    *,
    ask: Ask,
    sleep: Callable[[float], Awaitable[None]],
) -> Bytes:
    """Read everything of a stream. `lengths` are those of which digests are wanted besides.

    Raises `StoreError` and `Superseded`.
    """
    known: dict[int, str] = {}
    faults: list[Stray] = []
    findings: list[Finding] = []
    if found.head is not None and not found.is_short:
        wanted = sorted({*lengths, found.base_length})
        known, faults = await _read_current(store, prefix, found, wanted, sleep)
        findings += _faults(found, known, faults)
    for number, head in sorted(found.closed.items()):
        key, meta = found.keys[number], Meta.decode(head.metadata)
        if meta is None or meta.length != head.size:
            continue  # it has been said
        if await ask(partial(digest_of, store, key, None, head.etag)) != meta.digest:
            findings.append(_other_bytes(key, f"generation {number} is"))
    for segment, holder in _leftovers(found):
        same = await ask(partial(_is_held, store, segment, holder))
        if not same:
            message = f"a tail segment, and {holder} has other bytes in its place"
            findings.append(Finding(What.ORPHAN, segment.key, message, KEEP))
    document = document_of(prefix, found.key) if found.has & Has.DOCUMENT else None
    if document:
        findings += await ask(partial(_read_document, store, document))
    return Bytes(known, tuple(findings))


async def _read_current(
    store: Store,
    prefix: str,
    found: Found,
    wanted: list[int],
    sleep: Callable[[float], Awaitable[None]],
) -> tuple[dict[int, str], list[Stray]]:
    generation = found.generation if found.meta else None
    span = Span(found.key, 0, found.chain.end, generation)
    digester = Digester()
    known: dict[int, str] = {}
    marks = [mark for mark in wanted if mark <= found.chain.end]
    async with open_stream(store, prefix, span, sleep=sleep) as stream:
        async for chunk in stream.chunks:
            piece = memoryview(chunk)
            while marks and digester.length + len(piece) >= marks[0]:
                taken = marks[0] - digester.length
                digester.update(piece[:taken])
                piece = piece[taken:]
                known[marks.pop(0)] = digester.hexdigest()
            digester.update(piece)
        faults = stream.faults
    known[digester.length] = digester.hexdigest()
    return known, faults


def _faults(found: Found, known: dict[int, str], faults: list[Stray]) -> Iterator[Finding]:
    meta = found.meta
    if meta and known.get(meta.length) != meta.digest:
        yield _other_bytes(found.key, "the base is")
        return  # that the segments continue something else follows from it
    for fault in faults:
        if fault.reason == "other_bytes_before_it":
            yield foreign_segment(fault.key)


def _leftovers(found: Found) -> Iterator[tuple[Segment, str]]:
    """Yield segments that should stand elsewhere by now, each with the key of what holds them."""
    for segment in found.chain.folded:
        yield segment, found.key
    for segment in found.tails.segments:
        kept = found.closed.get(segment.generation)
        if kept and segment.generation != found.generation and segment.end <= kept.size:
            yield segment, found.keys[segment.generation]


async def _is_held(store: Store, segment: Segment, holder: str) -> bool:
    try:
        left = await _range_digest(store, segment.key, 0, segment.end - segment.start)
    except NotFound:
        return True  # its writer has removed it
    return left == await _range_digest(store, holder, segment.start, segment.end)


async def _range_digest(store: Store, key: str, start: int, end: int) -> str:
    digester = Digester()
    async with store.read(key, start, end) as reading:
        async for chunk in reading.chunks:
            digester.update(chunk)
    return digester.hexdigest()


async def _read_document(store: Store, key: str) -> list[Finding]:
    try:
        async with store.read(key) as reading:
            body = b"".join([chunk async for chunk in reading.chunks])
    except NotFound:
        raise Superseded("a document went while it was looked at") from None
    told = {name.lower(): said for name, said in reading.head.metadata.items()}
    digest = told.get(f"{META_PREFIX}digest")
    if digest is None:
        message = "the session.json has no metadata of ours: somebody else wrote it"
        return [Finding(What.FOREIGN, key, message, "the session's next save replaces it")]
    return [] if digest == document_digest(body) else [_other_bytes(key, "the session.json is")]


def _other_bytes(key: str, name: str) -> Finding:
    message = f"{name} not what its metadata describe: its digest is another"
    return Finding(What.DIGEST, key, message, RESTORE)
