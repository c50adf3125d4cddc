"""`python -m bench.control`: kill plain faust-streaming and show that its table miscounts.

It proves that a harness of this kind sees what headrace promises not to do. The exit status is 0 when
the miscount shows, 1 when the count came out right.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.broker import NoBroker, broker
from bench.control.harness import Harness, NoProgress, Verdict


def main() -> int:
    """Run the control, print its verdict; the result is the exit status."""
    options = _options()
    with ExitStack() as stack:
        try:
            address = stack.enter_context(broker(options.broker))
        except NoBroker as error:
            print(error, file=sys.stderr)
            return 1
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-control-")))
        harness = Harness(
            broker=address,
            run=f"control-{os.getpid()}",
            guarantee=options.guarantee,
            folder=folder,
            seed=options.seed,
        )
        try:
            verdict = asyncio.run(harness.run(options.cycles))
        except NoProgress as error:
            print(error, file=sys.stderr)
            return 1
    return _report(verdict, options.guarantee)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.control", description=__doc__)
    parser.add_argument("--cycles", type=int, default=3, help="how many workers are killed (default: 3)")
    parser.add_argument("--guarantee", choices=("at_least_once", "exactly_once"), default="at_least_once")
    parser.add_argument("--seed", type=int, default=1, help="of the instants of the kills (default: 1)")
    parser.add_argument("--broker", default="", help="host:port of a running broker; default: one of our own")
    return parser.parse_args()


def _report(verdict: Verdict, guarantee: str) -> int:
    difference = verdict.counted - verdict.events
    print(
        f"faust-streaming, {guarantee}: {verdict.events:,} events, {verdict.kills} kill -9, "
        f"{verdict.seconds:.0f} s: its table counts {verdict.counted:,}"
    )
    if difference == 0:
        print("No miscount showed. Try more --cycles.", file=sys.stderr)
        return 1
    kind = "too many" if difference > 0 else "missing"
    print(f"MISCOUNT: {abs(difference):,} {kind} ({difference / verdict.events:+.1%})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
