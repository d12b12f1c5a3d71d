"""`transcriptd service`: the daemon as a systemd user service."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from transcriptd import service
from transcriptd.cli.options import config_file_option, load_or_exit
from transcriptd.config import layers
from transcriptd.config.reference import LEAVES
from transcriptd.errors import TranscriptdError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transcriptd.config import Config

_PLACES = (
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_DATA_HOME",
    "CODETETHER_DATA_DIR",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_CA_BUNDLE",
)
_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@click.group(
    "service",
    epilog="""\b
Examples:
  transcriptd service install       put the user service in place and start it
  transcriptd service status        exit status 0 while it runs
  transcriptd service uninstall     stop it and remove it; archive and state stay
""",
)
def command() -> None:
    """Run the daemon as a systemd user service."""


@command.command(
    epilog="""\b
Examples:
  transcriptd service install
  transcriptd service install --config ~/transcriptd.toml --no-start
"""
)
@config_file_option
@click.option("start", "--no-start", is_flag=True, flag_value=False, default=True,
              help="Enable it only: it starts with the next login.")  # fmt: skip
def install(config_file: Path | None, *, start: bool) -> None:
    """Write the unit, enable it and start it. What is set in this shell is kept, secrets not."""
    config = load_or_exit({}, config_file)
    command = [*service.program(), "run"]
    named = config_file or os.environ.get("TRANSCRIPTD_CONFIG", "").strip()
    if named:
        command += ["--config", str(layers.expand(str(named), Path.cwd(), os.environ))]
    kept = dict(_kept(config))
    secret = sorted(_not_kept(config))
    start = start and not secret
    target = _target()
    try:
        unit = service.render(service.shipped_unit(), command, kept, list(_writable(config)))
        manager = service.Manager(os.environ)
        manager.install(target, unit, start=start)
        lingering = manager.lingering()
    except (TranscriptdError, OSError) as error:
        _fail(error)
    click.echo(f"{target} is {'enabled and running' if start else 'enabled, not started'}.")
    if kept:
        click.echo(f"Kept from this shell: {', '.join(kept)}.")
    _tell_lingering(lingering)
    if secret:
        click.echo(
            f"Secrets do not go into the unit, so it would not see {', '.join(secret)}.\n"
            f"Put them into {_secrets_file()}, one NAME=value a line, mode 0600, and run "
            "`systemctl --user start transcriptd`.",
            err=True,
        )
        sys.exit(1)


@command.command(
    epilog="""\b
Examples:
  transcriptd service uninstall
"""
)
def uninstall() -> None:
    """Stop the service and remove its unit. The archive and the state stay."""
    target = _target()
    try:
        was_there = service.Manager(os.environ).uninstall(target)
    except (TranscriptdError, OSError) as error:
        _fail(error)
    click.echo(f"{target} is {'removed' if was_there else 'not installed'}.")


@command.command(
    epilog="""\b
Examples:
  transcriptd service status
  transcriptd service status --json | jq -r .active
"""
)
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object.")
def status(*, as_json: bool) -> None:
    """Say what systemd knows of the service. Exit status 1 while it does not run."""
    try:
        said = service.Manager(os.environ).status(_target())
    except (TranscriptdError, OSError) as error:
        _fail(error)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(said)))
    elif not said.installed:
        click.echo("The service is not installed: `transcriptd service install`.")
    else:
        process = f" (process {said.pid})" if said.pid else ""
        click.echo(f"{said.unit}: {said.enabled}, {said.active}{process}")
        if said.text:
            click.echo(said.text)
        _tell_lingering(said.lingering)
    if said.active != "active":
        sys.exit(1)


def _target() -> Path:
    base = layers.xdg(os.environ, "XDG_CONFIG_HOME", ".config")
    if base is None:
        _fail(TranscriptdError("this user has no home directory", hint="Set XDG_CONFIG_HOME."))
    return base / "systemd" / "user" / service.UNIT


def _secrets_file() -> str:
    return str(_target().parents[2] / "transcriptd" / "env")


def _kept(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the variables that the service needs to see what this shell sees."""
    for leaf in LEAVES.values():
        name = config.origin[leaf.key]
        if name == leaf.variable and not leaf.secret:
            yield name, _absolute(os.environ[name]) if leaf.is_path else os.environ[name]
        elif name == f"{leaf.variable}_FILE":
            yield name, _absolute(os.environ[name])
    for name in _PLACES:
        if value := os.environ.get(name, "").strip():
            yield name, value


def _absolute(paths: str) -> str:
    here = Path.cwd()
    return os.pathsep.join(
        str(layers.expand(path, here, os.environ)) for path in paths.split(os.pathsep)
    )


def _not_kept(config: Config) -> set[str]:
    """Return the secret variables set here that the service's own file does not have."""
    secret = {leaf.variable for leaf in LEAVES.values() if leaf.secret}
    found = secret & set(config.origin.values())
    if config.sink or config.store == "disabled":
        found |= {name for name in os.environ if name.startswith(layers.SINK)}
    elif config.store == "s3" and config.s3.credentials is None:
        found |= {name for name in _SECRETS if name in os.environ}
    try:
        lines = Path(_secrets_file()).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    return found - {line.partition("=")[0].strip() for line in lines}


def _writable(config: Config) -> Iterator[Path]:
    """Yield the directories the daemon writes to that the shipped unit does not know."""
    if config.origin["state_dir"] != "default" or os.environ.get("XDG_STATE_HOME"):
        yield config.state_dir
    if config.store == "local" and (
        config.origin["local.path"] != "default" or os.environ.get("XDG_DATA_HOME")
    ):
        yield config.local.path
    if config.origin["health.socket"] != "default":
        yield config.health.socket.parent


def _tell_lingering(lingering: bool | None) -> None:  # noqa: FBT001 - three answers, one argument
    if lingering is False:
        click.echo(
            "Lingering is off: the service stops when you log out. "
            "`loginctl enable-linger` keeps it running."
        )


def _fail(error: TranscriptdError | OSError) -> NoReturn:
    click.echo(f"transcriptd: {error}", err=True)
    if hint := getattr(error, "hint", ""):
        click.echo(f"hint: {hint}", err=True)
    sys.exit(1)
