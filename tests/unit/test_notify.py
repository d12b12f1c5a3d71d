"""What the service manager hears, over a real socket."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from transcriptd import notify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@transcriptd-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1))
        listener.settimeout(5)
        yield listener, name


def test_each_message_reaches_the_manager(manager: tuple[socket.socket, str]) -> None:
    listener, name = manager
    environ = {"NOTIFY_SOCKET": name}
    assert notify.ready(environ)
    assert notify.status("3 pending", environ)
    assert notify.watchdog(environ)
    assert notify.extend(1.5, environ)
    assert notify.stopping(environ)
    assert [listener.recv(1000) for _ in range(5)] == [
        b"READY=1",
        b"STATUS=3 pending",
        b"WATCHDOG=1",
        b"EXTEND_TIMEOUT_USEC=1500000",
        b"STOPPING=1",
    ]


def test_a_status_cannot_say_anything_but_a_status(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "n"))
        notify.status("a\nSTOPPING=1\udc80", {"NOTIFY_SOCKET": str(tmp_path / "n")})
        assert listener.recv(1000) == b"STATUS=a STOPPING=1?"


@pytest.mark.parametrize(
    "address", ["", "/nowhere/at/all", "relative", "vsock:2:1", "/" + "x" * 200]
)
def test_without_a_manager_nothing_is_sent_and_nothing_fails(address: str) -> None:
    assert not notify.ready({"NOTIFY_SOCKET": address})


def test_a_manager_that_does_not_read_blocks_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "n"))
        environ = {"NOTIFY_SOCKET": str(tmp_path / "n")}
        assert not all(notify.watchdog(environ) for _ in range(10_000))


def test_the_watchdog_is_fed_at_half_its_timeout() -> None:
    assert notify.watchdog_interval({"WATCHDOG_USEC": "180000000"}) == 90.0
    mine = {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
    assert notify.watchdog_interval(mine) == 1.5


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"},
     {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}],
)  # fmt: skip
def test_without_a_watchdog_of_ours_there_is_no_interval(environ: dict[str, str]) -> None:
    assert notify.watchdog_interval(environ) is None
