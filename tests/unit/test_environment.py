"""The file that the unit and every verb share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transcriptd.environment import complete

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with a home that has a file."""
    directory = tmp_path / ".config" / "transcriptd"
    directory.mkdir(parents=True)
    (directory / "env").write_text(
        "# a comment\n; another\n\nTRANSCRIPTD_MACHINE = laptop\n"
        'CODETETHER_HISTORY_S3_BUCKET="b"\nCODETETHER_HISTORY_S3_SECRET_KEY=a=b\nnonsense\n'
    )
    return {"HOME": str(tmp_path)}


def test_what_the_file_sets_is_added(environ: dict[str, str]) -> None:
    complete(environ)
    assert environ["TRANSCRIPTD_MACHINE"] == "laptop"
    assert environ["CODETETHER_HISTORY_S3_BUCKET"] == "b"
    assert environ["CODETETHER_HISTORY_S3_SECRET_KEY"] == "a=b"
    assert "nonsense" not in environ


def test_what_the_environment_sets_goes_before_the_file(environ: dict[str, str]) -> None:
    environ["TRANSCRIPTD_MACHINE"] = "pod"
    complete(environ)
    assert environ["TRANSCRIPTD_MACHINE"] == "pod"


def test_the_variables_of_the_sink_are_never_mixed(environ: dict[str, str]) -> None:
    environ["CODETETHER_HISTORY_S3_ENDPOINT"] = "http://127.0.0.1:1"
    complete(environ)
    assert "CODETETHER_HISTORY_S3_SECRET_KEY" not in environ
    assert environ["TRANSCRIPTD_MACHINE"] == "laptop"


def test_without_a_file_nothing_changes(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    complete(environ)
    assert environ == {"HOME": str(tmp_path)}
