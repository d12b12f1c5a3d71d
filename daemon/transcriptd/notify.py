"""What the service manager is told: `sd_notify(3)` over `$NOTIFY_SOCKET`.

Without that variable nothing is sent. Nothing here raises or blocks: a manager that does not listen
is no reason to stop.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MICROSECONDS = 1_000_000


def ready(environ: Mapping[str, str] = os.environ) -> bool:
    """Say that the start is complete."""
    return _send("READY=1", environ)


def status(text: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Say in one line what is going on."""
    return _send(f"STATUS={' '.join(text.split())}", environ)


def stopping(environ: Mapping[str, str] = os.environ) -> bool:
    """Say that the stop has begun."""
    return _send("STOPPING=1", environ)


def watchdog(environ: Mapping[str, str] = os.environ) -> bool:
    """Say that work makes progress."""
    return _send("WATCHDOG=1", environ)


def extend(seconds: float, environ: Mapping[str, str] = os.environ) -> bool:
    """Ask for that many seconds, from now, to finish the start or the stop."""
    return _send(f"EXTEND_TIMEOUT_USEC={round(seconds * _MICROSECONDS)}", environ)


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return how often (seconds) to call `watchdog`: half of what the manager tolerates.

    `None` where no watchdog is set, or it is meant for another process.
    """
    timeout, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None
    if not (timeout.isascii() and timeout.isdigit()) or int(timeout) == 0:
        return None
    return int(timeout) / _MICROSECONDS / 2


def _send(message: str, environ: Mapping[str, str]) -> bool:
    """Send one message; say whether it went out."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(message.encode(errors="replace"), address)
    except (OSError, ValueError):
        return False
    return True
