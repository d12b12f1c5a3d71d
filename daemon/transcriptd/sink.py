"""The library: the Python counterpart of CodeTether's history sink.

What CodeTether does with its five variables, with the daemon's guarantees: nothing archived is
overwritten or shortened, and every absence has a name. Archive format, writer and probe results are
the daemon's own, so that both can write to the same streams. Retries a little and then says so; a
queue that outlives the process is what the daemon is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakValueDictionary

import msgspec

from transcriptd import config, identity
from transcriptd.archive import ATTEMPTS, Bounded, may_pass, open_stream, span_of
from transcriptd.compare import Whole, read_whole
from transcriptd.content import Held
from transcriptd.digest import digests
from transcriptd.errors import (
    AccessDenied,
    AuthFailed,
    Behind,
    ConfigError,
    NotFound,
    RangeInvalid,
    StoreError,
    Superseded,
)
from transcriptd.fault import Fault, Kind
from transcriptd.gate import Gate
from transcriptd.journal import Journal
from transcriptd.layout import Names, conflict_key, history_key, machine_of
from transcriptd.model import Cursor, Session, Snapshot, Stat
from transcriptd.pointer import PointerHandle
from transcriptd.retry import until_done
from transcriptd.screens import screens_of, secret_of
from transcriptd.snapshot import Look
from transcriptd.sources.codetether import compact
from transcriptd.stores import Store, open_store
from transcriptd.survey import survey
from transcriptd.upload import Uploader
from transcriptd.writeback import WritebackJournal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from transcriptd.masks import Secret
    from transcriptd.screen import Screen

__all__ = [
    "Fault",
    "HistorySinkConfig",
    "PointerHandle",
    "WritebackJournal",
    "encode_jsonl_delta",
    "resolve_pointer",
    "upload_full_history",
]

DEFAULT_PREFIX = "history/"
_VARIABLE = "CODETETHER_HISTORY_S3_"
_SESSION_ID = re.compile(r"[\w-]{1,128}")
_LEFT_OUT = "overlaps"  # what lies in the way and is no content disproves nothing

Message: TypeAlias = object
"""Anything that encodes to a JSON object; `bytes` and `msgspec.Raw` are JSON already."""


@dataclass(frozen=True, slots=True)
class HistorySinkConfig:
    """Where CodeTether's history goes. The secret does not show in `repr`."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    prefix: str = DEFAULT_PREFIX

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> HistorySinkConfig | None:
        """Read the five variables, trimmed. `None` where a required one is unset or blank."""
        said = {
            name: environ.get(_VARIABLE + name.upper(), "").strip()
            for name in ("endpoint", "bucket", "access_key", "secret_key")
        }
        if not all(said.values()):
            return None
        prefix = environ.get(f"{_VARIABLE}PREFIX", "").strip() or DEFAULT_PREFIX
        return cls(**said, prefix=prefix if prefix.endswith("/") else f"{prefix}/")

    def object_key(self, session_id: str) -> str:
        """Return the key of a session's history."""
        return history_key(self.prefix, session_id)

    def handle(self, session_id: str) -> PointerHandle:
        """Return a handle to the whole of a session's current history."""
        return PointerHandle(self.bucket, self.object_key(session_id))


_turns: WeakValueDictionary[tuple[int, str, str], asyncio.Lock] = WeakValueDictionary()


def encode_jsonl_delta(messages: Sequence[Message], start: int = 0) -> bytes:
    """Encode `messages[start:]`, each as compact JSON and a line feed.

    JSON that is given as `bytes` or `msgspec.Raw` keeps its values, the spelling of its numbers and
    the order of its keys. Raises `ValueError` for a message that is no JSON object in UTF-8, or a
    negative `start`; `TypeError` for one that cannot be encoded.
    """
    if start < 0:
        raise ValueError(f"start is negative: {start}")
    return b"".join(line for message in messages[start:] for line in (_line(message), b"\n"))


