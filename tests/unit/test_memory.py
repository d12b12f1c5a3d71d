"""What a daemon gives back when it waits."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from transcriptd import memory
from transcriptd.content import Held
from transcriptd.redaction import RuleSet, in_text

GLIBC = platform.libc_ver()[0] == "glibc"
BEATS_OF_QUIET = 20
# In parts, so that nobody who scans this file finds it.
SECRET = b"key: AKIA" + b"IOSFODNN7EXAMPL3"


def run(script: str, **environ: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc: it cannot be asked")
def test_what_is_free_between_what_is_kept_goes_back_to_the_system() -> None:
    said = run("""
from pathlib import Path
from transcriptd import memory
from transcriptd.content import Held
def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
held = [bytes(60_000) for _ in range(2_000)]
held = held[::20]
before = resident_mb()
memory.give_back()
print(before - resident_mb())
""")
    assert float(said) > 50


class Stop(Exception):
    pass


async def rests_after(counts: list[int]) -> list[int]:
    """Return at which of the counts there was a rest."""
    rests: list[int] = []
    left = iter(counts)
    at = -1

    def done() -> int:
        nonlocal at
        at += 1
        return next(left)

    async def sleep(_: float) -> None:
        if at == len(counts) - 1:
            raise Stop

    with pytest.raises(Stop):
        await memory.keep_small(done, lambda: rests.append(at), sleep=sleep)
    return rests


async def test_a_rest_is_taken_once_after_ten_quiet_minutes() -> None:
    assert await rests_after([7] * 3 * BEATS_OF_QUIET) == [BEATS_OF_QUIET]


async def test_whoever_works_each_nine_minutes_takes_no_rest() -> None:
    counts = [beat // (BEATS_OF_QUIET - 2) for beat in range(6 * BEATS_OF_QUIET)]
    assert await rests_after(counts) == []


async def test_work_after_a_rest_is_followed_by_another() -> None:
    counts = [1] * (BEATS_OF_QUIET + 5) + [2] * (BEATS_OF_QUIET + 5)
    assert await rests_after(counts) == [BEATS_OF_QUIET, 2 * BEATS_OF_QUIET + 5]


def test_rules_that_rested_find_what_they_found() -> None:
    rules = RuleSet()
    before = list(in_text(rules, Held(SECRET), 0, len(SECRET)))
    rules.rest()
    assert before
    assert list(in_text(rules, Held(SECRET), 0, len(SECRET))) == before


def test_rules_that_rest_hold_nothing_that_is_compiled() -> None:
    rules = RuleSet()
    idle = set(vars(rules))
    list(in_text(rules, Held(SECRET), 0, len(SECRET)))
    assert set(vars(rules)) > idle
    rules.rest()
    assert set(vars(rules)) <= idle | {"_parts"}


def test_the_daemon_loads_nothing_that_only_some_need() -> None:
    loaded = run("""
import sys
import transcriptd.cli.run, transcriptd.serve, transcriptd.stores.s3
print(*sys.modules)
""").split()
    assert {"transcriptd.app", "aiobotocore", "aiohttp"} <= set(loaded)
    spared = {"prometheus_client", "rich", "zstandard", "boto3", "wsgiref", "http.server"}
    assert spared & set(loaded) == set()
