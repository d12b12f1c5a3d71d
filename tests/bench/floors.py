"""What cannot be beaten: the least that any way to archive a save has to do, measured here.

A floor is a contender that does nothing else: its figures bear the same names as theirs.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from tests.bench import meter
from tests.bench.result import Figure
from tests.bench.tap import Tap
from tests.servers import create_bucket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.servers import Server

READ = "floor: one read and one SHA-256 of the file"
PUT_WHOLE = "floor: one bare PUT of the whole"
PUT_CHANGE = "floor: one bare PUT of the change"
PUTS = "floor: bare PUTs, eight at once"
IDLE = "floor: an idle Python with a loop"
SCAN = "floor: scandir and stat"

_TIMES = 20
_AT_ONCE = 8
_IDLE = "import asyncio; asyncio.run(asyncio.sleep(3600))"
_STARTED_S = 1.0


@dataclass(frozen=True, slots=True)
class Puts:
    """What some requests of a bare client took, its start left out."""

    each_s: Sequence[float]
    wall_s: float
    cpu_s: float


def of_a_save(
    server: Server, scenario: str, *, whole: int, change: int, every_s: float
) -> list[Figure]:
    """Return the floors of a save of so many bytes, of which some are new.

    They come as the saves do, once every `every_s` seconds: what has paused costs about twice of
    what is done again at once.
    """
    read_s, read_cpu_s = read_and_digest(whole, every_s=every_s)
    figures = [
        Figure.of(scenario, READ, "save to archived", "ms", [s * 1000 for s in read_s]),
        Figure(scenario, READ, "CPU per save", "ms", read_cpu_s * 1000 / len(read_s)),
    ]
    for name, size in ((PUT_WHOLE, whole), (PUT_CHANGE, change)):
        puts = asyncio.run(bare_puts(server, _TIMES, size, at_once=1, every_s=every_s))
        figures += [
            Figure.of(scenario, name, "save to archived", "ms", [s * 1000 for s in puts.each_s]),
            Figure(scenario, name, "CPU per save", "ms", puts.cpu_s * 1000 / _TIMES),
        ]
    return figures


def of_a_burst(server: Server, scenario: str, *, count: int, size: int) -> list[Figure]:
    """Return the floors of so many new objects, as many at once as the daemon puts."""
    puts = asyncio.run(bare_puts(server, count, size, at_once=_AT_ONCE))
    return [
        Figure(scenario, PUTS, "all archived", "s", puts.wall_s),
        Figure(scenario, PUTS, "CPU per save", "ms", puts.cpu_s * 1000 / count),
    ]


def of_idling(scenario: str, idle_s: float) -> list[Figure]:
    """Return what a Python takes in which a loop waits for nothing."""
    with subprocess.Popen([sys.executable, "-c", _IDLE]) as process:
        try:
            time.sleep(_STARTED_S)
            before = meter.cpu_s(process.pid)
            time.sleep(idle_s)
            cpu_s = meter.cpu_s(process.pid) - before
            rss_mb, descriptors = meter.rss_mb(process.pid), meter.descriptors(process.pid)
        finally:
            process.kill()
    return [
        Figure(scenario, IDLE, "memory, steady", "MB", rss_mb),
        Figure(scenario, IDLE, "CPU idle", "ms/s", cpu_s * 1000 / idle_s),
        Figure(scenario, IDLE, "descriptors", "", descriptors),
    ]


def of_a_start(scenario: str, directory: Path) -> list[Figure]:
    """Return what it takes to look at each file of a directory once."""
    took = []
    for _ in range(3):
        begun = time.perf_counter()
        for entry in os.scandir(directory):
            entry.stat()
        took.append(time.perf_counter() - begun)
    return [Figure.of(scenario, SCAN, "start", "s", took)]


def read_and_digest(size: int, *, every_s: float = 0.0) -> tuple[list[float], float]:
    """Read and digest a file of so many bytes; return the wall times, and the CPU time of all."""
    took = []
    with tempfile.TemporaryDirectory(prefix="transcriptd-bench-") as directory:
        path = Path(directory, "file")
        path.write_bytes(os.urandom(size))
        cpu_s = time.process_time()
        for _ in range(_TIMES):
            time.sleep(every_s)
            begun = time.perf_counter()
            sha256(path.read_bytes()).digest()
            took.append(time.perf_counter() - begun)
        return took, time.process_time() - cpu_s


async def bare_puts(
    server: Server, count: int, size: int, *, at_once: int, every_s: float = 0.0
) -> Puts:
    """Put new objects of so many bytes, through a tap as everybody's."""
    body = os.urandom(size // 2).hex().encode("ascii")
    slots, each_s = asyncio.Semaphore(at_once), []
    config = AioConfig(
        retries={"total_max_attempts": 1}, request_checksum_calculation="when_required"
    )
    with Tap(create_bucket(server)) as tap:
        target = tap.server
        async with get_session().create_client(
            "s3",
            endpoint_url=target.endpoint,
            region_name=target.region,
            aws_access_key_id=target.access_key,
            aws_secret_access_key=target.secret_key,
            config=config,
        ) as client:

            async def put(key: str) -> None:
                async with slots:
                    await asyncio.sleep(every_s)
                    begun = time.perf_counter()
                    await client.put_object(Bucket=target.bucket, Key=key, Body=body)
                    each_s.append(time.perf_counter() - begun)

            await asyncio.gather(*(put(f"first-{number}") for number in range(at_once)))
            each_s.clear()
            begun, cpu_s = time.perf_counter(), time.process_time()
            await asyncio.gather(*(put(f"{number}") for number in range(count)))
            return Puts(each_s, time.perf_counter() - begun, time.process_time() - cpu_s)
