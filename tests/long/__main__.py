"""`python -m tests.long --server minio --examples 30 --seed 1`: the long run.

Prints what reproduces it, then `ok`, or how what was promised was broken: what happened in words,
and the steps as hypothesis replays them. A server is not deterministic: the words are what was.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.long.archiving import Archiving
from tests.long.places import PREFIX, placed
from tests.servers import NAMES, Missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.long.places import Place


def run(
    place: Place,
    *,
    examples: int,
    number: int,
    steps: int = 30,
    shrink: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Run so many examples. Raises what the first one that fails raised."""

    @seed(number)
    def machine() -> Archiving:
        return Archiving(place, tell)

    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    run_state_machine_as_test(
        machine,  # type: ignore[arg-type] # it is called, and nothing else
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            phases=phases,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.long", description=__doc__)
    parser.add_argument("--server", choices=(*NAMES, "local"), required=True)
    parser.add_argument("--examples", type=int, default=30)
    parser.add_argument("--steps", type=int, default=30, help="at most so many in an example")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--large", action="store_true", help="with messages of 3 MiB")
    parser.add_argument("--shrink", action="store_true", help="look for the shortest failure")
    parser.add_argument("--tell", action="store_true", help="print what happens as it happens")
    asked = parser.parse_args()
    large = " --large" if asked.large else ""
    print(f"--server {asked.server} --examples {asked.examples} --seed {asked.seed}{large}")
    began = time.monotonic()
    try:
        with placed(asked.server, large=asked.large) as place:
            print(f"the server: {dict(place.guarantees)}", flush=True)
            run(
                place,
                examples=asked.examples,
                number=asked.seed,
                steps=asked.steps,
                shrink=asked.shrink,
                tell=print if asked.tell else lambda _: None,
            )
            left = {key.removeprefix(PREFIX).partition("/")[2] for key in place.left}
    except Missing as missing:
        sys.exit(f"{asked.server}: {missing}")
    if left:
        sys.exit(f"uploads were left without an end, to {', '.join(sorted(left))}")
    print(f"ok, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
