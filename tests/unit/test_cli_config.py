"""`transcriptd config`, as a person calls it."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.unit.configuration import HOME, SINK, written
from transcriptd.cli.config import command
from transcriptd.config.reference import LEAVES, schema

if TYPE_CHECKING:
    from pathlib import Path


def test_check_prints_every_problem_and_exits_with_78(tmp_path: Path) -> None:
    file = written(tmp_path, "workers = 0\nnope = 1")
    result = CliRunner(env=HOME).invoke(command, ["check", "--config", str(file)])
    assert result.exit_code == 78
    bound = "expected a whole number from 1 to 256, got 0"
    assert result.stderr.splitlines() == [
        f"transcriptd: configuration: nope ({file}): unknown",
        f"transcriptd: configuration: workers ({file}): {bound}",
    ]


def test_check_says_where_the_archive_is() -> None:
    result = CliRunner(env={**HOME, **SINK}).invoke(command, ["check"])
    assert result.exit_code == 0
    assert "s3://sink/history/ at https://minio.example:9000" in result.output


def test_show_prints_each_key_with_its_origin() -> None:
    runner = CliRunner(env={**HOME, "TRANSCRIPTD_DRAIN": "7"})
    text = runner.invoke(command, ["show", "--set", "workers=3"]).output
    assert "workers = 3  # command line\n" in text
    assert "drain = 7.0  # TRANSCRIPTD_DRAIN\n" in text
    shown = json.loads(runner.invoke(command, ["show", "--json"]).output)
    assert set(shown) == set(LEAVES)
    assert shown["drain"] == {"value": 7.0, "origin": "TRANSCRIPTD_DRAIN"}


@pytest.mark.parametrize(
    "text", ['[sources.x]\nroot = "/x"', '[[sources]]\nname = "x"\nroot = "/x"']
)
def test_show_prints_other_agents_with_their_origin(text: str, tmp_path: Path) -> None:
    file = written(tmp_path, text)
    runner = CliRunner(env={**HOME, "TRANSCRIPTD_CONFIG": str(file)})
    shown = runner.invoke(command, ["show"]).output
    assert f'sources.x.root = ["/x"]  # {file}\n' in shown
    assert 'sources.x.glob = ["**/*.jsonl"]  # default\n' in shown
    as_json = json.loads(runner.invoke(command, ["show", "--json"]).output)
    assert as_json["sources.x.root"] == {"value": ["/x"], "origin": str(file)}
    assert as_json["sources.x.enabled"] == {"value": True, "origin": "default"}


def test_schema_and_example_print_what_is_shipped() -> None:
    runner = CliRunner()
    assert json.loads(runner.invoke(command, ["schema"]).output) == schema()
    assert "debounce" in tomllib.loads(runner.invoke(command, ["example"]).output)
