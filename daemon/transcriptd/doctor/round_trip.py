"""Whether the archive does what it must: scratch objects written, read back and removed.

Uses a store as the daemon does, and nothing else of it.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from time import perf_counter, time
from typing import TYPE_CHECKING

from transcriptd.doctor import guarantees
from transcriptd.doctor.finding import Finding, Level, counted
from transcriptd.errors import AccessDenied, ConditionFailed, StoreError, Unsupported
from transcriptd.layout import probe_prefix
from transcriptd.stores import Absent, Matches
from transcriptd.stores.local import open_store as open_local
from transcriptd.stores.outcome import outcome_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from transcriptd.config import Config
    from transcriptd.stores import Condition, Store

_SECTION = "archive"
_DENIED = outcome_of(AccessDenied())
_PATIENCE_S = 60.0
_SKEW_S = 30.0
_OTHER_TAG = "0" * 32
_METADATA = {"td-format": "1", "td-doctor": "scratch"}
_DEFAULT_PREFIX = "history/"
_IN_PARTS = "copy_parts"
_NICE_TO_HAVE = {
    "abort_upload": "s3:AbortMultipartUpload",
    "list_uploads": "s3:ListBucketMultipartUploads",
}


async def examine(
    store: Store, prefix: str, *, clock: Callable[[], float] = time
) -> AsyncIterator[Finding]:
    """Make a round trip. Ends at the first step that fails."""
    yield Finding(_SECTION, Level.OK, "place", store.place)
    key = f"{probe_prefix(prefix)}doctor-{secrets.token_hex(6)}"
    checks = (_write, _clock, _read, _conditions, _list)
    trip = _Trip(store, key, clock)
    written = False
    for check in checks:
        finding = await _bounded(check.__name__.strip("_"), check(trip))
        yield finding
        if finding.level is Level.FAIL:
            break
        written = True
    if written:
        yield await _bounded("remove", _remove(trip))
        if _IN_PARTS in store.guarantees:
            yield await _bounded("uploads", _uploads(trip))
        for finding in guarantees.explain(store.guarantees):
            yield finding


async def only_local(store: Store, config: Config) -> AsyncIterator[Finding]:
    """Count what the local archive of an earlier configuration holds and this one does not."""
    path = config.local.path
    if not path.is_dir():
        return
    local = open_local(config)
    try:
        missing = {_below(entry.key, config.prefix) async for entry in local.list("")} - {""}
        async for entry in store.list(config.prefix):
            missing.discard(entry.key.removeprefix(config.prefix))
    except StoreError as error:
        yield Finding(_SECTION, Level.WARN, "local", f"not compared: {error}", error.hint)
        return
    finally:
        await local.close()
    sessions = sum(not key.startswith(".") for key in missing)
    if not missing:
        yield Finding(_SECTION, Level.OK, "local", f"nothing exists only in {path}")
        return
    yield Finding(
        _SECTION, Level.WARN, "local",
        f"only {path} has {counted(sessions, 'session')} and "
        f"{counted(len(missing) - sessions, 'other stream')} (finished generations, conflicts)",
        f"they stay there; `transcriptd cat SESSION --set local.path={path}` reads them",
    )  # fmt: skip


class _Trip:
    def __init__(self, store: Store, key: str, clock: Callable[[], float]) -> None:
        self.store = store
        self.key = key
        self.body = b"transcriptd doctor " + secrets.token_hex(16).encode() + b"\n"
        self.clock = clock
        self.etag = ""

    async def is_refused(self, condition: Condition) -> bool:
        try:
            await self.store.put(self.key, b"overwritten", _METADATA, condition)
        except ConditionFailed:
            return True
        return False


async def _bounded(name: str, check: Coroutine[None, None, Finding]) -> Finding:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await check
    except TimeoutError:
        return Finding(_SECTION, Level.FAIL, name, f"no answer within {_PATIENCE_S:g} s")
    except StoreError as error:
        return Finding(_SECTION, Level.FAIL, name, str(error), error.hint)


async def _write(trip: _Trip) -> Finding:
    # What the server honours is found out before the first write; that is not part of the time.
    await trip.store.put(trip.key, trip.body, _METADATA, Absent())
    started = perf_counter()
    await trip.store.put(trip.key, trip.body, _METADATA)
    took_ms = (perf_counter() - started) * 1000
    return Finding(_SECTION, Level.OK, "write", f"{took_ms:.0f} ms")


async def _clock(trip: _Trip) -> Finding:
    head = await trip.store.head(trip.key)
    now = trip.clock()
    if head is None or head.size != len(trip.body):
        return Finding(_SECTION, Level.FAIL, "head", "what was written is not there")
    if not _METADATA.items() <= head.metadata.items():
        return Finding(
            _SECTION, Level.FAIL, "head", "the metadata that was written is not there",
            "something between here and the store removes x-amz-meta-* headers",
        )  # fmt: skip
    trip.etag = head.etag
    skew = now - head.modified
    if abs(skew) > _SKEW_S:
        way = "ahead of" if skew > 0 else "behind"
        message = f"this clock is {abs(skew):.0f} s {way} the store's"
        return Finding(_SECTION, Level.WARN, "clock", message, "start time synchronisation")
    return Finding(_SECTION, Level.OK, "clock", f"within {_SKEW_S:g} s of the store's")


async def _read(trip: _Trip) -> Finding:
    started = perf_counter()
    async with trip.store.read(trip.key, etag=trip.etag) as reading:
        whole = b"".join([chunk async for chunk in reading.chunks])
    took_ms = (perf_counter() - started) * 1000
    try:
        async with trip.store.read(trip.key, 3, 9) as reading:
            part = b"".join([chunk async for chunk in reading.chunks])
    except Unsupported as error:
        return Finding(_SECTION, Level.WARN, "read", str(error), "pointers cannot be resolved")
    if (whole, part) != (trip.body, trip.body[3:9]):
        return Finding(_SECTION, Level.FAIL, "read", "what came back is not what was written")
    return Finding(_SECTION, Level.OK, "read", f"{took_ms:.0f} ms, whole and in part")


async def _conditions(trip: _Trip) -> Finding:
    if not await trip.is_refused(Absent()) or not await trip.is_refused(Matches(_OTHER_TAG)):
        return Finding(_SECTION, Level.FAIL, "conditions", "a write went past its condition")
    return Finding(_SECTION, Level.OK, "conditions", "writes that must not be are refused")


async def _list(trip: _Trip) -> Finding:
    try:
        keys = {entry.key async for entry in trip.store.list(trip.key)}
    except AccessDenied as error:
        return _without_listing(error)
    if trip.key not in keys:
        return Finding(_SECTION, Level.WARN, "list", "listings lag behind what is written")
    return Finding(_SECTION, Level.OK, "list", "what was written is listed")


def _without_listing(refused: AccessDenied) -> Finding:
    message = (
        f"{refused}: whole objects are kept and no tails, so that each save sends its session "
        "again; and what is archived cannot be listed"
    )
    return Finding(_SECTION, Level.WARN, "list", message, "grant s3:ListBucket")


async def _remove(trip: _Trip) -> Finding:
    try:
        await trip.store.delete(trip.key)
    except AccessDenied as error:
        message = f"{error}: folded segments stay below .tail/. Nothing is wrong, they take room"
        hint = "grant s3:DeleteObject below .tail/ to have it back"
        return Finding(_SECTION, Level.OK, "remove", message, hint)
    # Who may not list is told by AWS that what is absent is forbidden.
    with suppress(AccessDenied):
        if await trip.store.head(trip.key) is not None:
            return Finding(_SECTION, Level.WARN, "remove", "what was removed is still there")
    return Finding(_SECTION, Level.OK, "remove", "done")


async def _uploads(trip: _Trip) -> Finding:
    """Have uploads in parts tried, and look which of the rights around them are missing."""
    await trip.store.copies()
    await trip.store.discard_uploads(trip.key)
    asked = trip.store.traffic.requests
    lacking = [right for op, right in _NICE_TO_HAVE.items() if (op, _DENIED) in asked]
    if not lacking:
        return Finding(_SECTION, Level.OK, "uploads", "in parts, were tried")
    message = (
        f"no right to {', '.join(lacking)}: nothing is wrong, but what an interrupted upload "
        "leaves behind takes room until the store removes it"
    )
    hint = "grant it, or have the bucket abort unfinished uploads after a day"
    return Finding(_SECTION, Level.OK, "uploads", message, hint)


def _below(key: str, prefix: str) -> str:
    """Return what a key of the local archive is below its prefix; empty for what is no stream."""
    for known in (prefix, _DEFAULT_PREFIX):
        if key.startswith(known):
            rest = key.removeprefix(known)
            is_stream = rest.endswith(".jsonl") and not rest.startswith(".tail/")
            return rest if is_stream else ""
    return ""
