"""Agents at desks: each has one session at a time, which is begun, worked on and deleted.

Knows nothing of the daemon but what the sessions' accounts heard.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.soak.works import (
    ClaudeWork,
    CodeTetherWork,
    CodexWork,
    LongCodexWork,
    StoredWork,
    ZeroClawWork,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from tests.home import Home
    from tests.soak.account import Account
    from tests.soak.works import Work

_RETIRES_AT = 300_000  # bytes, at most
_LONG_RETIRES_AT = 16 << 20
_UNARCHIVED = 0.1  # how often a session is deleted before it is archived

KINDS: Sequence[Callable[[Home, random.Random], Work]] = (
    *(CodeTetherWork, CodeTetherWork, CodeTetherWork, CodeTetherWork),
    *(ClaudeWork, ClaudeWork, CodexWork, CodexWork, LongCodexWork),
    *(ZeroClawWork, StoredWork),
)


class Crew:
    """So many desks. `did` counts what was done, `accounts` are of all sessions there ever were.

    `aged`: the first sessions are in the midst of their lives, as later on, so that what a daemon
    needs for them is not needed more and more while sessions grow up.
    """

    def __init__(
        self, home: Home, chance: random.Random, desks: int, *, aged: bool = False
    ) -> None:
        self.did: Counter[str] = Counter()
        self.accounts: dict[str, Account] = {}
        self._home = home
        self._chance = chance
        self._full: dict[str, float] = {}
        self._desks = [self._begins(KINDS[at % len(KINDS)]) for at in range(desks)]
        for work in self._desks if aged else ():
            age = self._full[work.account.id] * chance.random()
            while work.account.length < min(age, self._full[work.account.id]):
                self._works(work)

    def works(self) -> None:
        """Do something at one desk."""
        at = self._chance.randrange(len(self._desks))
        work = self._desks[at]
        if self._is_over(work):
            work.ends()
            work.account.is_gone = True
            self.did["ends"] += 1
            self._desks[at] = work = self._begins(type(work))
        self._works(work)

    def works_everywhere(self) -> None:
        for work in self._desks:
            self._works(work)

    def settles(self) -> None:
        for work in self._desks:
            work.settles()

    def _works(self, work: Work) -> None:
        what = work.works()
        self.did[what] += 1
        if what == "archives":
            self._full[work.account.id] = 0.0  # nothing more comes

    def _is_over(self, work: Work) -> bool:
        account = work.account
        if account.length < self._full[account.id]:
            return False
        return account.is_archived or self._chance.random() < _UNARCHIVED

    def _begins(self, kind: Callable[[Home, random.Random], Work]) -> Work:
        work = kind(self._home, self._chance)
        full = _LONG_RETIRES_AT if kind is LongCodexWork else _RETIRES_AT
        self._full[work.account.id] = self._chance.uniform(0.1, 1) * full
        self.accounts[work.account.id] = work.account
        return work
