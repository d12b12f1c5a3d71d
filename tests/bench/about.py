"""What a run was made on and with: the machine, and the versions of all that took part.

Nothing that names the machine or who it belongs to.
"""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.contenders.loop import find

if TYPE_CHECKING:
    from tests.bench.book import About

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("transcriptd", "aiobotocore", "botocore", "aiohttp", "watchfiles", "uvloop")
_PEERS = {"rclone": "version", "aws": "--version", "s5cmd": "version"}


def about(command: str, server: str) -> About:
    """Say what a run is made on."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "server": f"{server} {_server_version(server)}".strip(),
        "machine": machine(),
        "versions": {**_versions(), **_peer_versions()},
    }


def machine() -> dict[str, object]:
    """Describe this machine: cores, memory in GB, kernel, model of the processor."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(pages * size / 1e9, 1),
        "cpu": _cpu_model(),
        "kernel": f"{platform.system()} {platform.release()}",
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if commit := _output("git", "-C", str(_ROOT), "describe", "--always", "--dirty"):
        found["commit"] = commit
    return found


def _peer_versions() -> dict[str, str]:
    found = {}
    for name, argument in _PEERS.items():
        program = find(name)
        said = _output(program, argument) if program else ""
        if said:
            found[name] = said.removeprefix(f"{name} ").removeprefix("aws-cli/").split(" ")[0]
    return found


def _server_version(server: str) -> str:
    pinned = getattr(import_module(f"tests.servers.{server}"), "VERSION", "")
    if pinned:
        return str(pinned)
    try:
        return version(server)
    except PackageNotFoundError:
        return ""


def _output(*argv: str) -> str:
    """Return the first line that a program prints, or nothing where there is no such program."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return lines[0].strip() if lines and done.returncode == 0 else ""
