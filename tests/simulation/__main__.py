"""`python -m tests.simulation --seeds 10000`; one seed again: `--seed 7`; with a safeguard off: `--without fencing`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.simulation import Outcome, shrink, simulate
from tests.simulation.world import Safeguard


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--without", type=Safeguard, choices=list(Safeguard))
    given = parser.parse_args()
    seeds = [given.seed] if given.seed is not None else range(given.first, given.first + given.seeds)
    began, faults, operations = time.process_time(), Counter[str](), 0
    for seed in seeds:
        outcome = simulate(seed, given.without)
        operations += outcome.operations
        faults.update(fault.what for fault in outcome.faults)
        if outcome.violation:
            say(told(shrink(outcome, given.without)))
            sys.exit(1)
    counted = ", ".join(f"{count} {what}" for what, count in sorted(faults.items()))
    seconds = time.process_time() - began
    say(f"{len(seeds)} seeds without a violation: {operations} operations, {counted}; {seconds:.0f} s of CPU time")


def told(outcome: Outcome) -> str:
    """A violation, and the faults that it takes."""
    lines = [f"seed {outcome.seed}: {outcome.violation}", *(f"  {fault}" for fault in outcome.faults)]
    return "\n".join(lines)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
