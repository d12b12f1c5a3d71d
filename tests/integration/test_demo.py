"""The demonstration: the whole way of a save, with the daemon as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING

import pytest

from tests.observed import call, environment
from transcriptd.demo import Demo, percentile

if TYPE_CHECKING:
    from pathlib import Path

    from transcriptd.demo import Progress


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's home with sessions and a configuration that must not be touched."""
    home = tmp_path / "home"
    mine = home / "data" / "sessions" / "mine.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("{not for the demonstration")
    file = home / ".config" / "transcriptd" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("this is no configuration")
    return home


def files(directory: Path) -> list[str]:
    return sorted(str(path) for path in directory.rglob("*"))


async def test_the_demonstration_loses_nothing_and_leaves_nothing(
    home: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    before = files(home)
    more = {
        "TMPDIR": str(temporary),
        "CODETETHER_HISTORY_S3_BUCKET": "mine",
        "TRANSCRIPTD_S3__BUCKET": "mine",
    }
    said = await call(
        home, "demo", "--seconds", "2", "--sessions", "4", "--json", more=more, cwd=temporary
    )
    result = json.loads(said.out)
    assert (said.status, result["ok"], result["lost"]) == (0, True, 0)
    assert result["sessions"] == 4
    assert result["saves"] >= 8
    assert 0 < result["archived_p50_s"] <= result["archived_p99_s"]
    assert files(home) == before
    assert files(temporary) == []


async def test_the_latency_is_told_with_the_debounce_it_was_measured_with(home: Path) -> None:
    said = await call(home, "demo", "--seconds", "1", "--sessions", "1")
    assert "debounce.quiet = 0.1 s, the default is 0.5 s" in said.out


async def test_a_demonstration_that_is_ended_leaves_neither_files_nor_a_daemon(
    home: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "transcriptd", "demo", "--seconds", "60",
        env=environment(home, TMPDIR=str(temporary)), cwd=temporary, stdout=PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    said = [await process.stdout.readline() for _ in range(2)]
    assert b"archived" in said[1]
    (lock,) = temporary.glob("*/state/lock")
    daemon = int(lock.read_text())
    process.terminate()
    await process.wait()
    assert process.returncode == 128 + signal.SIGTERM
    assert files(temporary) == []
    with pytest.raises(ProcessLookupError):
        os.kill(daemon, 0)


def test_a_line_that_differs_from_what_was_saved_is_found(tmp_path: Path) -> None:
    shown: list[Progress] = []
    demo = Demo(tmp_path, 2)
    assert demo.run(1.0, shown.append).is_good
    assert shown[-1].saves == len(shown[-1].latencies_s) > 0
    first, second = sorted(demo.archive.glob("history/*/history.jsonl"))
    first.write_bytes(first.read_bytes().replace(b'"user"', b'"User"', 1))
    second.write_bytes(second.read_bytes().rsplit(b"\n", 2)[0] + b"\n")
    result = demo._compare([])
    assert not result.is_good
    assert result.lost == 2
    assert len(result.problems) == 2


@pytest.mark.parametrize(
    ("values", "percent", "said"),
    [([], 50, None), ([7.0], 99, 7.0), ([1.0, 2.0, 3.0], 50, 2.0), ([1.0, 2.0], 99, 2.0)],
)
def test_a_percentile_is_a_value_that_was_measured(
    values: list[float], percent: float, said: float | None
) -> None:
    assert percentile(values, percent) == said
