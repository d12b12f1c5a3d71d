"""The reference of the configuration: what is generated, and that it is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.unit.configuration import HOME, value_of, written
from transcriptd.config import load
from transcriptd.config.reference import LEAVES, example, parse_size, schema

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
    text = re.sub(r"(?m)^# (\w+ = )", r"\1", example())
    bundle = written(tmp_path, "")
    text = text.replace("/etc/ssl/certs/ca-certificates.crt", str(bundle))
    file = tmp_path / "full.toml"
    file.write_text(text)
    config = load({}, HOME, file)
    assert set(config.origin.values()) == {str(file)}
    assert config.store == "s3"
    for leaf in LEAVES.values():
        if not leaf.default_text and leaf.default not in ("", ()):
            assert value_of(config, leaf.key) == leaf.default, leaf.key


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
