"""`python -m bench`: the same job on headrace and its peers, on one broker, in turn."""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.broker import NoBroker, broker
from bench.contenders import CONTENDERS, Contender, Course
from bench.environments import NotBuilt
from bench.orders import Orders, fill_embedded, fill_kafka
from bench.process import ProgramFailed
from bench.report import Results

_RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Measure, print, save; the result is the exit status: 1 when a contender failed or its sum is wrong."""
    options = _options()
    with ExitStack() as stack:
        try:
            address = stack.enter_context(broker(options.broker))
        except NoBroker as error:
            print(error, file=sys.stderr)
            return 1
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        results = _measure(options, address, scratch)
    print()
    print(results.table())
    print(
        "\nFrom the first event in hand to the commit that covers the last one; faust-streaming and the"
        "\naiokafka loop to their last event. 'headrace x' is the rate of headrace on Kafka over this one."
        "\nA JVM warms up for some hundred thousand events: judge Kafka Streams by runs of a million."
    )
    print(f"Saved: {results.save(_RESULTS, label='quick' if options.quick else 'full')}")
    return 1 if results.failed or results.inexact else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer events, one round")
    parser.add_argument("--events", type=int, help="default: 1,000,000; 200,000 with --quick")
    parser.add_argument("--rounds", type=int, help="default: 3; 1 with --quick")
    parser.add_argument("--broker", default="", help="host:port of a running broker; default: one of our own")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    options = parser.parse_args()
    options.events = options.events or (200_000 if options.quick else 1_000_000)
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def _measure(options: argparse.Namespace, address: str, scratch: Path) -> Results:
    orders = Orders(options.events)
    run_id = f"bench-{os.getpid()}"
    topic = f"{run_id}.orders"
    embedded = scratch / "embedded"
    embedded.mkdir()
    print(f"{options.events:,} orders, {options.rounds} round(s): filling the logs", flush=True)
    asyncio.run(fill_kafka(address, topic, orders))
    asyncio.run(fill_embedded(embedded / "log.db", topic, orders))
    results = Results()
    names = [name for name in CONTENDERS if name in options.only]
    for number in range(1, options.rounds + 1):
        # Whoever runs first in a round finds the machine cooler: the order moves on by one each round.
        shift = (number - 1) % len(names)
        for name in names[shift:] + names[:shift]:
            if name in results.failed:
                continue
            contender = CONTENDERS[name]
            folder = scratch / f"{name}-{number}"
            folder.mkdir()
            course = Course(
                run=f"{run_id}-{name}-{number}",
                broker=address,
                topic=topic,
                embedded=embedded,
                folder=folder,
                orders=_share(contender, orders),
            )
            _run(contender, course, results, number)
            shutil.rmtree(folder)
    return results


def _share(contender: Contender, orders: Orders) -> Orders:
    return Orders(min(orders.events, contender.events_max or orders.events))


def _run(contender: Contender, course: Course, results: Results, number: int) -> None:
    try:
        measured = contender.run(course)
    except (NotBuilt, ProgramFailed, OSError, ValueError) as error:
        results.failed[contender.name] = str(error)
        print(f"round {number}  {contender.name}: {error}", file=sys.stderr, flush=True)
        return
    results.add(contender.name, measured)
    rate = measured.events / measured.seconds
    cpu = measured.cpu_seconds / measured.events * 1e6
    print(f"round {number}  {contender.name:18} {rate:>9,.0f} events/s  {cpu:6.2f} CPU s/1M", flush=True)


if __name__ == "__main__":
    sys.exit(main())
