"""Which figures the tables show, beside which floors and budgets.

Budgets are those of the project's performance notes; what those say of CPU per save in milliseconds
stands here beside one bare PUT, which took 0.8 ms there. A floor is who cannot be beaten, at what.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from tests.bench import floors, lines, masking, steady, unchanged, wire
from tests.bench.counts import most_descriptors

if TYPE_CHECKING:
    from tests.bench.book import Book, Entry

Rank: TypeAlias = Literal["value", "p50", "p99", "max"]

WHOLE = wire.WHOLE
LOAD = "the load"
WAIT, WIRE, REQUESTS = "save to archived", "bytes on the wire per new byte", "requests per save"
CPU, IDLE_CPU, IDLE_REQUESTS = "CPU per save", "CPU idle", "requests while idle"
STEADY, PEAK = "memory, steady", "memory, peak"
ALL, START, FIRST = "all archived", "start", "first archive after start"
RECOVERY = "recovery after the outage"
DESCRIPTORS, SAVES = "descriptors", "saves"
MESSAGES, SESSIONS = "lost messages", "lost sessions"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a figure stands: its part, what it is of; and words of its scenario, if need be."""

    part: str
    what: str
    scenario: str = ""
    rank: Rank = "value"

    def entry(self, book: Book, who: str) -> Entry | None:
        """Return the figure; where several scenarios have the words, that with the fewest else."""
        found = [
            entry
            for entry in book.entries(self.part)
            if (entry.contender, entry.what) == (who, self.what) and self.scenario in entry.scenario
        ]
        return min(found, key=lambda entry: len(entry.scenario), default=None)

    def value(self, book: Book, who: str) -> float | None:
        entry = self.entry(book, who)
        if entry is None:
            return None
        if self.rank == "value" or entry.spread is None:
            return entry.value
        return float(getattr(entry.spread, self.rank))


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table of contenders; a count is said as it is, not as a ratio.

    `floor`: who cannot be beaten at that, or at what value nobody can.
    """

    label: str
    place: Place
    floor: str | float | None = None
    is_count: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """What a figure of transcriptd may be at most: as it is, or as a multiple of its floor."""

    label: str
    place: Place
    limit: float
    beyond: float | None = None
    floor: str | float | None = None
    at: Place | None = None  # where the floor stands, if not at the same place
    is_ratio: bool = False
    is_least: bool = False  # the more the better


LINES = (
    Line("mixed day: save to archived, p50", Place("day", WAIT, rank="p50")),
    Line("… p99", Place("day", WAIT, rank="p99")),
    Line("… bytes on the wire per new byte", Place("day", WIRE), floor=1.0),
    Line("… requests per save", Place("day", REQUESTS), floor=1.0),
    Line("… CPU per save", Place("day", CPU)),
    Line("… memory, peak", Place("day", PEAK)),
    Line("… messages lost", Place("day", MESSAGES), is_count=True),
    Line("store gone for a minute: recovery", Place("outage", RECOVERY)),
    Line("… messages lost", Place("outage", MESSAGES), is_count=True),
    Line("… sessions not archived as they ended", Place("outage", SESSIONS), is_count=True),
    Line("kill -9 every few seconds: messages lost", Place("kills", MESSAGES), is_count=True),
    Line("… sessions not archived as they ended", Place("kills", SESSIONS), is_count=True),
    Line("… start to first archive", Place("kills", FIRST)),
    Line("1 MB, saved each second: save to archived, p50",
         Place("steady", WAIT, steady.LARGE, rank="p50"), floors.PUT_CHANGE),
    Line("… p99", Place("steady", WAIT, steady.LARGE, rank="p99"), floors.PUT_CHANGE),
    Line("… CPU per save", Place("steady", CPU, steady.LARGE), floors.PUT_CHANGE),
    Line("100 KB, saved each second: CPU per save",
         Place("steady", CPU, steady.SMALL), floors.PUT_CHANGE),
    Line("200 sessions of 100 KB at once: all archived", Place("burst", ALL), floors.PUTS),
    Line("growing to 50 MB: bytes on the wire per new byte", Place("growth", WIRE), 1.0),
    Line("… CPU per save", Place("growth", CPU), floors.PUT_CHANGE),
    Line("10,000 unchanged sessions: CPU", Place("unchanged", IDLE_CPU), floors.IDLE),
    Line("… requests", Place("unchanged", IDLE_REQUESTS), is_count=True),
    Line("… memory", Place("unchanged", STEADY), floors.IDLE),
    Line("… file descriptors", Place("unchanged", DESCRIPTORS), floors.IDLE),
    Line("100,000 unchanged sessions: start to first archive", Place("many", FIRST)),
)  # fmt: skip  # a line each, where there is room

_MEGABYTE, _PAUSES, _FIVE, _FIFTY, _APPEND = (growth.name for growth in wire.GROWTHS)
_DIGEST = Place("lines", lines.AGAIN)

BUDGETS = (
    Budget("0 to 1 MB in 500 saves: bytes on the wire per new byte",
           Place("wire", WIRE, _MEGABYTE), 4, 2, floor=1.0),
    Budget("… with pauses", Place("wire", WIRE, _PAUSES), 4, 2, floor=1.0),
    Budget("… requests per save", Place("wire", REQUESTS, _PAUSES), 1.3, floor=1.0),
    Budget("0 to 50 MB in 2,000 saves: bytes on the wire per new byte",
           Place("wire", WIRE, _FIFTY), 2.2, 1.2, floor=1.0),
    Budget("64 KiB appended to 1 GB: bytes on the wire per new byte",
           Place("wire", WIRE, _APPEND), 3, floor=1.0),
    Budget("document of 10 MB to lines", Place("lines", lines.FIRST), 1.6, 1,
           floor=lines.FLOOR, at=_DIGEST, is_ratio=True),
    Budget("… saved again: finding what is new", Place("lines", lines.AGAIN), 1.6, 1,
           floor=lines.FLOOR, at=_DIGEST, is_ratio=True),
    Budget("memory, idle, 10,000 sessions", Place("unchanged", STEADY), 65, 45,
           floor=floors.IDLE),
    Budget("… beside `rclone rcd`", Place("unchanged", STEADY), 1,
           floor=unchanged.RCLONE, is_ratio=True),
    Budget("CPU, idle, 10,000 sessions", Place("unchanged", IDLE_CPU), 2, 0.5,
           floor=floors.IDLE),
    Budget("requests, idle", Place("unchanged", IDLE_REQUESTS), 0),
    Budget("file descriptors, 10,000 sessions", Place("unchanged", DESCRIPTORS),
           most_descriptors()),
    Budget("start with 100,000 unchanged sessions, beyond a start with one",
           Place("many", unchanged.ALONE), 3, 1.5,
           floor=floors.SCAN, at=Place("many", START), is_ratio=True),
    Budget("… memory, beyond that with one", Place("many", unchanged.HELD), 25),
    Budget("1 MB, save to archived, p50", Place("steady", WAIT, steady.LARGE, rank="p50"), 150,
           floor=floors.PUT_WHOLE),
    Budget("… p99", Place("steady", WAIT, steady.LARGE, rank="p99"), 250, 100,
           floor=floors.PUT_WHOLE),
    Budget("… CPU per save, beside a PUT of the change", Place("steady", CPU, steady.LARGE), 10, 5,
           floor=floors.PUT_CHANGE, is_ratio=True),
    Budget("100 KB, CPU per save, beside a PUT of the change",
           Place("steady", CPU, steady.SMALL), 1.9, 0.95,
           floor=floors.PUT_CHANGE, is_ratio=True),
    Budget("200 sessions of 100 KB at once, all archived", Place("burst", ALL), 2, 1.3,
           floor=floors.PUTS, is_ratio=True),
    Budget("masking prose", Place("masking", masking.SPEED, "prose"), 40, is_least=True),
)  # fmt: skip  # a budget is told from the next by its first word

GROWTHS = {
    _MEGABYTE: "from 0 to 1 MB",
    _PAUSES: "… with a minute's pause after every tenth save",
    _FIVE: "from 0 to 5 MB",
    _FIFTY: "from 0 to 50 MB",
    _APPEND: "by 64 KiB, at 1 GB",
}
