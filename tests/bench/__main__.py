"""Measure transcriptd beside what people would use instead, in one run on one machine."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import book as books
from tests.bench.about import about
from tests.bench.contenders import CONTENDERS
from tests.bench.counts import wrong
from tests.bench.pictures import pictures
from tests.bench.progress import Progress
from tests.bench.report import into_readme, tables
from tests.bench.suite import SCENARIOS, Order, measured
from tests.servers import NAMES, Missing, start
from transcriptd.logs import configure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.book import Book
    from tests.bench.contender import Contender
    from tests.bench.suite import Scenario

_ROOT = Path(__file__).parents[2]
_OUT = "docs/bench"
_OUT_QUICK = ".cache/bench"  # smoke is not to overwrite what was measured
_EXAMPLES = """
examples:
  python -m tests.bench                       everything: more than two hours
  python -m tests.bench day --minutes 2       only the mixed day, shorter
  python -m tests.bench steady burst --contenders transcriptd,rclone --out results
  python -m tests.bench --quick               only to see that all of it runs
  python -m tests.bench report --readme       draw again, and put the tables into README.md

scenarios:
"""


def main() -> None:
    configure(level="warning")
    arguments = _arguments()
    out: Path = arguments.out or _ROOT / (_OUT_QUICK if arguments.quick else _OUT)
    if arguments.what == ["report"]:
        _draw(books.read(out / "figures.json"), out)
        if arguments.readme:
            _write_readme(books.read(out / "figures.json"))
        return
    chosen = [each for each in SCENARIOS if not arguments.what or each.name in arguments.what]
    try:
        with start(arguments.server) as server:
            order = Order(server, (), arguments.minutes, arguments.quick)
            problems = _measure_all(chosen, order, arguments.contenders, out)
    except Missing as missing:
        raise SystemExit(f"{arguments.server}: {missing}") from None
    except KeyboardInterrupt:
        raise SystemExit(f"interrupted; what was measured until then stands in {out}") from None
    if problems:
        raise SystemExit("\n".join(problems))


def _measure_all(
    chosen: Sequence[Scenario], order: Order, asked: Sequence[type[Contender]], out: Path
) -> list[str]:
    """Run scenarios, write after each; return what counts of transcriptd are wrong."""
    missing = {each.name: why for each in asked if (why := each.missing())}
    for name, why in missing.items():
        print(f"missing: {name}: {why}", file=sys.stderr)
    order = replace(order, contenders=[each for each in asked if each.name not in missing])
    told = about(_command(), order.server.name)
    told["contenders"] = [each.name for each in asked]
    problems: list[str] = []
    progress = Progress([scenario.takes_s(order) for scenario in chosen])
    for scenario in chosen:
        progress.begin(f"{scenario.name}: {scenario.title}")
        began = time.monotonic()
        outcome = measured(scenario, order)
        part = books.Part(
            {**told, "took_s": round(time.monotonic() - began)},
            tuple(map(books.entry_of, outcome.figures)),
            {**missing, **{who: f"failed: {why}" for who, why in outcome.failed.items()}},
        )
        book = books.read(out / "figures.json").with_part(scenario.name, part)
        books.write(out / "figures.json", book)
        _draw(book, out)
        problems += wrong(scenario.name, part)
        progress.end()
    print(tables(books.read(out / "figures.json")))
    return problems


def _draw(book: Book, out: Path) -> None:
    """Write the tables and pictures of a book beside it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "tables.md").write_text(tables(book), "utf-8")
    for name, svg in pictures(book).items():
        (out / name).write_text(svg, "utf-8")


def _write_readme(book: Book) -> None:
    readme = _ROOT / "README.md"
    readme.write_text(into_readme(readme.read_text("utf-8"), book), "utf-8")


def _command() -> str:
    return shlex.join(["python", "-m", "tests.bench", *sys.argv[1:]])


def _arguments() -> argparse.Namespace:
    words = [scenario.name for scenario in SCENARIOS]
    known = "\n".join(f"  {each.name:<12} {each.title}" for each in SCENARIOS)
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        epilog=_EXAMPLES + known,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what", nargs="*", metavar="SCENARIO", help="what to measure (all), or `report`"
    )
    parser.add_argument(
        "--contenders",
        type=_words,
        metavar="A,B",
        help="only those with these words in their names",
    )
    parser.add_argument("--server", choices=NAMES, default="minio", help="against which (minio)")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of a mixed day (10)")
    parser.add_argument(
        "--out", type=Path, help=f"where results go ({_OUT}; with --quick {_OUT_QUICK})"
    )
    parser.add_argument("--quick", action="store_true", help="see that all of it runs")
    parser.add_argument(
        "--readme", action="store_true", help="with `report`: put the tables into README.md"
    )
    arguments = parser.parse_args()
    unknown = [word for word in arguments.what if word not in words]
    if unknown and arguments.what != ["report"]:
        parser.error(f"no such scenario: {' '.join(unknown)}; there are {' '.join(words)}")
    arguments.contenders = [
        each
        for each in CONTENDERS
        if not arguments.contenders or any(word in each.name for word in arguments.contenders)
    ]
    if not arguments.contenders:
        parser.error(f"--contenders: there are {', '.join(each.name for each in CONTENDERS)}")
    if arguments.readme and arguments.what != ["report"]:
        parser.error("--readme goes with `report`")
    return arguments


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


if __name__ == "__main__":
    main()
