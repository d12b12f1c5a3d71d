"""Run the benchmarks: `python -m tests.bench [wire] [--server NAME] [--json F] [--plot F]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import wire
from tests.bench.plot import shares
from tests.bench.scenarios import run_all
from tests.servers import Missing, start
from transcriptd.logs import configure

if TYPE_CHECKING:
    from tests.bench.scenarios import Delays, Figures
    from tests.servers import Server


def _measure(what: str, server: Server) -> tuple[dict[str, Figures], Delays]:
    results: dict[str, Figures] = {}
    delays: Delays = {}
    if what == "all":
        results, delays = run_all(server)
    rows = wire.run(server)
    print(wire.table(rows))
    return {**results, **wire.figures(rows)}, delays


def main() -> None:
    configure(level="warning")
    parser = argparse.ArgumentParser(
        description="Measure transcriptd beside the floors, in one run."
    )
    parser.add_argument(
        "what",
        nargs="?",
        choices=("all", "wire"),
        default="all",
        help="wire: only what growing sessions cost in bodies and requests",
    )
    parser.add_argument("--server", help="swift, ministack, moto, rclone, ceph, minio or versitygw")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--plot", type=Path, help="draw the delays there, as SVG")
    arguments = parser.parse_args()
    names = [arguments.server] if arguments.server else ["minio", "ministack"]
    for name in names:
        try:
            with start(name) as server:
                figures, delays = _measure(arguments.what, server)
        except Missing as missing:
            print(f"{name}: {missing}")
            continue
        about = {
            "server": name,
            "transcriptd": version("transcriptd"),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
        }
        if arguments.json:
            arguments.json.write_text(json.dumps({"about": about, "figures": figures}, indent=2))
        if arguments.plot and delays:
            arguments.plot.write_text(shares("Share of the saves that are archived within", delays))
        return
    raise SystemExit("no server to measure against")


if __name__ == "__main__":
    main()
