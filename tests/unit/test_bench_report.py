"""What benchmarks found, as a file, tables, pictures and complaints. All figures are invented."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests.bench.book import BEHIND, Book, Part, entry_of, read, write
from tests.bench.contenders.loop import Aws, Rclone, S5cmd
from tests.bench.counts import most_descriptors, wrong
from tests.bench.floors import PUT_CHANGE
from tests.bench.pictures import pictures
from tests.bench.plot import Axis, Curve, curves
from tests.bench.report import BEGIN, END, budgets, comparison, growing, into_readme, origin, tables
from tests.bench.result import Figure
from tests.bench.rows import GROWTHS, LOAD
from tests.bench.suite import Order, Scenario, measured
from tests.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
NAMES = ["transcriptd", "rclone copy", "whole object"]
SUBJECT, PEER, WHOLE = NAMES
X = "\N{MULTIPLICATION SIGN}"
NOWHERE = Server("minio", "http://127.0.0.1:1", "bucket", "key", "not-a-secret")
SVG = "{http://www.w3.org/2000/svg}"


def book_of(missing: dict[str, str] | None = None, **parts: Iterable[Figure]) -> Book:
    about: dict[str, object] = {"contenders": NAMES}
    return Book(
        {
            name: Part(about, tuple(map(entry_of, figures)), missing or {})
            for name, figures in parts.items()
        }
    )


def waits(who: str, *ms: float) -> Figure:
    return Figure.of("mixed day", who, "save to archived", "ms", ms)


def lost(who: str, count: int, what: str = "lost messages") -> Figure:
    return Figure("mixed day", who, what, "", count)


def cells(table: str, label: str) -> list[str]:
    """Return the cells of the row that begins with a label."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    return next(row[1:] for row in rows if row[0] == label)


P50 = "mixed day: save to archived, p50"
P99 = "… p99"
LOST = "… messages lost"


def test_a_peer_is_said_as_a_multiple_of_what_transcriptd_takes() -> None:
    book = book_of(day=[waits(SUBJECT, 100), waits(PEER, 1240), waits(WHOLE, 31)])
    assert cells(comparison(book), P50) == ["100 ms", f"12 {X}", f"0.31 {X}", ""]


def test_what_differs_by_less_than_a_tenth_is_the_same() -> None:
    book = book_of(day=[waits(SUBJECT, 100), waits(PEER, 109), waits(WHOLE, 92)])
    assert cells(comparison(book), P50) == ["100 ms", "same", "same", ""]


def test_what_is_lost_is_said_as_it_is_and_of_how_many() -> None:
    figures = [lost(SUBJECT, 1), lost(PEER, 3), lost(LOAD, 40, "messages")]
    assert cells(comparison(book_of(day=figures)), LOST)[:2] == ["1 of 40", "3 of 40"]


def test_what_transcriptd_needs_none_of_is_said_as_it_is() -> None:
    figures = [Figure("10,000 of them", who, "CPU idle", "ms/s", n) for who, n in
               ((SUBJECT, 0), (PEER, 210))]  # fmt: skip
    row = cells(comparison(book_of(unchanged=figures)), "10,000 unchanged sessions: CPU")
    assert row[:2] == ["0 ms/s", "210 ms/s"]


def test_who_is_missing_or_failed_is_said_to_be() -> None:
    missing = {PEER: "rclone is not installed", WHOLE: "failed: OSError: no room"}
    book = book_of(missing, day=[waits(SUBJECT, 100)])
    assert cells(comparison(book), P50) == ["100 ms", "missing", "failed", ""]


def test_who_was_not_asked_for_has_no_figure() -> None:
    book = book_of(day=[waits(SUBJECT, 100)])
    assert cells(comparison(book), P50)[1] == "\N{EN DASH}"


def test_a_floor_stands_beside_as_a_multiple_too() -> None:
    figures = [Figure("mixed day", SUBJECT, "bytes on the wire per new byte", "", 2.5)]
    assert cells(comparison(book_of(day=figures)), "… bytes on the wire per new byte")[-1] == (
        f"0.4 {X}"
    )


def test_a_save_that_never_came_is_never() -> None:
    book = book_of(day=[waits(SUBJECT, 100), waits(PEER, *([50.0] * 90 + [math.inf] * 10))])
    assert cells(comparison(book), P50)[1] == f"0.5 {X}"
    assert cells(comparison(book), P99)[1] == "never"


def test_beside_a_save_of_transcriptd_that_never_came_others_are_said_as_they_are() -> None:
    book = book_of(day=[waits(SUBJECT, math.inf), waits(PEER, 50)])
    assert cells(comparison(book), P50) == ["never", "50 ms", "\N{EN DASH}", ""]


def test_a_scenario_is_told_from_one_whose_name_goes_on() -> None:
    shorter, longer, *_ = GROWTHS
    assert longer.startswith(shorter)
    figures = [
        Figure(name, SUBJECT, "bytes on the wire per new byte", "", value)
        for name, value in ((longer, 3.0), (shorter, 2.0))
    ]
    table = budgets(book_of(wire=figures))
    assert cells(table, "0 to 1 MB in 500 saves: bytes on the wire per new byte")[0] == "2"
    assert cells(table, "… with pauses")[0] == "3"