async def upload_full_history(
    sink: HistorySinkConfig,
    session_id: str,
    messages: Sequence[Message],
    *,
    environ: Mapping[str, str] = os.environ,
    attempts: int = ATTEMPTS,
) -> PointerHandle:
    """Archive a session's messages and return a handle to their generation.

    Messages that do not begin with what is archived (or are fewer) start the next generation; the
    finished one is preserved first. Where the key is another writer's, the messages go below
    `.conflicts/` and the handle says so. The machine's name and state directory are the daemon's
    (`environ`, its configuration file).

    What the daemon's configuration masks in CodeTether's sessions is masked (`redaction`); then
    `Unreadable` is raised where the rules cannot look.

    Raises `Behind` where another machine archived more of the same history, `StoreError` where the
    store fails `attempts` times, `ConfigError`, and `ValueError` for a session id or a message that
    cannot be.
    """
    if not _SESSION_ID.fullmatch(session_id):
        raise ValueError(f"not a session id: {session_id!r}")
    content = await asyncio.to_thread(encode_jsonl_delta, messages)
    settings = _configured(sink, environ)
    names = Names(settings.prefix, _writer(settings))
    session = Session("codetether", session_id, "", f"{session_id}.json")
    snapshot = Snapshot(session, Stat(len(content), 0, 0, 0, 0), Held(content), len(messages))
    screens = screens_of(settings, [session.source])
    upload = _Upload(
        snapshot=snapshot,
        base=history_key(settings.prefix, session_id),
        names=names,
        store=open_store(settings),
        screen=screens[session.source],
        secret=_secret(settings, screens.values()),
    )
    # One writer a stream: uploads of one session by this process come one after another.
    loop = asyncio.get_running_loop()
    turn = _turns.setdefault((id(loop), upload.store.place, upload.base), asyncio.Lock())
    async with turn:
        done = await upload.run(attempts)
    if done is None:
        return sink.handle(session_id)
    return PointerHandle(sink.bucket, done.key, generation=done.generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upload:
    """One history on its way. Closes the store in the end."""

    snapshot: Snapshot
    base: str
    names: Names
    store: Store
    screen: Screen
    secret: Secret | None
    gate: Gate = field(default_factory=lambda: Gate(1))

    async def run(self, attempts: int) -> Cursor | None:
        """Return where the stream stands then; `None` where there was nothing to archive."""
        with tempfile.TemporaryDirectory(prefix="transcriptd-") as scratch:
            try:
                async with Journal(Path(scratch, "journal.db")) as journal:
                    uploader = Uploader(self.store, journal, self.names, secret=self.secret)
                    attempt = partial(self._attempt, uploader)
                    return await until_done(attempt, worth_it=may_pass, stop=Bounded(attempts))
            finally:
                await self.store.close()

    async def _attempt(self, uploader: Uploader) -> Cursor | None:
        async with self.gate.turn():
            cursor = await _find_ours(self.store, self.names, self.base)
            look = await asyncio.to_thread(self._look, cursor)
            try:
                look, cursor = await uploader.archive(look, cursor, self.base)
            except Behind:
                if await _find_ours(self.store, self.names, self.base) == cursor:
                    raise
                raise Superseded("another upload came first") from None
            # Whoever knows only the base finds everything there, as CodeTether's do.
            behind = cursor is not None and cursor.tail_length
            return await uploader.seal(look, cursor) if cursor and behind else cursor

    def _look(self, cursor: Cursor | None) -> Look:
        snapshot, content = self.snapshot, self.snapshot.content
        if cursor is None or cursor.length > content.size:
            look = Look(snapshot, digests(content, [content.size])[0], extends=cursor is None)
        else:
            before, whole = digests(content, [cursor.length, content.size])
            look = Look(snapshot, whole, extends=before == cursor.digest)
        return self.screen.screened(look, cursor)


async def resolve_pointer(
    where: HistorySinkConfig | Store,
    handle: PointerHandle,
    *,
    prefix: str = DEFAULT_PREFIX,
    environ: Mapping[str, str] = os.environ,
    attempts: int = ATTEMPTS,
) -> bytes:
    """Fetch the bytes that a handle means, and no others: ranges are HTTP ranges.

    `prefix` is that of a `Store`; a sink's configuration has its own. Never returns nothing.

    Raises `Fault`: `no_match` for an empty range, an empty or missing object and a range that
    starts at or behind the end (one that only ends there is clamped); `denied`; `backend_error` for
    everything else, also a handle into another bucket, and bytes that the archive itself disproves:
    that are not what their metadata say, or behind which nothing fits.
    """
    if not isinstance(where, HistorySinkConfig):
        return await _resolve(where, prefix, handle, attempts)
    try:
        store = open_store(_configured(where, environ))
    except ConfigError as error:
        raise Fault(Kind.BACKEND_ERROR, str(error)) from None
    try:
        return await _resolve(store, where.prefix, handle, attempts)
    finally:
        await store.close()


async def _resolve(store: Store, prefix: str, handle: PointerHandle, attempts: int) -> bytes:
    if handle.bucket != store.bucket:
        reason = f"the handle is into bucket {handle.bucket!r}, this is {store.bucket!r}"
        raise Fault(Kind.BACKEND_ERROR, reason)
    if handle.byte_range is not None and handle.byte_range[0] >= handle.byte_range[1]:
        raise Fault(Kind.NO_MATCH)
    try:
        span = span_of(prefix, handle)
        async with open_stream(store, prefix, span, attempts=attempts) as stream:
            content = b"".join([chunk async for chunk in stream.chunks])
            wrong = next((stray for stray in stream.faults if stray.reason != _LEFT_OUT), None)
    except (NotFound, RangeInvalid):
        raise Fault(Kind.NO_MATCH) from None
    except (AccessDenied, AuthFailed) as error:
        raise Fault(Kind.DENIED, str(error), hint=error.hint) from error
    except (StoreError, Superseded) as error:
        raise Fault(Kind.BACKEND_ERROR, str(error), hint=error.hint) from error
    except ValueError as error:
        raise Fault(Kind.BACKEND_ERROR, str(error)) from error
    if wrong:
        raise Fault(
            Kind.BACKEND_ERROR,
            f"{wrong.key}: {wrong.reason}",
            hint="`transcriptd verify --deep` says what is damaged",
        )
    if not content:
        raise Fault(Kind.NO_MATCH)
    return content


def _line(message: Message) -> bytes:
    encoded = message if isinstance(message, bytes | msgspec.Raw) else msgspec.json.encode(message)
    line = bytes(compact(encoded))
    if not line.startswith(b"{"):
        raise ValueError("a message is not an object")
    if not line.isascii():
        line.decode()
    return line


def _configured(sink: HistorySinkConfig, environ: Mapping[str, str]) -> config.Config:
    """Put the sink's values over the daemon's configuration, as one unit. Raises `ConfigError`."""
    unit = {
        "s3.endpoint": sink.endpoint,
        "s3.bucket": sink.bucket,
        "s3.access_key": sink.access_key,
        "s3.secret_key": sink.secret_key,
        "s3.session_token": "",
        "s3.profile": "",
        "s3.region": "us-east-1",
        "s3.path_style": True,
        "prefix": sink.prefix,
    }
    return config.load(unit, environ, None)


def _writer(settings: config.Config) -> str:
    """Return who we are: the daemon's own name, where its state directory can be written."""
    try:
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return identity.writer(settings.state_dir, settings.machine)
    except OSError:
        return f"{settings.machine}.{secrets.token_hex(6)}"


def _secret(settings: config.Config, screens: Iterable[Screen]) -> Secret | None:
    """Return what keyed digests are made with; without a state directory there are none."""
    with contextlib.suppress(OSError):
        return secret_of(settings, screens)
    return None


async def _find_ours(store: Store, names: Names, base: str) -> Cursor | None:
    """Return where this machine's stream stands, by what the archive says of it.

    A base that this machine wrote is known to be older than the messages at hand, so that fewer of
    them are an undo, not a stale copy.
    """
    for key in (base, conflict_key(names.prefix, base, names.writer)):
        found = await survey(store, names.prefix, key)
        head, meta = found.head, found.meta
        if head is None:
            return None
        if meta is None or machine_of(meta.writer) != machine_of(names.writer):
            continue
        whole = Whole(meta.records, meta.length, meta.digest)
        if found.chain.content:  # a daemon appends to it
            whole = await read_whole(store, key, head, found.chain.content)
        return Cursor(
            key=key,
            generation=meta.generation,
            records=whole.records,
            length=whole.length,
            digest=whole.digest,
            etag=head.etag,
            writer=meta.writer,
            tail_length=whole.length - meta.length,
            segments=len(whole.segments),
        )
    return None
