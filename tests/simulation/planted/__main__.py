"""`make planted`: each bug is looked for from seed 0 on, two at a time; which seed finds it, and how."""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.simulation.planted.bugs import BUGS, Bug
from tests.simulation.planted.hunt import Found, hunting


def main() -> int:
    """The exit status: 0 when every bug was found within so many seeds."""
    parser = argparse.ArgumentParser(prog="make planted")
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("bugs", nargs="*", help="names; all of them unless given")
    options = parser.parse_args()
    chosen = [bug for bug in BUGS if not options.bugs or bug.name in options.bugs]

    def hunt(bug: Bug) -> Found:
        with hunting(bug, range(options.seeds)) as hunt:
            return hunt.found()

    missed = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as hunters:
        for bug, found in zip(chosen, hunters.map(hunt, chosen), strict=True):
            missed += found.seed is None
            seed = "not found" if found.seed is None else f"seed {found.seed}"
            print(f"{bug.name:28} {seed:10} {found.complaint}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} planted bugs were found within {options.seeds} seeds")
    return 1 if missed else 0


if __name__ == "__main__":
    # What the product needs is loaded before the first fork: each hunt imports only its copy.
    import tests.simulation.townlife
    import tests.simulation.worlds.live  # noqa: F401

    sys.exit(main())