def test_a_budget_is_met_or_not() -> None:
    steady = "one session of 1 MB, saved once a second"
    figures = [
        Figure.of(steady, SUBJECT, "save to archived", "ms", [90.0] * 50 + [400.0] * 2),
        Figure(steady, SUBJECT, "CPU per save", "ms", 3.9),
        Figure(steady, PUT_CHANGE, "CPU per save", "ms", 0.5),
    ]
    table = budgets(book_of(steady=figures))
    assert cells(table, "1 MB, save to archived, p50")[3:5] == ["≤ 150 ms", "yes"]
    assert cells(table, "… p99")[3:] == ["≤ 250 ms", "**no**", "≤ 100 ms: no"]
    label = "… CPU per save, beside a PUT of the change"
    assert cells(table, label)[3:] == ["≤ 10 ×", "yes", "≤ 5 ×: no"]  # noqa: RUF001 - as it is shown


def test_a_budget_in_multiples_of_a_floor_is_judged_by_the_floor_of_the_same_run() -> None:
    what = "finding what is new"
    floor = Figure("x", "one read and one SHA-256", what, "ms", 10)
    table = budgets(book_of(lines=[floor, Figure("x", SUBJECT, what, "ms", 15)]))
    row = cells(table, "… saved again: finding what is new")
    assert row[:5] == ["15 ms", "10 ms", f"1.5 {X}", f"≤ 1.6 {X}", "yes"]


def test_a_budget_without_its_floor_is_not_judged() -> None:
    figure = Figure("x", SUBJECT, "finding what is new", "ms", 17)
    assert not budgets(book_of(lines=[figure]))


def test_a_budget_of_speed_is_a_least() -> None:
    table = budgets(book_of(masking=[Figure("prose", SUBJECT, "masking, CPU time", "MB/s", 39)]))
    assert cells(table, "masking prose")[3:5] == ["≥ 40 MB/s", "**no**"]


def test_growing_sessions_stand_beside_rewriting_them() -> None:
    name = next(iter(GROWTHS))
    figures = [
        Figure(name, SUBJECT, "saves", "", 500),
        Figure(name, SUBJECT, "bytes on the wire per new byte", "", 2.101),
        Figure(name, SUBJECT, "requests per save", "", 1.018),
        Figure(name, WHOLE, "bytes on the wire per new byte", "", 250.5),
    ]
    assert cells(growing(book_of(wire=figures)), GROWTHS[name]) == ["500", "2.1", "1.02", "250"]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    book = book_of({PEER: "why"}, day=[waits(SUBJECT, 1, 2.5, math.inf), lost(PEER, 1_234_567)])
    write(tmp_path / "figures.json", book)
    assert read(tmp_path / "figures.json") == book


def test_a_part_measured_again_replaces_only_itself(tmp_path: Path) -> None:
    book = book_of(day=[lost(SUBJECT, 1)], kills=[lost(SUBJECT, 2)])
    again = book_of(day=[lost(SUBJECT, 0)]).parts["day"]
    after = book.with_part("day", again)
    assert after.parts == {"day": again, "kills": book.parts["kills"]}


def test_no_file_or_one_of_before_is_an_empty_book(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"about": {}, "figures": {}}')
    assert read(tmp_path / "old.json") == read(tmp_path / "none.json") == Book({})


def test_of_many_values_the_file_has_some_and_the_spread_of_all() -> None:
    spread = entry_of(waits(SUBJECT, *(float(ms) for ms in range(1, 1501)))).spread
    assert spread is not None
    assert (spread.n, spread.min, spread.p99, spread.max) == (1500, 1, 1485, 1500)
    assert len(spread.points) < 500
    assert (spread.points[0], spread.points[-1]) == (1, 1500)


def test_what_is_told_second_by_second_keeps_its_order() -> None:
    behind = tuple(float(second % 7) for second in range(660))
    spread = entry_of(Figure("o", SUBJECT, BEHIND, "", 6, behind)).spread
    assert spread is not None
    assert spread.points == behind


@pytest.mark.parametrize(
    ("what", "count"),
    [
        ("lost messages", 1),
        ("lost sessions", 1),
        ("requests while idle", 1),
        ("descriptors", most_descriptors() + 1),
    ],
)
def test_a_wrong_count_of_transcriptd_is_a_sentence(what: str, count: int) -> None:
    part = book_of(day=[Figure("mixed day", SUBJECT, what, "", count)]).parts["day"]
    (sentence,) = wrong("day", part)
    assert sentence.startswith("day, mixed day: transcriptd ")
    assert str(count) in sentence


def test_counts_that_hold_and_times_of_any_length_are_no_problem() -> None:
    figures = [
        lost(SUBJECT, 0),
        waits(SUBJECT, 1e9),
        Figure("x", SUBJECT, "descriptors", "", most_descriptors()),
        Figure("x", SUBJECT, "requests while idle", "", 0),
    ]
    assert wrong("day", book_of(day=figures).parts["day"]) == []


