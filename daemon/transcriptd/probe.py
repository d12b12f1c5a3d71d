"""`transcriptd health`: is the daemon well? For probes, which ask every few seconds.

Standard library only, and little of it: a probe must not cost what the daemon costs. So it finds
the socket by itself, as `config` would; a test holds the two together.
"""
# ruff: noqa: PTH109, PTH110, PTH111, PTH118, PTH120, PTH123 - pathlib is a fifth of the cost

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from transcriptd import client

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

USAGE = (
    "Usage: transcriptd health [--live | --ready | --strict] [--socket PATH] [--config FILE] "
    "[--json]\nTry 'transcriptd health --help' for help."
)
_KINDS = ("--live", "--ready", "--strict")
_LONGEST_SOCKET = 107


class Wanted(NamedTuple):
    """What the command line asked for."""

    kind: str = "--ready"
    socket: str = ""
    config: str = ""
    as_json: bool = False


class Verdict(NamedTuple):
    """Whether the daemon is well, and what is to be said about it."""

    said: str
    problems: tuple[str, ...] = ()


def main(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Ask, print one line, return the exit status: 0 well, 1 not, 2 wrong usage."""
    try:
        wanted = _parse(argv)
    except ValueError as error:
        sys.stderr.write(f"{USAGE}\n\nError: {error}\n")
        return 2
    try:
        path = wanted.socket or socket_path(environ, wanted.config)
    except (OSError, ValueError) as error:
        verdict = Verdict("not well", (f"the configuration cannot be read: {error}",))
    else:
        verdict = judge(wanted.kind, path)
    name = wanted.kind.removeprefix("--")
    line = f"{verdict.said}: {'; '.join(verdict.problems)}" if verdict.problems else verdict.said
    if wanted.as_json:
        ok = not verdict.problems
        line = json.dumps({"check": name, "ok": ok, "problems": verdict.problems})
    sys.stdout.write(f"{line}\n")
    return 1 if verdict.problems else 0


def judge(kind: str, path: str) -> Verdict:
    """Ask the daemon at a socket one of the three questions."""
    target = {"--live": "/healthz", "--ready": "/readyz", "--strict": "/status"}[kind]
    try:
        answer = client.get(path, target)
        document = answer.json()
    except (OSError, ValueError) as error:
        why = (isinstance(error, OSError) and error.strerror) or error
        return Verdict("not well", (f"nobody answers at {path}: {why}",))
    if kind == "--strict":
        return _judge_strictly(document)
    state = document.get("status", "")
    if answer.is_ok:
        return Verdict("alive" if kind == "--live" else str(state))
    return Verdict("not ready", (f"the daemon is {state}",))


def _judge_strictly(document: Mapping[str, Any]) -> Verdict:
    problems = []
    if document["state"] != "ready":
        problems.append(f"the daemon is {document['state']}")
    problems += [
        f"degraded, {trouble['reason']}: {trouble['message']}"
        for trouble in document["degraded"]
        if trouble["reason"] != document["state"]
    ]
    age, allowed = document["totals"]["oldest_unarchived_s"], document["max_age"]
    if age is not None and age > allowed:
        name = _oldest(document.get("sessions", ()))
        problems.append(f"{name} has not been archived for {age:.0f} s, {allowed:g} are allowed")
    if problems:
        return Verdict("not well", tuple(problems))
    count = document["totals"]["sessions"]
    return Verdict(f"well: {count} session{'' if count == 1 else 's'}")


def _oldest(sessions: Sequence[Mapping[str, Any]]) -> str:
    """Name the session that waits the longest."""
    waiting = [each for each in sessions if each.get("oldest_unarchived_s") is not None]
    if not waiting:
        return "something"
    return f"session {max(waiting, key=lambda each: each['oldest_unarchived_s'])['id']}"


def socket_path(environ: Mapping[str, str], config: str = "") -> str:
    """Find the daemon's socket as `config` does. Raises `OSError` and `ValueError`."""
    document, directory = _file(environ, config)
    table = document.get("health")
    in_file = table.get("socket") if isinstance(table, dict) else None
    if found := _given("HEALTH__SOCKET", "health.socket", in_file, directory, environ):
        return found
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    state = _given("STATE_DIR", "state_dir", document.get("state_dir"), directory, environ)
    state = state or os.path.join(_xdg(environ, "XDG_STATE_HOME", ".local/state"), "transcriptd")
    if runtime.startswith("/"):
        path = os.path.join(runtime, "transcriptd", "transcriptd.sock")
    else:
        path = os.path.join(state, "run", "transcriptd.sock")
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        return path
    from hashlib import sha256
    from tempfile import gettempdir

    token = sha256(os.fsencode(state)).hexdigest()[:16]
    temporary = environ.get("TMPDIR") or gettempdir()
    return os.path.join(temporary, f"transcriptd-{os.getuid()}", f"{token}.sock")


def _parse(argv: Sequence[str]) -> Wanted:
    said: dict[str, Any] = {}
    words = iter(argv)
    for word in words:
        name, separator, value = word.partition("=")
        if word in _KINDS:
            if said.setdefault("kind", word) != word:
                raise ValueError(f"{said['kind']} and {word} exclude each other")
        elif word == "--json":
            said["as_json"] = True
        elif name in {"--socket", "--config"}:
            value = value if separator else next(words, "")
            if not value:
                raise ValueError(f"{name} requires an argument")
            said[name.removeprefix("--")] = value
        else:
            raise ValueError(f"no such option: {word}")
    return Wanted(**said)


def _file(environ: Mapping[str, str], config: str) -> tuple[dict[str, Any], str]:
    """Return the configuration file's content and directory; nothing where there is none."""
    named = config or environ.get("TRANSCRIPTD_CONFIG", "").strip()
    if named:
        path = _expand(named, os.getcwd(), environ)
    else:
        base = _xdg(environ, "XDG_CONFIG_HOME", ".config")
        path = os.path.join(base, "transcriptd", "config.toml")
        if not os.path.exists(path):
            return {}, ""
    with open(path, "rb") as file:
        content = file.read()
    import tomllib

    return tomllib.loads(content.decode()), os.path.dirname(path)


def _given(
    variable: str, key: str, in_file: object, directory: str, environ: Mapping[str, str]
) -> str:
    """Return a path that somebody set, made absolute; empty where nobody did."""
    here = os.getcwd()
    value = environ.get(f"TRANSCRIPTD_{variable}", "")
    if value.strip():
        return _expand(value, here, environ)
    named = environ.get(f"TRANSCRIPTD_{variable}_FILE", "")
    if named.strip():
        return _expand(_content(named), os.path.join(here, os.path.dirname(named)), environ)
    credentials = environ.get("CREDENTIALS_DIRECTORY", "").strip()
    if credentials and os.path.exists(handed := os.path.join(credentials, key)):
        return _expand(_content(handed), credentials, environ)
    return _expand(in_file, directory, environ) if isinstance(in_file, str) and in_file else ""


def _content(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().rstrip("\r\n")


def _xdg(environ: Mapping[str, str], variable: str, otherwise: str) -> str:
    named = environ.get(variable, "")
    return named if named.startswith("/") else os.path.join(_home(environ), otherwise)


def _home(environ: Mapping[str, str]) -> str:
    if named := environ.get("HOME"):
        return named
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/nonexistent"


def _expand(value: str, base: str, environ: Mapping[str, str]) -> str:
    """Make a path absolute and write it as pathlib would: it may be hashed."""
    if value == "~" or value.startswith("~/"):
        path = os.path.join(_home(environ), value[2:])
    else:
        path = os.path.join(base, os.path.expanduser(value))
    return "/" + "/".join(part for part in path.split("/") if part not in {"", "."})
