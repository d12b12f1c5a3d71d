"""What befalls requests, spell by spell, drawn by chance: mostly nothing.

Owns the faults of one proxy. Knows nothing of what is asked and who asks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.proxy import (
    SERVER_ERROR,
    SLOW_DOWN,
    BlackHole,
    Drip,
    FlipByte,
    LoseAnswer,
    Reset,
    too_many_requests,
)

if TYPE_CHECKING:
    import random

    from tests.exchange import Fault
    from tests.proxy import FaultProxy

CLEAR, OUTAGE = "clear", "outage"


@dataclass(frozen=True, slots=True)
class Fog:
    """A fault, and which share of all requests it befalls."""

    fault: Fault
    share: float


FOGS = {
    "slow down": Fog(SLOW_DOWN, 0.2),
    "too many requests": Fog(too_many_requests("1"), 0.1),
    "server errors": Fog(SERVER_ERROR, 0.15),
    "resets": Fog(Reset(), 0.15),
    "lost answers": Fog(LoseAnswer(), 0.15),
    "flipped bytes": Fog(FlipByte(), 0.1),
    "black holes": Fog(BlackHole(), 0.03),
    "slow answers": Fog(Drip(0.002), 0.3),
}
"""Each with its share of requests. What is flipped needs a server that checks what it is sent."""


@dataclass(slots=True)
class Weather:
    """Changes after at most `longest` seconds. `befell` counts requests by what befell them."""

    proxy: FaultProxy
    chance: random.Random
    longest: float
    now: str = CLEAR
    befell: Counter[str] = field(default_factory=Counter)
    spells: Counter[str] = field(default_factory=Counter)

    async def change(self) -> None:
        """Let spells follow each other until this is cancelled; then it is clear."""
        try:
            while True:
                await self._spell(CLEAR)
                await self._spell(self.chance.choice([*FOGS, OUTAGE]))
        finally:
            await self.clear_up()

    async def clear_up(self) -> None:
        for rule in self.proxy.rules:
            self.befell[self.now] += rule.hits
        self.proxy.rules.clear()
        if self.now == OUTAGE:
            await self.proxy.accept()
        self.now = CLEAR

    async def _spell(self, name: str) -> None:
        await self.clear_up()
        self.now = name
        self.spells[name] += 1
        if name == OUTAGE:
            await self.proxy.refuse()
        elif fog := FOGS.get(name):
            self.proxy.add(fog.fault, probability=fog.share)
        await asyncio.sleep(self.chance.uniform(0.2, 1.0) * self.longest)
