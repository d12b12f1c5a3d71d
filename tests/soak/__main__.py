"""`python -m tests.soak --minutes 30 --seed 1 [--server minio] [--json F] [--plot F]`: the soak.

Prints what creeps, what is missing of what was saved, and a table; exit status 1 where there is
any of the former. The seed draws the same works, faults and restarts, not the same moments.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.home import Home
from tests.servers import NAMES, Missing, start
from tests.soak.course import Course, Plan
from tests.soak.told import document, picture, table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--server", choices=NAMES, default="minio")
    parser.add_argument("--desks", type=int, default=33, help="how many sessions at a time")
    parser.add_argument("--rate", type=float, default=8.0, help="how many works a second")
    parser.add_argument("--json", type=Path, help="write everything there, too")
    parser.add_argument("--plot", type=Path, help="draw what it took there, as SVG")
    parser.add_argument("--keep", action="store_true", help="keep the home directory")
    asked = parser.parse_args()
    plan = Plan(60 * asked.minutes, asked.seed, asked.desks, asked.rate)
    print(plan, flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing is left running
    home = Path(tempfile.mkdtemp(prefix="td-"))
    try:
        with start(asked.server) as server:
            outcome = asyncio.run(Course(plan, server, Home.make(home / "home"), _tell).run())
    except Missing as missing:
        sys.exit(f"{asked.server}: {missing}")
    finally:
        if asked.keep:
            print(f"kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    if asked.json:
        asked.json.write_text(json.dumps(document(outcome), indent=1), "utf-8")
    if asked.plot:
        asked.plot.write_text(picture(outcome), "utf-8")
    for name, counts in outcome.counts.items():
        print(f"{name}: {', '.join(f'{count} {what}' for what, count in counts.items())}")
    print(f"\n{table(outcome)}\n")
    for fault in outcome.faults:
        print(f"FAULT: {fault}")
    sys.exit(1 if outcome.faults else 0)


def _tell(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


if __name__ == "__main__":
    main()
