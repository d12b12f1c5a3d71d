"""The options that every verb has, and how a configuration that cannot be is told."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from transcriptd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transcriptd.config import Config

EXIT_CONFIG = 78


def config_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--config` and `--set` to a verb, which gets the loaded configuration as `config`."""

    @config_file_option
    @click.option(
        "overrides",
        "--set",
        metavar="KEY=VALUE",
        multiple=True,
        callback=_pairs,
        help="Set one key, such as debounce.quiet=0.2. Can be repeated.",
    )
    @functools.wraps(function)
    def with_config(
        *args: object, config_file: Path | None, overrides: dict[str, str], **kwargs: object
    ) -> object:
        return function(*args, config=load_or_exit(overrides, config_file), **kwargs)

    return with_config


config_file_option = click.option(
    "config_file",
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The configuration file.  [default: $TRANSCRIPTD_CONFIG, else "
    "~/.config/transcriptd/config.toml]",
)
"""Adds `--config` alone, for a verb that loads by itself: it gets the path as `config_file`."""


def load_or_exit(
    overrides: Mapping[str, object] | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Config:
    """Load the configuration, or print every problem and exit with status 78."""
    from transcriptd.config import load

    try:
        return load(overrides or {}, environ, file)
    except ConfigError as error:
        refuse(error)


def refuse(error: ConfigError) -> NoReturn:
    """Print every problem of the configuration and exit with status 78."""
    for problem in error.problems:
        click.echo(f"transcriptd: configuration: {problem}", err=True)
    sys.exit(EXIT_CONFIG)


def _pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for value in values:
        key, separator, text = value.partition("=")
        if not separator:
            raise click.BadParameter(f"expected KEY=VALUE, got {value!r}")
        pairs[key.strip()] = text
    return pairs
