"""How the outside asks: HTTP on a Unix socket, and read-only on TCP where that is wanted.

    GET  /healthz         200 while the event loop turns
    GET  /readyz          200 from the end of the local start until a stop begins, else 503
    GET  /status          the report as JSON (`report`); `?all=1`: with every session,
                          `?expiring=S`: what agents delete within S seconds counts as soon
    GET  /metrics         the same for Prometheus (`metrics`)
    POST /sync?timeout=S  archive everything now: 200 {"archived", "left": []}, 503 if any is left;
                          with seal=1 the bases take in their tails, too
    POST /takeover?session=ID&from=MACHINE
                          take sessions in conflict over from other machines

Owns the socket: who may reach it, and that no live one is taken over. A daemon that cannot be asked
still archives: what goes wrong here is `degraded`, except a lock that another daemon holds.

What is said of very many sessions is put together in a thread, one answer after the other: while
somebody asks, archiving goes on, and keeps the threads it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Protocol, Self

from aiohttp import web

from transcriptd.errors import StoreError
from transcriptd.expiry import SOON_S
from transcriptd.lock import Lock
from transcriptd.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from pathlib import Path

    from transcriptd.config.settings import HealthSettings
    from transcriptd.moment import Moment, Told
    from transcriptd.report import Report

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = get_logger("transcriptd.health")

DEFAULT_TIMEOUT_S = 60.0
_LONGEST_TIMEOUT_S = 24 * 3600.0
_CLOSE_S = 1.0
_BACKLOG = 64
_ROWS_A_PIECE = 200


class Outcome(Protocol):
    """How a pass over everything ended."""

    @property
    def archived(self) -> int: ...

    @property
    def left(self) -> Sequence[object]: ...


class Sync(Protocol):
    """Archives everything within so many seconds; with `seal` the bases take in their tails."""

    async def __call__(self, timeout_s: float, *, seal: bool) -> Outcome: ...


class TakeOver(Protocol):
    """Takes sessions in conflict over, all or those named, from all machines or from one."""

    async def __call__(
        self, sessions: Collection[str], machine: str | None
    ) -> Sequence[TakenOver]: ...


class TakenOver(Protocol):
    """A session that was taken over, and from whom."""

    @property
    def session(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def writers(self) -> tuple[str, ...]: ...


class Health:
    """Answers between entering and leaving.

    What it is asked to do, `sync` and `take_over` do. Entering raises `LockHeld` where another
    daemon answers on the socket.
    """

    def __init__(
        self,
        settings: HealthSettings,
        report: Report,
        sync: Sync,
        take_over: TakeOver,
    ) -> None:
        self._settings = settings
        self._report = report
        self._sync = sync
        self._take_over = take_over
        self._closing = AsyncExitStack()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="report")

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            try:
                await self._answer_on_socket(opened, self._settings.socket)
            except OSError as error:
                self._report.status.degrade(
                    "health_socket",
                    f"nobody can ask at {self._settings.socket}: {error.strerror or error}",
                    "set health.socket to a path in a directory of your own",
                )
            if self._settings.listen:
                await self._answer_on_tcp(opened, self._settings.listen)
            self._closing = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._closing.aclose()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _answer_on_socket(self, opened: AsyncExitStack, path: Path) -> None:
        async with AsyncExitStack() as binding:
            await asyncio.to_thread(_prepare_directory, path.parent)
            # asyncio and uvloop both steal a live socket: only the lock's holder may bind.
            binding.enter_context(Lock(path.with_name(f"{path.name}.lock")))
            bound = _bind(path)
            binding.callback(path.unlink, missing_ok=True)
            runner = await self._start(binding, writable=True)
            assert runner.server is not None
            server = await asyncio.get_running_loop().create_unix_server(
                runner.server, sock=bound, backlog=_BACKLOG
            )
            binding.callback(server.close)
            opened.push_async_exit(binding.pop_all())

    async def _answer_on_tcp(self, opened: AsyncExitStack, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        runner = await self._start(opened, writable=False)
        try:
            await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
        except (OSError, ValueError) as error:
            self._report.status.degrade(
                "health_listen",
                f"nobody can ask at {listen}: {error}",
                "set health.listen to a free HOST:PORT, or to nothing",
            )

    async def _start(self, closing: AsyncExitStack, *, writable: bool) -> web.AppRunner:
        app = web.Application(middlewares=[_explain])
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/status", self._status),
                web.get("/metrics", self._show_metrics),
            ]
        )
        if writable:
            app.add_routes(
                [
                    web.post("/sync", self._sync_now),
                    web.post("/takeover", self._take_over_now),
                ]
            )
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=_CLOSE_S,
        )
        await runner.setup()
        closing.push_async_callback(runner.cleanup)
        return runner

    async def _healthz(self, _: web.Request) -> web.Response:
        return _json(200, {"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        status = self._report.status
        ready = status.ready and not status.stopping
        return _json(200 if ready else 503, {"status": self._report.state})

    async def _status(self, request: web.Request) -> web.StreamResponse:
        everything = request.query.get("all", "") not in {"", "0"}
        within_s = _seconds(request, "expiring", SOON_S)
        if not within_s >= 0:
            return _json(400, {"error": "expiring: expected a number of seconds"})
        moment = self._report.moment()
        tell = partial(_told, moment, everything=everything, within_s=within_s)
        told, rows = await asyncio.get_running_loop().run_in_executor(self._thread, tell)
        head = _dumps(self._report.head(told, within_s)).encode()
        return await _send(request, [head[:-1], b',"sessions":[', *rows, b"]}"])

    async def _show_metrics(self, _: web.Request) -> web.Response:
        from transcriptd.metrics import CONTENT_TYPE, Metrics  # 1 MB, where nobody asks

        moment = self._report.moment()
        sums = await asyncio.get_running_loop().run_in_executor(self._thread, moment.sums)
        text = Metrics(self._report, sums).text()
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    async def _sync_now(self, request: web.Request) -> web.Response:
        timeout_s = _seconds(request, "timeout", DEFAULT_TIMEOUT_S)
        if not 0 < timeout_s <= _LONGEST_TIMEOUT_S:
            return _json(400, {"error": "timeout: expected a number of seconds up to a day"})
        outcome = await self._sync(timeout_s, seal=request.query.get("seal") == "1")
        left = list(outcome.left)
        return _json(503 if left else 200, {"archived": outcome.archived, "left": left})

    async def _take_over_now(self, request: web.Request) -> web.Response:
        sessions = request.query.getall("session", [])
        try:
            taken = await self._take_over(sessions, request.query.get("from"))
        except StoreError as error:
            return _json(503, {"error": str(error), "hint": error.hint})
        rows = [{"session": t.session, "path": t.path, "writers": t.writers} for t in taken]
        return _json(200, {"taken": rows})


def _seconds(request: web.Request, name: str, default: float) -> float:
    """Return a number of seconds that was asked for; NaN where it is none."""
    try:
        seconds = float(request.query.get(name, default))
    except ValueError:
        return math.nan
    return seconds if math.isfinite(seconds) else math.nan


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with JSON whatever happens; what went wrong inside is for the log alone."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _json(error.status, {"error": error.reason.lower()})
    except Exception:
        log.exception("health.request_failed", path=request.path)
        return _json(500, {"error": "internal error"})


def _json(status: int, content: object) -> web.Response:
    return web.json_response(content, status=status, dumps=_dumps)


_dumps = json.JSONEncoder(separators=(",", ":")).encode


def _told(moment: Moment, *, everything: bool, within_s: float) -> tuple[Told, list[bytes]]:
    """Have a moment told, with its rows as JSON: one by one, so that no other thread waits."""
    told = moment.tell(everything=everything, within_s=within_s)
    texts, separator = map(_dumps, told.rows), ""
    pieces: list[bytes] = []
    while several := list(islice(texts, _ROWS_A_PIECE)):
        pieces.append((separator + ",".join(several)).encode())
        separator = ","
    return told, pieces


async def _send(request: web.Request, pieces: Sequence[bytes]) -> web.StreamResponse:
    """Answer with JSON piece by piece: all of it at once would take the loop too long."""
    response = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
    response.content_length = sum(map(len, pieces))
    with contextlib.suppress(ConnectionResetError):  # whoever asked has gone
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    return response


def _prepare_directory(directory: Path) -> None:
    """Make the socket's directory ours alone; one that is there already is checked, not changed.

    Raises `OSError` where somebody else could put another socket in the place of ours.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{directory} belongs to another user (uid {found.st_uid})")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise PermissionError(f"other users may write to {directory}")


def _bind(path: Path) -> socket.socket:
    """Bind a socket that nobody else may connect to, in the place of one that was left behind."""
    if path.is_socket():
        path.unlink()
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o077)
    try:
        bound.bind(os.fspath(path))
        path.chmod(0o600)
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(umask)
    return bound
