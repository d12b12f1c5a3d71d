"""What the daemon keeps on this machine, and what it says about itself if it runs."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transcriptd
from transcriptd import client
from transcriptd.config import layers
from transcriptd.doctor.finding import Finding, Level, counted
from transcriptd.journal import entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transcriptd.config import Config

_MIB = 1 << 20
_LITTLE_SPACE = 256 * _MIB
_NO_SPACE = 16 * _MIB
_PRIVATE = 0o077
_LINGER = Path("/var/lib/systemd/linger")
_UNIT = Path("systemd", "user", "transcriptd.service")
_STUCK = ("quarantined", "conflict", "behind")

Said = dict[str, Any] | None
"""The daemon's `/status`, or `None` where none answers."""


def ask_daemon(config: Config) -> Said:
    """Ask the daemon how it is."""
    try:
        said = client.get(str(config.health.socket), "/status").json()
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def examine(config: Config, environ: Mapping[str, str], said: Said) -> Iterator[Finding]:
    """Say whether the daemon can keep what it has to remember, and who holds the lock."""
    section, directory = "state", config.state_dir
    yield writable(section, directory)
    if is_public(directory):
        hint = f"chmod 700 {directory}"
        yield Finding(section, Level.WARN, "mode", "other users can look into it", hint)
    yield space(section, directory)
    yield from _journal(directory)
    yield _lock(directory / "lock", said)
    yield from _lingering(environ)


def daemon(config: Config, said: Said) -> Iterator[Finding]:
    """Say whether the daemon runs, with this configuration, and what it says is wrong."""
    section = "daemon"
    if said is None:
        yield Finding(
            section, Level.WARN, "running", f"none answers at {config.health.socket}",
            "`transcriptd service install` keeps one running, `transcriptd run` starts one here",
        )  # fmt: skip
        return
    yield Finding(
        section, Level.OK, "running",
        f"{said.get('state')}, process {said.get('pid')}, version {said.get('version')}",
    )  # fmt: skip
    if said.get("version") != transcriptd.__version__:
        message = f"this is {transcriptd.__version__}"
        yield Finding(section, Level.WARN, "version", message, "restart the daemon")
    kind = said.get("archive", {}).get("kind")
    if kind != config.store:
        yield Finding(
            section, Level.WARN, "configuration",
            f"its archive is {kind}, this configuration says {config.store}",
            "give both the same variables and configuration file, and restart the daemon",
        )  # fmt: skip
    for trouble in said.get("degraded", []):
        yield Finding(
            section, Level.WARN, str(trouble.get("reason")), str(trouble.get("message")),
            str(trouble.get("hint", "")),
        )  # fmt: skip
    states = said.get("totals", {}).get("states", {})
    for name in _STUCK:
        if states.get(name):
            message = counted(states[name], "session")
            yield Finding(section, Level.WARN, name, message, "`transcriptd status` names them")


def writable(section: str, directory: Path) -> Finding:
    """Say whether a directory can be written, or made."""
    there = next(path for path in (directory, *directory.parents) if path.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        will_be = "" if there == directory else ", will be made"
        return Finding(section, Level.OK, "directory", f"{directory}{will_be}")
    return Finding(
        section, Level.FAIL, "directory", f"{there} cannot be written",
        "make it writable for this user, or choose another one",
    )  # fmt: skip


def space(section: str, directory: Path) -> Finding:
    """Say how much room there is."""
    there = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(there).free
    message = f"{free // _MIB:,} MiB free"
    if free < _NO_SPACE:
        return Finding(section, Level.FAIL, "disk", message, "make room")
    return Finding(section, Level.WARN if free < _LITTLE_SPACE else Level.OK, "disk", message)


def is_public(path: Path) -> bool:
    """Whether other users could look into a file or a directory."""
    try:
        return path.is_absolute() and bool(path.stat().st_mode & _PRIVATE)
    except OSError:
        return False


def _journal(directory: Path) -> Iterator[Finding]:
    path = directory / "journal.db"
    try:
        newest = entries(path, limit=1)
    except sqlite3.Error as error:
        yield Finding(
            "state", Level.FAIL, "journal", f"cannot be read: {error}",
            "the daemon sets a damaged one aside and rebuilds it from the archive: restart it",
        )  # fmt: skip
        return
    yield Finding("state", Level.OK, "journal", str(path) if newest else "empty")
    if path.with_name("journal.db.damaged").exists():
        message = "a damaged one was set aside and rebuilt from the archive"
        yield Finding("state", Level.WARN, "journal", message, "look at the health of this disk")


def _lock(path: Path, said: Said) -> Finding:
    """Read who holds the lock. It is not tried: that could get in the way of a start."""
    try:
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text.isdigit() or not _is_alive(int(text)):
        return Finding("state", Level.OK, "lock", "free")
    if said is None:
        return Finding(
            "state", Level.WARN, "lock", f"process {text} holds it, and no daemon answers",
            "a `transcriptd sync` at work; or a daemon that hangs, or has another health.socket",
        )  # fmt: skip
    return Finding("state", Level.OK, "lock", f"held by process {text}")


def _lingering(environ: Mapping[str, str]) -> Iterator[Finding]:
    home = layers.xdg(environ, "XDG_CONFIG_HOME", ".config")
    if home is None or not (home / _UNIT).exists() or not _LINGER.parent.is_dir():
        return
    with suppress(KeyError):
        user = pwd.getpwuid(os.getuid()).pw_name
        if (_LINGER / user).exists():
            yield Finding("state", Level.OK, "lingering", "the service runs without a login")
        else:
            yield Finding(
                "state", Level.WARN, "lingering", "the service stops with the last session",
                "loginctl enable-linger",
            )  # fmt: skip


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