def test_what_others_lose_is_no_problem() -> None:
    assert wrong("day", book_of(day=[lost(PEER, 9)]).parts["day"]) == []


def test_transcriptd_that_failed_is_a_problem() -> None:
    part = book_of({SUBJECT: "failed: RuntimeError", PEER: "failed: x"}, day=[]).parts["day"]
    assert wrong("day", part) == ["day: transcriptd failed: RuntimeError"]


def test_the_tables_of_the_readme_are_those_of_the_last_figures() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    drawn = tables(read(ROOT / "docs/bench/figures.json"))
    assert drawn
    assert readme.split(BEGIN)[1].split(END)[0] == drawn


def test_each_run_is_said_with_its_command_machine_and_versions() -> None:
    about: dict[str, object] = {
        "command": "python -m tests.bench",
        "date": "2026-11-21 18:56 UTC",
        "server": "minio 1",
        "machine": {"cores": 2, "cpu": "a processor", "memory_gb": 25.3, "kernel": "Linux 6"},
        "versions": {"transcriptd": "0.1.0", "rclone": "v1.75.2"},
    }
    later = {**about, "command": "python -m tests.bench day"}
    book = Book({"steady": Part(about, ()), "burst": Part(about, ()), "day": Part(later, ())})
    first, second = origin(book).splitlines()
    assert first == (
        "- steady, burst: `python -m tests.bench`, 2026-11-21 18:56 UTC; on 2 cores of"
        " a processor, 25 GB, Linux 6; against minio 1; with transcriptd 0.1.0, rclone v1.75.2"
    )
    assert second.startswith("- day: `python -m tests.bench day`, ")


def test_the_rest_of_the_readme_stays_as_it_is() -> None:
    book = book_of(day=[waits(SUBJECT, 100)])
    after = into_readme(f"before\n{BEGIN}old\n{END}after\n", book)
    assert after == f"before\n{BEGIN}{tables(book)}{END}after\n"
    with pytest.raises(ValueError, match="begin"):
        into_readme("no marks", book)


def day_and_night() -> Book:
    """A book with all that is drawn."""
    behind = {SUBJECT: [0.0] * 60 + [9.0] * 60, PEER: [5.0] * 120, WHOLE: [1.0] * 120}
    day, outage, kills = [], [], []
    for place, who in enumerate(NAMES, 1):
        day += [
            waits(who, *(20.0 * place**3 + ms for ms in range(200))),
            Figure("mixed day", who, "bytes on the wire per new byte", "", 2.0 * place),
            Figure("mixed day", who, "CPU per save", "ms", 3.0 * place),
        ]
        outage.append(Figure("o", who, BEHIND, "", max(behind[who]), tuple(behind[who])))
        kills += [lost(who, place - 1), lost(who, 0, "lost sessions")]
    return book_of(day=day, outage=outage, kills=kills)


def test_every_picture_is_svg_for_light_and_dark_and_names_all() -> None:
    drawn = pictures(day_and_night())
    assert set(drawn) == {"latency.svg", "outage.svg", "cost.svg", "lost.svg"}
    for svg in drawn.values():
        texts = {text.text for text in ET.fromstring(svg).iter(f"{SVG}text")}
        assert set(NAMES) <= texts
        assert "prefers-color-scheme: dark" in svg


def test_without_figures_nothing_is_drawn() -> None:
    assert pictures(Book({})) == {}
    assert tables(Book({})) == ""


def test_names_at_lines_that_are_close_do_not_meet() -> None:
    lines = [
        Curve(f"contender {place}", [(x, x * x / 100 + 2 * place) for x in range(101)], place)
        for place in range(5)
    ]
    across, up = Axis(0, 100, {}, ""), Axis(0, 110, {}, "")
    texts = ET.fromstring(curves("t", across, up, lines)).iter(f"{SVG}text")
    names = [text for text in texts if "label" in text.get("class", "")]
    rows = sorted(float(text.get("y", "")) for text in names)
    assert len(names) == 5
    boxes = [(text_left(text), float(text.get("y", ""))) for text in names]
    for number, (left, y) in enumerate(boxes):
        for other_left, other_y in boxes[number + 1 :]:
            assert abs(left - other_left) >= 77 or abs(y - other_y) >= 16, rows


def text_left(text: ET.Element) -> float:
    width = 7 * len(text.text or "")
    share = {"start": 0.0, "middle": 0.5, "end": 1.0}[text.get("text-anchor", "")]
    return float(text.get("x", "")) - share * width


def test_who_fails_leaves_the_figures_of_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    def run(order: Order) -> list[Figure]:
        if Aws in order.contenders:
            raise OSError("no room")
        return [waits(kind.name, 1.0) for kind in order.contenders]

    scenario = Scenario("steady", "", run, lambda _: 1, in_turn=True)
    outcome = measured(scenario, Order(NOWHERE, [Rclone, Aws, S5cmd], 1, quick=True))
    assert [figure.contender for figure in outcome.figures] == [Rclone.name, S5cmd.name]
    assert outcome.failed == {Aws.name: "OSError: no room"}
    assert "no room" in capfd.readouterr().err
