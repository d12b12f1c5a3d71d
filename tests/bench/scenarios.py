"""What is measured: each scenario returns its figures, and raises where something was lost.

A figure is a number with its unit in its name. Times are never judged here; counts are.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

from aiobotocore.session import get_session

from tests.bench.subject import daemon, rss_mb, sessions_of
from tests.servers import create_bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Server

Figures = dict[str, float]
Delays = dict[str, list[float]]

_IDLE_S = 60.0  # two rescans
_SETTLED_S = 3.0  # the start is over
_SAVES = 30
_BURST = 200
_QUICK = {"TRANSCRIPTD_DEBOUNCE__QUIET": "0.05", "TRANSCRIPTD_LOG__LEVEL": "warning"}


class Document:
    """A CodeTether session that grows, and how its agent saves it."""

    def __init__(self, directory: Path, session_id: str) -> None:
        self._path = directory / f"{session_id}.json"
        self._temporary = directory / f"{session_id}.json.tmp"
        self._messages: list[str] = []
        self.id = session_id
        self.length = 0  # of the history

    def grow(self, size: int, pieces: int = 1) -> None:
        """Add `pieces` messages of about `size` bytes together."""
        for _ in range(pieces):
            text = os.urandom(size // pieces * 3 // 8).hex() + ' prose, code and \\"quotes\\" é '
            message = (
                '{"role":"assistant","content":[{"type":"text","text":"'
                + text.replace("'", "")
                + '"}]}'
            )
            self._messages.append(message)
            self.length += len(message.encode()) + 1

    def save(self) -> int:
        """Save as CodeTether does; return when, in Unix nanoseconds."""
        messages = ",".join(self._messages)
        self._temporary.write_text(
            f'{{"id":"{self.id}","title":null,"metadata":{{}},"agent":"build",'
            f'"messages":[{messages}],"pages":[]}}',
            "utf-8",
        )
        self._temporary.rename(self._path)
        return time.time_ns()


def steady(server: Server, home: Path, all_delays: Delays) -> Figures:
    """One session of 1 MB, saved once a second: save to archived, CPU and memory."""
    with daemon(home, server, **_QUICK) as subject:
        document = Document(subject.sessions, "steady")
        document.grow(1_000_000, 400)
        document.save()
        subject.sync()
        cpu, saves = subject.cpu_s(), []
        for _ in range(_SAVES):
            document.grow(500)
            saves.append((document.save(), document.length))
            time.sleep(1)
        subject.sync()
        used = subject.cpu_s() - cpu
        delays = _delays_ms(saves, [(at, size) for at, _, size in subject.commits()])
        memory = subject.memory_mb()
    all_delays["one session of 1 MB"] = delays
    idle = _idle_cpu_ms_per_s(server, home)
    return {
        "p50_ms": median(delays),
        "p99_ms": quantiles(delays, n=100)[98],
        "cpu_per_save_ms": (used * 1000 - idle * _SAVES) / _SAVES,
        "memory_mb": memory,
    }


def burst(server: Server, home: Path, all_delays: Delays) -> Figures:
    """200 sessions of 100 KB, saved at once: until all are archived, beside 200 bare PUTs."""
    with daemon(home, server, **_QUICK) as subject:
        documents = [Document(subject.sessions, f"burst-{i:03}") for i in range(_BURST)]
        for document in documents:
            document.grow(100_000, 40)
        warm_up = Document(subject.sessions, "warm-up")
        warm_up.grow(100)
        warm_up.save()
        subject.sync()
        cpu = subject.cpu_s()
        saved = {document.id: document.save() for document in documents}
        subject.sync()
        used = subject.cpu_s() - cpu
        ends = {name: at for at, name, _ in subject.commits() if name in saved}
        if len(ends) != _BURST:
            raise RuntimeError(f"lost: {_BURST - len(ends)} of {_BURST} sessions")
        delays = [(ends[name] - saved[name]) / 1e6 for name in saved]
        requests = sum(subject.requests().values())
    all_delays["200 sessions at once"] = delays
    floor_s, floor_cpu_s = asyncio.run(_bare_puts(server, _BURST, 100_000))
    took_s = (max(ends.values()) - min(saved.values())) / 1e9
    return {
        "all_archived_s": took_s,
        "floor_s": floor_s,
        "ratio_to_floor": took_s / floor_s,
        "p50_ms": median(delays),
        "p99_ms": quantiles(delays, n=100)[98],
        "cpu_per_save_ms": used * 1000 / _BURST,
        "floor_cpu_per_put_ms": floor_cpu_s * 1000 / _BURST,
        "requests_per_session": requests / _BURST,
    }


def idle(server: Server, home: Path, sessions: int) -> Figures:
    """Nothing happens, with so many archived sessions: start-up, memory, CPU, requests."""
    directory = sessions_of(home)
    directory.mkdir(parents=True, exist_ok=True)
    for i in range(sessions):
        document = Document(directory, f"idle-{i:06}")
        document.grow(300)
        document.save()
    with daemon(home, server, TRANSCRIPTD_LOG__LEVEL="warning") as subject:
        while subject.status()["totals"]["backlog"]:  # type: ignore[index]  # a JSON document
            subject.sync()
    scan_s = _scan_s(directory)
    with daemon(home, server, TRANSCRIPTD_LOG__LEVEL="warning") as subject:
        started = subject.started_s
        time.sleep(_SETTLED_S)
        cpu = subject.cpu_s()
        time.sleep(_IDLE_S)
        used = subject.cpu_s() - cpu
        figures = {
            "start_s": started,
            "start_floor_s": scan_s,
            "memory_mb": subject.memory_mb(),
            "cpu_ms_per_s": used * 1000 / _IDLE_S,
            "requests": float(sum(subject.requests().values())),
            "descriptors": float(subject.descriptors()),
        }
    if figures["requests"]:
        raise RuntimeError(f"{figures['requests']:.0f} requests while nothing happened")
    return figures


def floors(server: Server, home: Path) -> Figures:
    """What cannot be beaten: an idle Python with a loop, one read and digest, one bare PUT."""
    code = "import asyncio, sys; asyncio.run(asyncio.sleep(60))"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        time.sleep(1)
        memory = rss_mb(process.pid)
        process.kill()
    path = home / "megabyte"
    path.write_bytes(os.urandom(1_000_000))
    digest_ms = min(_timed_ms(lambda: sha256(path.read_bytes()).digest()) for _ in range(20))
    put_s, put_cpu_s = asyncio.run(_bare_puts(server, 20, 1_000_000))
    return {
        "idle_python_mb": memory,
        "read_and_digest_1mb_ms": digest_ms,
        "put_1mb_ms": put_s * 1000 / 20,
        "put_1mb_cpu_ms": put_cpu_s * 1000 / 20,
    }


def lines(home: Path) -> Figures:
    """From a document of 10 MB to lines that are compared with the archive, beside the floor."""
    from transcriptd.model import Cursor, Session
    from transcriptd.snapshot import look
    from transcriptd.sources.codetether import CodeTether

    document = Document(home, "lines")
    document.grow(10_000_000, 4000)
    document.save()
    source = CodeTether([], {"HOME": str(home)})
    session = Session("codetether", "lines", str(home), "lines.json")
    path = home / "lines.json"
    limit = 1 << 30
    first = look(source, session, None, max_bytes=limit)
    content = first.snapshot.content
    cursor = Cursor("k", 0, first.snapshot.records, content.size, first.digest, "e", "w")
    floor = min(_timed_ms(lambda: sha256(path.read_bytes()).digest()) for _ in range(10))
    new = min(_timed_ms(lambda: look(source, session, None, max_bytes=limit)) for _ in range(10))
    again = min(
        _timed_ms(lambda: look(source, session, cursor, max_bytes=limit)) for _ in range(10)
    )
    parsed = min(
        _timed_ms(lambda: json.dumps(json.loads(path.read_bytes())["messages"])) for _ in range(3)
    )
    return {
        "floor_ms": floor,
        "first_time_ratio": new / floor,
        "again_ratio": again / floor,
        "json_ratio": parsed / floor,
    }


def _delays_ms(saves: list[tuple[int, int]], commits: list[tuple[int, int]]) -> list[float]:
    """Return for each save how long it took until a commit held all of it."""
    delays = []
    for saved_at, length in saves:
        ends = [at for at, size in commits if size >= length and at >= saved_at]
        if not ends:
            raise RuntimeError("lost: a save is not archived")
        delays.append((min(ends) - saved_at) / 1e6)
    return delays


def _idle_cpu_ms_per_s(server: Server, home: Path) -> float:
    with daemon(home, server, **_QUICK) as subject:
        time.sleep(_SETTLED_S)
        cpu = subject.cpu_s()
        time.sleep(_IDLE_S)
        return (subject.cpu_s() - cpu) * 1000 / _IDLE_S


def _scan_s(directory: Path) -> float:
    return min(_timed_ms(lambda: [e.stat() for e in os.scandir(directory)]) for _ in range(3)) / 1e3


def _timed_ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


async def _bare_puts(server: Server, count: int, size: int) -> tuple[float, float]:
    """Put so many objects with a bare client, 8 at once; return wall and CPU seconds."""
    target = create_bucket(server)
    body = os.urandom(size)
    slots = asyncio.Semaphore(8)
    session = get_session()
    async with session.create_client(
        "s3",
        endpoint_url=target.endpoint,
        region_name=target.region,
        aws_access_key_id=target.access_key,
        aws_secret_access_key=target.secret_key,
        verify=target.ca_bundle,
    ) as client:

        async def put(number: int) -> None:
            async with slots:
                await client.put_object(Bucket=target.bucket, Key=f"k{number}", Body=body)

        await put(-1)
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(put(number) for number in range(count)))
        return time.perf_counter() - began, time.process_time() - cpu


def run_all(server: Server) -> tuple[dict[str, Figures], Delays]:
    """Run every scenario in a home of its own; return the figures, and delays by scenario in ms."""
    delays: Delays = {}
    plans: dict[str, Callable[[Server, Path], Figures]] = {
        "floors": floors,
        "document to lines": lambda _, home: lines(home),
        "one session of 1 MB, saved once a second": lambda s, home: steady(s, home, delays),
        "200 sessions of 100 KB at once": lambda s, home: burst(s, home, delays),
        "idle with 1 session": lambda s, home: idle(s, home, 1),
        "idle with 10,000 sessions": lambda s, home: idle(s, home, 10_000),
    }
    results: dict[str, Figures] = {}
    for name, scenario in plans.items():
        with tempfile.TemporaryDirectory(prefix="transcriptd-bench-") as home:
            results[name] = scenario(create_bucket(server), Path(home))
            print(f"{name}: " + ", ".join(f"{k} {v:.3g}" for k, v in results[name].items()))
    return results, delays
