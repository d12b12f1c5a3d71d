"""The long run in short: a few examples of what `python -m tests.long` tries for hours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.long.__main__ import run
from tests.long.places import placed
from tests.servers import Missing, create_bucket

if TYPE_CHECKING:
    from tests.servers import Pool


def test_nothing_is_lost_on_a_server_whatever_happens_to_requests_and_processes(
    servers: Pool,
) -> None:
    try:
        server = create_bucket(servers.get("ministack"))
    except Missing as missing:
        pytest.skip(str(missing))
    with placed("ministack", server=server) as place:
        run(place, examples=3, steps=15, number=1)


def test_nothing_is_lost_in_a_directory_whatever_happens_to_operations_and_processes() -> None:
    with placed("local") as place:
        run(place, examples=10, steps=15, number=1)
