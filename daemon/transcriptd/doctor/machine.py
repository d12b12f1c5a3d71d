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
from transcriptd.agents import Configured, every
from transcriptd.census import count, journal_of, look
from transcriptd.config.reference import LEAVES, literal
from transcriptd.doctor.finding import Finding, Level, counted
from transcriptd.doctor.state import is_public
from transcriptd.expiry import SOON_S, Expiry
from transcriptd.roster import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transcriptd.agents import Agent
    from transcriptd.census import Root
    from transcriptd.config import Config
    from transcriptd.journal import Journal
    from transcriptd.model import Stat

_INOTIFY = Path("/proc/sys/fs/inotify")
_LEAST = {"max_user_instances": 128, "max_user_watches": 8192, "max_queued_events": 16384}
_MOST_AWAITED = 10
_DAY_S = 86_400
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
    """Say of each agent where its sessions are, how many, and whether they can be read."""
    agents = every(config, environ)
    if not any(agent.configured is Configured.ON for agent in agents):
        return [Finding("sources", Level.WARN, "sources", "every source is disabled")]
    journal = journal_of(config)
    found = [(agent, look(agent.source, journal)) for agent in agents]
    is_empty = not any(root.sessions for _, roots in found for root in roots)
    findings: list[Finding] = []
    absent = []
    for agent, roots in found:
        is_main = is_empty and agent.name == "codetether"
        if agent.configured is not Configured.ON:
            findings += _left_out(agent, roots)
        elif is_main or _is_here(roots) or _configured(config, agent):
            findings += _source(config, agent, roots)
            findings += _deleted_soon(agent, roots, journal)
        else:
            absent.append(agent.name)
    if is_empty:
        findings.append(Finding(
            "codetether", Level.WARN, "sessions", "none found",
            "start an agent, or name its directory in sources.codetether.roots",
        ))  # fmt: skip
    if absent:
        message = f"{', '.join(absent)}: archived once they are"
        findings.append(Finding("sources", Level.OK, "not here", message))
    return findings


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


def _is_here(roots: list[Root]) -> bool:
    return any(root.is_there for root in roots)


def _configured(config: Config, agent: Agent) -> set[Path]:
    """Return the directories that the configuration names for an agent."""
    named = {other.name: other.roots for other in config.sources.others}
    if agent.is_known:
        named[agent.name] = getattr(config.sources, agent.name).roots
    return {Path(root).expanduser().absolute() for root in named.get(agent.name, ())}


def _left_out(agent: Agent, roots: list[Root]) -> Iterator[Finding]:
    """Say what is on this machine of an agent that is not archived."""
    if _is_here(roots):
        why = "off" if agent.configured is Configured.OFF else "not configured"
        sessions = counted(sum(len(root.sessions) for root in roots), "session")
        yield Finding(agent.name, Level.OK, why, sessions, agent.hint(is_here=True))


def _source(config: Config, agent: Agent, roots: list[Root]) -> Iterator[Finding]:
    configured = _configured(config, agent)
    awaited: list[str] = []
    for root in roots:
        if not root.is_there and root.path in configured:
            message = "configured, and not there; it is awaited"
            yield Finding(agent.name, Level.WARN, printable(root.path), message)
        elif not root.is_there:
            awaited.append(printable(root.path))
        elif root.path not in root.unreadable:
            yield _root(agent.name, root)
        for path, why in root.unreadable.items():
            yield Finding(
                agent.name, Level.FAIL, printable(path), f"cannot be read: {why}",
                "let this user read it, or run the daemon as its owner",
            )  # fmt: skip
    if awaited:
        several = ", ".join(awaited[:_MOST_AWAITED])
        more = len(awaited) - _MOST_AWAITED
        message = f"sessions may appear in {several}" + (f" and {more:,} more" if more > 0 else "")
        yield Finding(agent.name, Level.OK, "awaited", message)


def _root(name: str, root: Root) -> Finding:
    sessions = counted(len(root.sessions), "session")
    unreadable = [
        each for each, stat in root.sessions.items() if not _is_readable(root, each, stat)
    ]
    if not unreadable:
        return Finding(name, Level.OK, printable(root.path), sessions)
    return Finding(
        name, Level.FAIL, printable(root.path),
        f"{len(unreadable)} of {sessions} cannot be read, such as {unreadable[0]}",
        "let this user read them, or run the daemon as their owner",
    )  # fmt: skip


def _is_readable(root: Root, name: str, stat: Stat | None) -> bool:
    path = root.path / name
    is_file = os.path.lexists(path)  # else it is inside of one, which was read
    return stat is not None and (not is_file or os.access(path, os.R_OK))


def _deleted_soon(agent: Agent, roots: list[Root], journal: Journal | None) -> Iterator[Finding]:
    """Warn of what the agent is about to delete while it is not archived."""
    expiry = Expiry({agent.name: agent.source})
    found = count(agent.name, roots, journal, expiry, within_s=SOON_S)
    if found.expiring_unarchived:
        sessions = counted(found.expiring_unarchived, "session")
        within = f"within {SOON_S / _DAY_S:g} days"
        message = f"{sessions} will be deleted by {agent.name} {within}: not archived"
        hint = "`transcriptd sync` archives them now"
        yield Finding(agent.name, Level.WARN, "cleanup", message, hint)
