"""`python -m bench.growth`: what an order costs when there are more rows, more partitions, more orders.

Rows: a million orders of the same 10,000 articles, on a table that has ten thousand to ten million rows
before; they show when the worker has restored these, and RocksDB has compacted them. Partitions: the
same once all of them are served. Orders: runs of a hundred thousand to ten million; what a hundred million
would cost is extrapolated from the slope between the last two. CPU seconds of the worker count: rates
depend on who else is at work.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path

from bench.broker import NoBroker, broker
from bench.changelogs import Articles, fill_headrace
from bench.course import Course, Measurement
from bench.filling import create, fill_kafka
from bench.orders import Orders
from bench.process import ProgramFailed
from bench.workers import on_kafka

GROWTH_MAX = 1.25
RSS_MIB_MAX = 1024.0
_MILLION = 1_000_000
_FAR_EVENTS = 100 * _MILLION


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One size of one thing that grows."""

    size: int
    events: int = _MILLION
    rows: int = 0
    partitions: int = 1

    @property
    def is_held_back(self) -> bool:
        """Whether the orders show only once the worker has nothing else to do."""
        return bool(self.rows) or self.partitions > 1


LINES: dict[str, Sequence[Step]] = {
    "rows": [Step(size=rows, rows=rows) for rows in (10_000, 100_000, _MILLION, 10 * _MILLION)],
    "partitions": [Step(size=partitions, partitions=partitions) for partitions in (4, 64)],
    "events": [Step(size=events, events=events) for events in (100_000, _MILLION, 10 * _MILLION)],
}


class Growth:
    """Runs of one job on one broker, step by step."""

    def __init__(self, address: str, rounds: int) -> None:
        self._address = address
        self._rounds = rounds
        self._run = f"growth-{os.getpid()}"
        self.rss_mib = 0.0
        """The most that a worker held at the end of a run."""

    def costs(self, line: str) -> dict[int, float]:
        """Microseconds of CPU per order, by size: the median of some rounds, in turn."""
        steps = LINES[line]
        for step in steps:
            if not step.is_held_back:
                asyncio.run(fill_kafka(self._address, self._topic(line, step, 0), Orders(step.events)))
        found: dict[int, list[float]] = {step.size: [] for step in steps}
        for number in range(1, self._rounds + 1):
            for step in steps:
                measured = self._measure(line, step, number)
                cost = measured.cpu_seconds / measured.events * 1e6
                found[step.size].append(cost)
                rate = measured.events / measured.seconds
                print(
                    f"round {number}  {line} {step.size:>10,}  {rate:>9,.0f} events/s  {cost:5.2f} us of CPU"
                    f"  {measured.rss_mib:5.0f} MiB",
                    flush=True,
                )
        return {size: statistics.median(costs) for size, costs in found.items()}

    def _topic(self, line: str, step: Step, number: int) -> str:
        return f"{self._run}-{line}-{step.size}-{number if step.is_held_back else 0}.orders"

    def _measure(self, line: str, step: Step, number: int) -> Measurement:
        """Raises: ValueError when the table comes to something else than it should."""
        run, topic, orders = (
            f"{self._run}-{line}-{step.size}-{number}",
            self._topic(line, step, number),
            Orders(step.events),
        )
        expected = orders.expected_sum()
        if step.rows:
            articles = Articles(step.rows)
            expected += articles.total()
            asyncio.run(create(self._address, topic, step.partitions))
            asyncio.run(fill_headrace(self._address, run, topic, {0: articles}))
        with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
            folder = Path(name)
            course = Course(
                run=run,
                broker=self._address,
                topic=topic,
                folder=folder,
                orders=orders,
                partitions=step.partitions,
                is_held_back=step.is_held_back,
            )
            measured = on_kafka(course)
        if measured.total != expected:
            raise ValueError(f"{run}: the table comes to {measured.total} and not to {expected}")
        self.rss_mib = max(self.rss_mib, measured.rss_mib)
        return measured


def _extrapolated(costs: dict[int, float]) -> float:
    """The cost of a hundred million orders, by the slope between the last two sizes."""
    before, last = list(costs)[-2:]
    slope = (costs[last] - costs[before]) / log10(last / before)
    return costs[last] + slope * log10(_FAR_EVENTS / last)


def main() -> int:
    """Measure and print; 1 without a broker, and where something grows more than it may."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lines", nargs="+", choices=LINES, default=list(LINES))
    parser.add_argument("--broker", default="", help="host:port of a running broker; default: one of our own")
    options = parser.parse_args()
    try:
        with broker(options.broker) as address:
            growth = Growth(address, options.rounds)
            costs = {line: growth.costs(line) for line in options.lines}
    except (NoBroker, ProgramFailed, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    ratios = {}
    for line, by_size in costs.items():
        first, *_, last = by_size
        far = _extrapolated(by_size) if line == "events" else by_size[last]
        ratios[line] = far / by_size[first]
        reached = f"{_FAR_EVENTS:,} (extrapolated)" if line == "events" else f"{last:,}"
        print(
            f"{line}: {first:,} to {reached}: {ratios[line]:.2f} of the CPU per order (at most {GROWTH_MAX})"
        )
    print(f"a worker holds {growth.rss_mib:.0f} MiB at most (at most {RSS_MIB_MAX:g})")
    print(json.dumps({"cpu_us_per_order": costs, "rss_mib": growth.rss_mib}))
    return 0 if max(ratios.values()) <= GROWTH_MAX and growth.rss_mib <= RSS_MIB_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
