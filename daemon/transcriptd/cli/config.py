"""`transcriptd config`: what the configuration is, and what it can be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from transcriptd.cli.options import config_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transcriptd.config import Config
    from transcriptd.config.reference import Leaf


@click.group(
    "config",
    epilog="""\b
Examples:
  transcriptd config check                              exit status 78 and every problem, or 0
  transcriptd config show                               every value and where it comes from
  mkdir -p ~/.config/transcriptd
  transcriptd config example > ~/.config/transcriptd/config.toml
""",
)
def command() -> None:
    """Check, show and explain the configuration."""


@command.command(
    epilog="""\b
Examples:
  transcriptd config check
  transcriptd config check --config ./config.toml --set workers=4
"""
)
@config_option
def check(config: Config) -> None:
    """Say whether the configuration can be used, and where the archive lies."""
    click.echo(f"The configuration is good. {archive_line(config)}")


@command.command(
    epilog="""\b
Examples:
  transcriptd config show
  transcriptd config show --json | jq -r '."s3.bucket".value'
"""
)
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object.")
@config_option
def show(config: Config, *, as_json: bool) -> None:
    """Print every key with its value and where it comes from. Secrets are not shown."""
    from transcriptd.config.reference import literal

    if as_json:
        values = {
            leaf.key: {"value": _shown(leaf, value), "origin": config.origin[leaf.key]}
            for leaf, value in _values(config)
        } | {key: {"value": value, "origin": config.origin[key]} for key, value in _of_file(config)}
        click.echo(json.dumps(values, indent=2, default=str))
        return
    click.echo(f"# {archive_line(config)}")
    for leaf, value in _values(config):
        origin = config.origin[leaf.key]
        if leaf.secret:
            click.echo(f"{leaf.key} = {f'set (from {origin})' if value else 'not set'}")
        else:
            click.echo(f"{leaf.key} = {literal(leaf, value)}  # {origin}")
    for key, value in _of_file(config):
        click.echo(f"{key} = {json.dumps(value, ensure_ascii=False)}  # {config.origin[key]}")


@command.command(
    epilog="""\b
Examples:
  transcriptd config schema > transcriptd.schema.json
"""
)
def schema() -> None:
    """Print the JSON schema of the configuration file."""
    from transcriptd.config.reference import schema as describe

    click.echo(json.dumps(describe(), indent=2, ensure_ascii=False))


@command.command(
    epilog="""\b
Examples:
  mkdir -p ~/.config/transcriptd
  transcriptd config example > ~/.config/transcriptd/config.toml
"""
)
def example() -> None:
    """Print a configuration file with every key, its explanation and its default."""
    from transcriptd.config.reference import example as write

    click.echo(write(), nl=False)


def archive_line(config: Config) -> str:
    """Say in one sentence where the archive is, and how to have it elsewhere."""
    if config.store == "disabled":
        missing = ", ".join(config.missing)
        return f"Nothing is archived: CodeTether's sink is configured in part; missing: {missing}."
    if config.store == "local":
        return (
            f"The archive is the directory {archive_place(config)}. To have it in S3, set "
            "s3.bucket (TRANSCRIPTD_S3__BUCKET), or the CODETETHER_HISTORY_S3_* variables."
        )
    where = f" at {config.s3.endpoint}" if config.s3.endpoint else ""
    by = " (from CODETETHER_HISTORY_S3_*)" if config.sink else ""
    return f"The archive is {archive_place(config)}{where}{by}."


def archive_place(config: Config) -> str:
    """Name the archive."""
    if config.store == "local":
        return str(config.local.path)
    return f"s3://{config.s3.bucket}/{config.prefix}"


def _values(config: Config) -> Iterator[tuple[Leaf, Any]]:
    from transcriptd.config.reference import LEAVES

    for leaf in LEAVES.values():
        value: Any = config
        for name in leaf.key.split("."):
            value = getattr(value, name)
        yield leaf, value


def _of_file(config: Config) -> Iterator[tuple[str, object]]:
    for other in config.sources.others:
        yield f"sources.{other.name}.root", other.roots
        yield f"sources.{other.name}.glob", other.glob
        yield f"sources.{other.name}.enabled", other.enabled
        yield f"sources.{other.name}.redaction", other.redaction
        yield f"sources.{other.name}.exclude", other.exclude
        yield f"sources.{other.name}.exclude_older", other.exclude_older
    for rule in config.rules:
        yield rule.key, rule.pattern


def _shown(leaf: Leaf, value: object) -> object:
    return ("set" if value else "") if leaf.secret else value
