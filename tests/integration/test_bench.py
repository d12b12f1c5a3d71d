"""The benchmarks run, and what they count of transcriptd is right. Their times say nothing here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.book import read

REPO = Path(__file__).parents[2]
WITHIN_S = 280


@pytest.mark.timeout(300)  # it sleeps between saves, and a busy machine takes longer
def test_saves_and_kills_are_measured_and_nothing_is_lost(tmp_path: Path) -> None:
    scenarios = ("steady", "kills")
    options = ("--quick", "--server", "ministack", "--contenders", "transcriptd")
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *scenarios, *options, "--out", str(tmp_path)],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    parts = read(tmp_path / "figures.json").parts
    assert set(parts) == set(scenarios)
    counted = {
        (name, entry.what): entry.value
        for name, part in parts.items()
        for entry in part.entries
        if entry.contender == "transcriptd"
    }
    assert counted["steady", "lost sessions"] == 0
    assert counted["kills", "lost messages"] == 0
