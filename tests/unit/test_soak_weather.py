"""What befalls requests in a soak, and that all of it ends."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.proxy import FaultProxy
from tests.servers import Server
from tests.servers.process import listens
from tests.soak.weather import CLEAR, FOGS, OUTAGE, Weather

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOWHERE = Server("nowhere", "http://127.0.0.1:1", "b", "k", "s")


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    async with FaultProxy(NOWHERE) as proxy:
        yield proxy


def answers(proxy: FaultProxy) -> bool:
    return listens(urlsplit(proxy.server.endpoint).port or 0)


@pytest.mark.parametrize("spell", [*FOGS, OUTAGE])
async def test_a_spell_is_over_when_it_clears_up(proxy: FaultProxy, spell: str) -> None:
    weather = Weather(proxy, random.Random(1), longest=0.0)
    await weather._spell(spell)
    assert bool(proxy.rules) is answers(proxy) is (spell != OUTAGE)
    await weather.clear_up()
    assert (weather.now, proxy.rules, answers(proxy)) == (CLEAR, [], True)


async def test_it_is_clear_once_the_weather_changes_no_more(proxy: FaultProxy) -> None:
    weather = Weather(proxy, random.Random(1), longest=0.001)
    changing = asyncio.create_task(weather.change())
    async with asyncio.timeout(30):
        while not {*FOGS, OUTAGE} <= weather.spells.keys() or weather.now != OUTAGE:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
    changing.cancel()
    await asyncio.wait([changing])
    assert (weather.now, proxy.rules, answers(proxy)) == (CLEAR, [], True)
