"""The README's table of what servers do: it is what the probe finds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers.table import BEGIN, END, SERVERS, columns_of, markdown, probed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers import Server

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def _table() -> str:
    return README.split(BEGIN, 1)[1].split(END, 1)[0]


@pytest.mark.parametrize("name", SERVERS)
async def test_the_readme_says_what_the_probe_finds_of_a_server(
    served: Callable[[str], Server], name: str
) -> None:
    found = await probed(served(name))
    assert columns_of(_table())[name] == found


def test_the_readme_has_every_capability_and_every_server_in_order() -> None:
    columns = columns_of(_table())
    assert tuple(columns) == SERVERS
    assert markdown(columns.values()) == _table()
