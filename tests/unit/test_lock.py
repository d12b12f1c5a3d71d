"""The lock file, held by real processes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from transcriptd.errors import LockHeld
from transcriptd.lock import Lock

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import pathlib, sys
from transcriptd.lock import Lock
with Lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "state" / "lock"
    with holder(path) as process:
        with pytest.raises(LockHeld) as caught, Lock(path):
            pass
        process.communicate()
    assert caught.value.pid == process.pid
    assert str(process.pid) in str(caught.value)
    assert caught.value.hint


def test_a_killed_holder_leaves_the_lock_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        process.kill()
        process.wait()
        with Lock(path):
            assert path.read_text() == f"{os.getpid()}\n"


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = Lock(path)
    for _ in range(2):
        with lock:
            pass
    with holder(path) as process:
        process.communicate()


def test_only_the_user_can_read_the_lock_and_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "state" / "lock"
    with Lock(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with Lock(path):
        child = subprocess.Popen(
            [sys.executable, "-c", "print('up', flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
            text=True,
        )
        assert child.stdout is not None
        child.stdout.readline()
    with child, Lock(path):
        child.communicate("\n")


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic"), Lock(tmp_path / "lock"):
        pass
    assert not (tmp_path / "other").exists()
