"""What the tests of the configuration share: an environment, a file, and how problems are seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transcriptd.config import Config, load
from transcriptd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HOME = {"HOME": "/home/ann"}
SINK = {
    "CODETETHER_HISTORY_S3_ENDPOINT": " https://minio.example:9000\n",
    "CODETETHER_HISTORY_S3_BUCKET": "sink",
    "CODETETHER_HISTORY_S3_ACCESS_KEY": "sink-key",
    "CODETETHER_HISTORY_S3_SECRET_KEY": "sink-secret",
}


def written(directory: Path, text: str) -> Path:
    file = directory / "config.toml"
    file.write_text(text)
    return file


def refused(
    environ: Mapping[str, str],
    cli: Mapping[str, object] | None = None,
    file: Path | None = None,
) -> dict[str, str]:
    """The problems of a configuration that cannot be, by key."""
    with pytest.raises(ConfigError) as caught:
        load(cli or {}, {**HOME, **environ}, file)
    return {problem.key: str(problem) for problem in caught.value.problems}


def value_of(config: Config, key: str) -> object:
    value: object = config
    for name in key.split("."):
        value = getattr(value, name)
    return value
