"""What this machine says: the configuration, the sessions on it, the kernel, the versions."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import transcriptd
from transcriptd.config.reference import LEAVES, literal
from transcriptd.doctor.finding import Finding, Level, counted
from transcriptd.doctor.state import is_public
from transcriptd.places import Places
from transcriptd.report import printable
from transcriptd.sources import open_sources
from transcriptd.walk import walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transcriptd.config import Config
    from transcriptd.sources import Source

_INOTIFY = Path("/proc/sys/fs/inotify")
_LEAST = {"max_user_instances": 128, "max_user_watches": 8192, "max_queued_events": 16384}
_MOST_AWAITED = 10
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_NEEDED = (
    "aiobotocore", "aiohttp", "click", "msgspec", "prometheus_client", "rich", "structlog",
    "tenacity", "watchfiles",
)  # fmt: skip


def configuration(config: Config) -> Iterator[Finding]:
    """Say what was given, by whom, and where the archive is."""
    section = "configuration"
    for leaf in LEAVES.values():
        origin = config.origin[leaf.key]
        value: Any = config
        for name in leaf.key.split("."):
            value = getattr(value, name)
        if origin == "default" or value == "":
            continue
        shown = "set" if leaf.secret else literal(leaf, value)
        yield Finding(section, Level.OK, leaf.key, f"{shown} (from {origin})")
        if leaf.secret and is_public(Path(origin)):
            yield Finding(
                section, Level.WARN, leaf.key, f"{origin} can be read by other users",
                f"chmod 600 {origin}",
            )  # fmt: skip
    if config.store == "disabled":
        yield Finding(
            section, Level.FAIL, "archive",
            f"nothing is archived: {', '.join(config.missing)} not set",
            "set all of the CODETETHER_HISTORY_S3_* variables, or none",
        )  # fmt: skip
    elif config.store == "local":
        yield Finding(
            section, Level.OK, "archive", f"the directory {config.local.path}",
            "set s3.bucket, or the CODETETHER_HISTORY_S3_* variables, to archive to S3",
        )  # fmt: skip
    else:
        yield Finding(section, Level.OK, "archive", f"s3://{config.s3.bucket}/{config.prefix}")
        endpoint = urlsplit(config.s3.endpoint)
        if endpoint.scheme == "http" and endpoint.hostname not in _LOOPBACK:
            yield Finding(
                section, Level.WARN, "s3.endpoint", "transcripts travel unencrypted", "use https://"
            )


def sources(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    """Say where sessions are, how many, and whether they can be read."""
    opened = open_sources(config, environ)
    if not opened:
        return [Finding("sources", Level.WARN, "sources", "every source is disabled")]
    return [finding for source in opened.values() for finding in _source(config, source)]


def inotify(config: Config) -> Iterator[Finding]:
    """Say whether the kernel has room for what is watched."""
    if config.watch.force_polling:
        yield Finding("inotify", Level.OK, "polling", "by configuration; events are not used")
        return
    if not _INOTIFY.is_dir():
        return
    for name, least in _LEAST.items():
        with suppress(OSError, ValueError):
            limit = int((_INOTIFY / name).read_text("ascii"))
            low = limit < least
            yield Finding(
                "inotify", Level.WARN if low else Level.OK, name, str(limit),
                f"sysctl fs.inotify.{name}={least}" if low else "",
            )  # fmt: skip


def versions() -> Finding:
    """Say what this runs on."""
    found, missing = [f"transcriptd {transcriptd.__version__}"], []
    for name in _NEEDED:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    with suppress(metadata.PackageNotFoundError):
        found.append(f"uvloop {metadata.version('uvloop')}")
    python = f"Python {platform.python_version()} on {sys.platform}"
    if missing:
        names = ", ".join(missing)
        return Finding(
            "versions", Level.FAIL, python, f"not installed: {names}", "install it anew with pip"
        )
    return Finding("versions", Level.OK, python, ", ".join(found))


def _source(config: Config, source: Source) -> Iterator[Finding]:
    places = source.places(Places(()))
    named = getattr(config.sources, source.name, None)
    configured = {Path(root) for root in (named.roots if named else map(str, places.roots))}
    total = 0
    awaited: list[str] = []
    for root in places.roots:
        try:
            found = walk(root, source.enters).names
            names = [name for name in found if source.session(root, name)]
        except (FileNotFoundError, NotADirectoryError):
            if root not in configured:
                awaited.append(printable(root))
            else:
                message = "configured, and not there; it is awaited"
                yield Finding(source.name, Level.WARN, str(root), message)
            continue
        except OSError as error:
            yield Finding(
                source.name, Level.FAIL, str(root), f"cannot be read: {error.strerror}",
                "let this user read the directory, or run the daemon as its owner",
            )  # fmt: skip
            continue
        total += len(names)
        yield _root(source, root, names)
    if awaited:
        several = ", ".join(awaited[:_MOST_AWAITED])
        more = len(awaited) - _MOST_AWAITED
        message = f"sessions may appear in {several}" + (f" and {more:,} more" if more > 0 else "")
        yield Finding(source.name, Level.OK, "awaited", message)
    if not total and source.name == "codetether":
        yield Finding(
            source.name, Level.WARN, "sessions", "none found",
            f"start an agent, or name its directory in sources.{source.name}.roots",
        )  # fmt: skip


def _root(source: Source, root: Path, names: list[str]) -> Finding:
    unreadable = [name for name in names if not os.access(root / name, os.R_OK)]
    if not unreadable:
        return Finding(source.name, Level.OK, str(root), counted(len(names), "session"))
    return Finding(
        source.name, Level.FAIL, str(root),
        f"{len(unreadable)} of {counted(len(names), 'session')} cannot be read, "
        f"such as {unreadable[0]}",
        "let this user read them, or run the daemon as their owner",
    )  # fmt: skip
