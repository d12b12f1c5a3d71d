"""The reference of the configuration: what is generated, and that it is true."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.unit.configuration import HOME, refused, value_of, written
from transcriptd.config import load
from transcriptd.config.reference import LEAVES, example, literal, parse_size, schema
from transcriptd.config.suggested import SUGGESTIONS, Suggestion, commented

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("transcriptd.example.toml", example()),
        ("transcriptd.schema.json", json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"),
    ],
)
def test_the_shipped_reference_is_what_the_code_says(file: str, text: str) -> None:
    assert (ROOT / "config" / file).read_text() == text


def test_the_example_as_it_stands_changes_nothing(tmp_path: Path) -> None:
    shipped, default = load({}, HOME, written(tmp_path, example())), load({}, HOME, None)
    assert all(value_of(shipped, key) == value_of(default, key) for key in LEAVES)


def test_the_example_with_every_key_uncommented_is_a_configuration(tmp_path: Path) -> None:
    text = _uncommented(example())
    bundle = written(tmp_path, "")
    text = text.replace("/etc/ssl/certs/ca-certificates.crt", str(bundle))
    file = tmp_path / "full.toml"
    file.write_text(text)
    config = load({}, HOME, file)
    assert {config.origin[key] for key in LEAVES} == {str(file)}
    assert config.store == "s3"
    for leaf in LEAVES.values():
        if not leaf.default_text and leaf.default not in ("", ()):
            assert value_of(config, leaf.key) == leaf.default, leaf.key


@pytest.mark.parametrize("suggestion", SUGGESTIONS, ids=lambda suggestion: suggestion.agent)
def test_a_suggested_agent_that_is_uncommented_is_a_source(
    suggestion: Suggestion, tmp_path: Path
) -> None:
    tables = "\n".join(commented()).split("\n\n")
    (text,) = (table for table in tables if table.startswith(f"# {suggestion.agent}."))
    (other,) = load({}, HOME, written(tmp_path, _uncommented(text))).sources.others
    wanted = suggestion.source
    roots = tuple(root.replace("~", "/home/ann") for root in wanted.roots)
    assert (other.name, other.roots, other.glob) == (wanted.name, roots, wanted.glob)
    assert other.enabled


def test_the_example_suggests_at_least_six_agents_that_can_be_had_together(tmp_path: Path) -> None:
    config = load({}, HOME, written(tmp_path, _uncommented("\n".join(commented()))))
    assert [other.name for other in config.sources.others] == [
        suggestion.source.name for suggestion in SUGGESTIONS
    ]
    assert len(SUGGESTIONS) >= 6


@pytest.mark.parametrize(
    "text",
    [
        '[sources.x]\nroot = "/x"',
        '[sources.x]\nroot = ["/x", "/y"]\nglob = ["*.jsonl"]\nenabled = false',
        "[sources.codex]\nenabled = false",
        '[[sources]]\nname = "x"\nroot = "/x"\n[[sources]]\nname = "codex"\nroots = ["/c"]',
    ],
)
def test_the_schema_takes_sources_that_the_program_takes(text: str, tmp_path: Path) -> None:
    assert _fits_the_schema(text)
    load({}, HOME, written(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "[sources.x]\nenabled = true",
        '[sources.x]\nroot = "/x"\nglobs = "*"',
        '[sources.X]\nroot = "/x"',
        '[sources.codex]\nroot = "/x"',
        '[[sources]]\nroot = "/x"',
        '[[sources]]\nname = "x"',
        '[[sources]]\nname = "codex"\nroot = "/x"',
    ],
)
def test_the_schema_refuses_sources_that_the_program_refuses(text: str, tmp_path: Path) -> None:
    assert not _fits_the_schema(text)
    refused({}, file=written(tmp_path, text))


def test_the_schema_takes_the_example_with_every_key_uncommented() -> None:
    assert _fits_the_schema(_uncommented(example()))


def test_no_key_could_be_taken_for_the_name_of_a_file_with_its_value() -> None:
    assert not [leaf.key for leaf in LEAVES.values() if leaf.variable.endswith("_FILE")]


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MiB", 64 << 20), ("1.5 GiB", 3 << 29), ("500kB", 500_000), ("2k", 2048), ("7", 7)],
)
def test_a_size_may_have_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert load({}, {**HOME, "TRANSCRIPTD_MAX_DOCUMENT": text}, None).max_document == size
    assert load({"max_document": size}, HOME, None).max_document == size


def test_a_size_that_may_be_nothing_is_written_as_nothing() -> None:
    assert literal(LEAVES["scrub.rate"], 0) == "0"
    assert load({"scrub.rate": "0"}, HOME, None).scrub.rate == 0


def _uncommented(text: str) -> str:
    return re.sub(r"(?m)^# (\w+ = |\[+\w)", r"\1", text)


def _fits_the_schema(text: str) -> bool:
    jsonschema: Any = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    return bool(jsonschema.Draft202012Validator(schema()).is_valid(tomllib.loads(text)))
