"""`python -m bench`: the same jobs on headrace and its peers, on one broker, in turn."""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.broker import NoBroker, broker
from bench.cases import CASES, PLAIN, Case
from bench.contenders import AIOKAFKA_LOOP, CONTENDERS, HEADRACE_KAFKA, Contender
from bench.course import Course
from bench.environments import CACHE, NotBuilt
from bench.filling import fill_embedded, fill_kafka
from bench.process import ProgramFailed
from bench.report import Results

_RESULTS = Path(__file__).parent / "results"
_FLOOR = Path(__file__).parent / "floor.json"
_FALL_MAX = 0.25
_QUICK_EVENTS = 400_000
_QUICK_EVENTS_OF_SLOW = 10_000
_QUICK_ROUNDS = 3
"""Of headrace and the bare loop, whose ratio is held against the floor; the others run once."""


def main() -> int:
    """Measure, print, save; the result is the exit status.

    It is 1 when a contender failed or its sum is wrong, and when a quick run finds headrace slower than the
    bare loop by a quarter more than the committed ratio says.
    """
    options = _options()
    with ExitStack() as stack:
        try:
            address = stack.enter_context(broker(options.broker))
        except NoBroker as error:
            print(error, file=sys.stderr)
            return 1
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        results = Comparison(options, address, scratch).measure()
    print()
    print(results.tables())
    print(
        "\nFrom the first event in hand to the commit that covers the last one; those without exactly once"
        "\nto their last event. 'headrace x' is the rate of headrace on Kafka over this one, 'in CPU x'"
        "\nthe same of events per CPU second of the process. A JVM warms up for some hundred thousand events:"
        "\njudge Kafka Streams by runs of a million."
    )
    print(f"Saved: {results.save(options.results, label='quick' if options.quick else 'full')}")
    is_held = not options.quick or _is_held(results)
    return 1 if results.failed or results.inexact or not is_held else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the plain job, few events, one round")
    parser.add_argument("--events", type=int, help="default: 1,000,000; 400,000 with --quick")
    parser.add_argument("--rounds", type=int, help="default: 3; 1 with --quick")
    parser.add_argument("--broker", default="", help="host:port of a running broker; default: one of our own")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), help="default: all; plain with --quick")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--results", type=Path, help="folder of the file with all of it")
    options = parser.parse_args()
    options.events = options.events or (_QUICK_EVENTS if options.quick else 1_000_000)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.results = options.results or (CACHE / "results" if options.quick else _RESULTS)
    options.cases = options.cases or ([PLAIN] if options.quick else list(CASES))
    return options


class Comparison:
    """One call of the program: every case with every contender, round after round."""

    def __init__(self, options: argparse.Namespace, address: str, scratch: Path) -> None:
        self._options = options
        self._address = address
        self._scratch = scratch
        self._run = f"bench-{os.getpid()}"
        self._results = Results()

    def measure(self) -> Results:
        """Fill the logs and let everybody run."""
        options = self._options
        print(f"{options.events:,} orders, {options.rounds} round(s): filling the logs", flush=True)
        cases = [CASES[name] for name in options.cases]
        for case in cases:
            if not case.is_held_back:
                asyncio.run(self._fill(case))
        for number in range(1, options.rounds + 1):
            for case in cases:
                for contender in self._in_turn(case, number):
                    self._measure(case, contender, number)
        if options.quick:
            for number in range(options.rounds + 1, _QUICK_ROUNDS + 1):
                for name in (HEADRACE_KAFKA, AIOKAFKA_LOOP):
                    self._measure(CASES[PLAIN], CONTENDERS[name], number)
        return self._results

    async def _fill(self, case: Case) -> None:
        orders = case.orders(self._options.events)
        topic = self._topic(case)
        await fill_kafka(self._address, topic, orders, partitions=case.partitions)
        if "headrace-embedded" in case.contenders:
            self._embedded(case).mkdir()
            await fill_embedded(self._embedded(case) / "log.db", topic, orders)

    def _in_turn(self, case: Case, number: int) -> Iterator[Contender]:
        """Who runs first in a round finds the machine cooler: the order moves on by one each round."""
        names = [name for name in case.contenders if name in self._options.only]
        shift = (number - 1) % max(1, len(names))
        for name in names[shift:] + names[:shift]:
            if (case.name, name) not in self._results.failed:
                yield CONTENDERS[name]

    def _measure(self, case: Case, contender: Contender, number: int) -> None:
        name, results = contender.name, self._results
        folder = self._scratch / f"{case.name}-{name}-{number}"
        folder.mkdir()
        run = f"{self._run}-{case.name}-{name}-{number}"
        events_max = contender.events_max or self._options.events
        if self._options.quick and contender.events_max:
            events_max = _QUICK_EVENTS_OF_SLOW
        course = Course(
            run=run,
            broker=self._address,
            topic=f"{run}.orders" if case.is_held_back else self._topic(case),
            embedded=self._embedded(case),
            folder=folder,
            orders=case.orders(self._options.events).first(events_max),
            job=case.job,
            partitions=case.partitions,
            workers=case.workers,
            is_held_back=case.is_held_back,
        )
        told = f"round {number}  {case.name:12} {name:18}"
        try:
            measured = contender.run(course)
        except (NotBuilt, ProgramFailed, OSError, ValueError) as error:
            results.failed[case.name, name] = str(error)
            print(f"{told} {error}", file=sys.stderr, flush=True)
            return
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        results.add(case.name, name, measured)
        rate = measured.events / measured.seconds
        cpu = measured.cpu_seconds / measured.events * 1e6
        print(f"{told} {rate:>9,.0f} events/s  {cpu:6.2f} CPU s/1M", flush=True)

    def _topic(self, case: Case) -> str:
        return f"{self._run}.{case.name}.orders"

    def _embedded(self, case: Case) -> Path:
        return self._scratch / f"embedded-{case.name}"


def _is_held(results: Results) -> bool:
    """Whether the ratio to the bare loop is what it was, within a quarter."""
    floor: float = json.loads(_FLOOR.read_text())["ratio_to_aiokafka_loop"]
    ratio = results.ratio(PLAIN, AIOKAFKA_LOOP)
    if ratio is None:
        return True  # not both of them were to run
    least = floor * (1 - _FALL_MAX)
    print(
        f"{ratio:.2f} of the bare loop; {floor:.2f} is committed, and at least {least:.2f} is to be reached"
    )
    return ratio >= least


if __name__ == "__main__":
    sys.exit(main())
