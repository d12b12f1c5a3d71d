"""What a growing session costs on the wire, counted between the daemon and a real server."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.bench.wire import (
    APPEND,
    FIFTY,
    FIVE,
    KB,
    MB,
    MEGABYTE,
    PAUSES,
    Growth,
    archive,
    rewrite,
    stay,
)
from tests.servers import Missing, create_bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.wire import Cost
    from tests.servers import Pool, Server

BODIES = {
    MEGABYTE: 4 * MB,
    PAUSES: 4 * MB,
    FIVE: 4 * 5 * MB,
    FIFTY: 2.2 * 50 * MB,
    APPEND: 2 * APPEND.new + (64 << 10),
}
DAY_S = 86400.0


def named(growth: Growth) -> str:
    return growth.name


@pytest.fixture(scope="module")
def server(servers: Pool) -> Server:
    try:
        return servers.get("minio")
    except Missing as minio:
        try:
            return servers.get("ministack")
        except Missing as ministack:
            pytest.skip(f"{minio}; {ministack}")


@pytest.fixture(scope="module")
def cost(server: Server) -> Callable[[Growth], Cost]:
    @cache
    def measured(growth: Growth) -> Cost:
        if growth.before and server.name != "minio":
            pytest.skip("minio is missing, and an emulator in Python takes minutes for 1 GB")
        return asyncio.run(archive(create_bucket(server), growth))

    return measured


@pytest.mark.parametrize("growth", BODIES, ids=named)
def test_the_bodies_stay_within_a_few_times_what_is_new(
    cost: Callable[[Growth], Cost], growth: Growth
) -> None:
    assert cost(growth).body_bytes <= BODIES[growth]


@pytest.mark.parametrize("growth", [MEGABYTE, PAUSES, FIVE, FIFTY], ids=named)
def test_a_save_takes_little_more_than_one_request(
    cost: Callable[[Growth], Cost], growth: Growth
) -> None:
    assert cost(growth).requests_per_save <= 1.3


def test_a_gigabyte_is_sealed_in_a_dozen_requests(cost: Callable[[Growth], Cost]) -> None:
    assert cost(APPEND).requests.total() <= 12


def test_folded_segments_go_many_in_a_request(cost: Callable[[Growth], Cost]) -> None:
    requests = cost(FIVE).requests
    assert requests["tail"] > 1900
    assert requests["delete"] <= 4


def test_a_quiet_session_is_sealed_once_and_then_nothing_is_sent(server: Server) -> None:
    growth = Growth("to 80 KB", 40, 80 * KB)
    asked = asyncio.run(stay(create_bucket(server), growth, DAY_S))
    assert asked == {"list": 1, "base": 1, "delete": 1}


def test_all_that_is_sent_is_counted(server: Server) -> None:
    growth = Growth("to 1 MB", 10, MB)
    written = asyncio.run(rewrite(create_bucket(server), growth))
    assert (written.body_bytes, written.requests) == (sum(growth.lengths), {"base": 10})
