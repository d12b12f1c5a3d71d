"""The course of a soak: agents work, the weather changes, the daemon is killed and stopped.

In the first and the last fifth of the time the daemon's lives are short; in between one is long
enough to show what creeps. At the end the weather is clear, everything is to be archived, and all
that is archived is read and held against what was saved.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import TYPE_CHECKING, Any

from tests.proxy import FaultProxy
from tests.soak.bucket import Snapshot
from tests.soak.crew import Crew
from tests.soak.subject import Subject
from tests.soak.trend import SHORTEST_S, Limit, Trend, trend
from tests.soak.watch import sample
from tests.soak.weather import Weather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.home import Home
    from tests.servers import Server
    from tests.soak.account import Account
    from tests.soak.watch import Sample

LIMITS: dict[str, Limit] = {
    "rss_mb": Limit("resident memory", "MB", 24.0, slack=6.0),
    "descriptors": Limit("file descriptors", "", 8.0, slack=4.0),
    "threads": Limit("threads", "", 4.0, slack=2.0),
    "journal_per_entry": Limit("the journal, for each entry kept", "B", 200.0, slack=100.0),
    "wal_mb": Limit("the journal's write-ahead log", "MB", 8.0, slack=4.0),
    "lag_ms": Limit("a turn of the event loop", "ms", 100.0, slack=50.0),
    "journal_mb": Limit("the journal", "MB", None),
    "backlog": Limit("backlog", "sessions", None),
    "cpu_rate": Limit("CPU", "ms/s", None),
}
"""By field of a sample. The journal keeps 200,000 entries: until then it grows, and may."""


_WARM_UP_S = 120.0
_LONGEST_SPELL_S = 25.0
_SAMPLES_EACH_S = 1.0
_SYNC_S = 300.0
_VERIFY_S = 600.0
_TOLD_EACH = 60
_MOST_SEEN = 2000
_MOST_TOLD = 30


@dataclass(frozen=True, slots=True)
class Plan:
    """What is wanted: how long, which chance, how many sessions at a time, how much each second."""

    seconds: float
    seed: int
    desks: int = 33
    rate: float = 8.0

    @property
    def is_judged(self) -> bool:
        """Whether a life is long enough for what creeps in it to be told."""
        return 0.6 * self.seconds - _WARM_UP_S >= SHORTEST_S


@dataclass(slots=True)
class Outcome:
    """What came of it. `faults` are sentences; none is what is hoped for."""

    plan: Plan
    server: str
    samples: list[Sample] = field(default_factory=list)
    trends: list[Trend] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    restarts: list[tuple[float, str]] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


class Course:
    """One soak in an empty home, over a bucket of its own. `tell` hears how it gets on."""

    def __init__(
        self, plan: Plan, server: Server, home: Home, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._plan = plan
        self._server = server
        self._home = home
        self._tell = tell
        self._chance = random.Random(plan.seed)
        self._crew = Crew(home, self._chance, plan.desks, aged=plan.is_judged)
        self._subject = Subject(home, self._hear, **settings(plan))
        self._outcome = Outcome(plan, server.name)
        self._requests = 0
        self._began = 0.0

    async def run(self) -> Outcome:
        self._began = time.monotonic()
        async with FaultProxy(self._server, seed=self._plan.seed) as proxy:
            self._home.use(proxy.server)
            longest = min(_LONGEST_SPELL_S, self._plan.seconds / 10)
            weather = Weather(proxy, random.Random(self._plan.seed + 1), longest)
            try:
                await self._subject.start()
                await self._live(weather)
                await self._ends(proxy, weather)
            finally:
                if self._subject.daemon:
                    await self._subject.kill()
        self._outcome.trends = trends(self._outcome.samples)
        creeping = [str(each) for each in self._outcome.trends if each.creeps]
        self._outcome.faults += self._subject.faults + creeping
        return self._outcome

    async def _live(self, weather: Weather) -> None:
        changing = asyncio.create_task(weather.change(), name="weather")
        watching = asyncio.create_task(self._watch(weather), name="samples")
        try:
            await asyncio.gather(self._work(), self._restart())
        finally:
            changing.cancel()
            watching.cancel()
            await asyncio.wait([changing, watching])
        for task in (changing, watching):
            if not task.cancelled():
                task.result()  # it ended by an error of its own
        self._crew.settles()

    async def _work(self) -> None:
        pause = 1 / self._plan.rate
        while self._passed() < self._plan.seconds:
            if self._chance.random() < 0.005:
                self._crew.works_everywhere()
            else:
                self._crew.works()
            await asyncio.sleep(self._chance.uniform(0, 2 * pause))

    async def _restart(self) -> None:
        for when, how in restarts(self._plan):
            await asyncio.sleep(max(0.0, when - self._passed()))
            await (self._subject.kill() if how == "killed" else self._subject.stop())
            self._tell(f"{how} at {when:.0f} s, gone at {self._passed():.0f} s")
            self._outcome.restarts.append((self._passed(), how))
            await self._subject.start()

    async def _watch(self, weather: Weather) -> None:
        seen = weather.proxy.requests
        for second in count():
            await asyncio.sleep(_SAMPLES_EACH_S)
            if len(seen) > _MOST_SEEN:
                self._requests += len(seen) - _MOST_SEEN
                del seen[:-_MOST_SEEN]
            found = await self._sample()
            if found and not second % _TOLD_EACH:
                self._tell(f"{found}, {weather.now}")

    async def _sample(self) -> Sample | None:
        daemon, at_s, life = self._subject.daemon, self._passed(), self._subject.life
        if daemon is None:
            return None
        try:
            pid = daemon.process.pid
            found = await asyncio.to_thread(sample, self._home, pid, at_s=at_s, life=life)
        except OSError:
            return None  # it is about to end, or was killed: whoever did it knows
        self._outcome.samples.append(found)
        return found

    async def _ends(self, proxy: FaultProxy, weather: Weather) -> None:
        """Archive everything, and compare."""
        outcome, subject = self._outcome, self._subject
        self._tell("all is clear: everything is to be archived")
        daemon = await subject.living()
        answer = await daemon.sync(_SYNC_S, seal=True)
        if not answer.is_ok:
            outcome.faults.append(f"a sync in clear weather left something: {answer.json()}")
        status = await daemon.status()
        outcome.faults += _unwell(status)
        await subject.stop()
        self._tell("everything is read and compared")
        snapshot = await asyncio.to_thread(Snapshot.take, self._server)
        outcome.faults += faults_of(self._crew.accounts.values(), snapshot)
        outcome.faults += await self._verified()
        accounts = self._crew.accounts.values()
        outcome.counts = {
            "did": dict(self._crew.did.most_common()),
            "weather": dict(weather.spells.most_common()),
            "requests befallen": dict(weather.befell.most_common()),
            "log": dict(subject.said.most_common()),
            "totals": {
                "sessions": len(accounts),
                "bytes": sum(len(line) for a in accounts for r in a.runs for line in r.lines),
                "runs": sum(len(account.runs) for account in accounts),
                "promises": sum(len(account.promises) for account in accounts),
                "unclear": sum(account.unclear for account in accounts),
                "objects": len(snapshot.keys),
                "requests": self._requests + len(proxy.requests),
                "lives": subject.life,
            },
        }

    async def _verified(self) -> list[str]:
        with self._home.start("verify", "--deep") as process:
            try:
                out, err = await asyncio.to_thread(process.communicate, timeout=_VERIFY_S)
            finally:
                process.kill()
        if process.returncode == 0:
            return []
        return [f"verify --deep: status {process.returncode}: {(out + err).decode()[-3000:]}"]

    def _hear(self, event: dict[str, Any]) -> None:
        if event["event"] != "session.archived":
            return
        account = self._crew.accounts.get(event["session"])
        if account is not None:
            account.archived(event["generation"], event["length_bytes"])

    def _passed(self) -> float:
        return time.monotonic() - self._began


def settings(plan: Plan) -> dict[str, str]:
    """Let minutes see what else takes half an hour, and a short soak be short."""
    return {
        "TRANSCRIPTD_SEAL__MAX_LAG": "60",
        "TRANSCRIPTD_SCRUB__AFTER": "60",
        "TRANSCRIPTD_DRAIN": f"{min(30.0, plan.seconds / 10):g}",
    }


def restarts(plan: Plan) -> list[tuple[float, str]]:
    """Say when the daemon is killed or stopped: in the first and in the last fifth of the time."""
    chance = random.Random(plan.seed + 2)
    fifth, each = plan.seconds / 5, max(1, round(plan.seconds / 600))
    early = [chance.uniform(0.1 * fifth, fifth) for _ in range(each)]
    late = [plan.seconds - chance.uniform(0.1 * fifth, fifth) for _ in range(each)]
    ways = ["killed" if number % 2 else "stopped" for number in range(2 * each)]
    return list(zip(sorted(early + late), ways, strict=True))


def trends(samples: list[Sample]) -> list[Trend]:
    """Judge the longest life, without its beginning."""
    if not samples:
        return []
    lives = {each.life for each in samples}
    longest = max(([s for s in samples if s.life == life] for life in lives), key=len)
    warm_up = min(_WARM_UP_S, _length(longest) / 5)
    settled = [s for s in longest if s.at_s - longest[0].at_s >= warm_up]
    found = (trend(limit, _series(name, settled)) for name, limit in LIMITS.items())
    return [each for each in found if each is not None]


def faults_of(accounts: Iterable[Account], snapshot: Snapshot) -> list[str]:
    """Say what is missing of what was saved, or stands where nothing should."""
    streams = snapshot.streams()
    faults = [fault for account in accounts for fault in account.faults(streams)]
    faults += [f"{key} was set aside, and only one machine writes" for key in snapshot.set_aside()]
    more = len(faults) - _MOST_TOLD
    return faults[:_MOST_TOLD] + ([f"and {more} more"] if more > 0 else [])


def _unwell(status: dict[str, Any]) -> list[str]:
    wrong = {
        state: count
        for state, count in status["totals"]["states"].items()
        if count and state not in {"current", "source_gone"}
    }
    faults = [f"{count} sessions are {state} after all" for state, count in wrong.items()]
    degraded = status["degraded"]
    return faults + [f"it is degraded after all: {d['reason']}: {d['message']}" for d in degraded]


def _series(name: str, samples: list[Sample]) -> list[tuple[float, float]]:
    if name == "cpu_rate":
        return [
            (now.at_s, 1e3 * (now.cpu_s - before.cpu_s) / (now.at_s - before.at_s))
            for before, now in pairwise(samples)
        ]
    return [(each.at_s, float(getattr(each, name))) for each in samples]


def _length(samples: list[Sample]) -> float:
    return samples[-1].at_s - samples[0].at_s
