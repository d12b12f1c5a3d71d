"""A forked process is like one that was started, and comes to an end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import forked
from tests.home import Home

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.make(tmp_path / "home")


@pytest.mark.parametrize(
    "arguments", [["--version"], ["sources"], ["config", "check"], ["no", "verb"], ["cat", "none"]]
)
def test_it_ends_as_one_that_is_started(home: Home, arguments: list[str]) -> None:
    home.environ["TRANSCRIPTD_WORKERS"] = "0" if arguments[0] == "config" else "2"
    with home.start(*arguments) as process:
        out, err = process.communicate(timeout=60)
    assert home.ended(*arguments) == (process.returncode, out, err)


def test_it_dies_at_the_place_that_its_environment_names(home: Home) -> None:
    (home.sessions / "one.json").write_text('{"id":"one","messages":[{"role":"user"}]}')
    home.environ["TRANSCRIPTD_FAILPOINT"] = "staged"
    assert home.run("sync").status == -9
    del home.environ["TRANSCRIPTD_FAILPOINT"]
    assert home.run("sync").status == 0


def test_what_does_not_end_is_killed(home: Home) -> None:
    assert home.run("sync").status == 0
    environ = {"HOME": str(home.path)}
    assert forked.run(["journal", "--follow"], environ, home.path, 1).status == -9
