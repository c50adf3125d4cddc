"""`python -m bench.restore`: how fast an empty store is rebuilt from its changelog, and a full one opened.

Five million rows: headrace from the start of the restore, as /metrics tells, to the partition being served;
beside it a bare `getmany` loop over the same topic. faust-streaming restores its own changelog with a part
of the rows, because it is slow. At the end the worker is started again on ten million rows that it has.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.broker import NoBroker, broker
from bench.changelogs import Articles, fill_faust, fill_headrace
from bench.contenders import faust
from bench.course import Course
from bench.environments import this_python
from bench.filling import create
from bench.orders import Orders
from bench.process import Program, ProgramFailed
from bench.workers import start, until, until_served

OF_LOOP_MIN, OF_FAUST_MIN, READY_S_MAX = 0.6, 20.0, 2.0
_PEERS = Path(__file__).parent / "peers"
_TIMEOUT_S = 600.0


def main() -> int:
    """Measure and print; 1 without a broker, and where a figure is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.restore", description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rows-kept", type=int, default=10_000_000, help="of the worker that starts again")
    parser.add_argument("--rows-of-faust", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--broker", default="", help="host:port of a running broker; default: one of our own")
    options = parser.parse_args()
    try:
        with broker(options.broker) as address:
            told = _measure(options, address)
    except (NoBroker, ProgramFailed) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"restore: {told['of_loop']:.2f} of the rate of getmany (at least {OF_LOOP_MIN:g}), "
        f"{told['of_faust']:.1f} times that of faust-streaming (at least {OF_FAUST_MIN:g})"
    )
    print(
        f"a worker with {options.rows_kept:,} rows on its disk is ready in {told['ready_s']:.2f} s "
        f"(at most {READY_S_MAX:g}) and holds {told['rss_mib']:.0f} MiB"
    )
    print(json.dumps(told))
    is_reached = told["of_loop"] >= OF_LOOP_MIN and told["of_faust"] >= OF_FAUST_MIN
    return 0 if is_reached and told["ready_s"] <= READY_S_MAX else 1


def _measure(options: argparse.Namespace, address: str) -> Mapping[str, float]:
    articles, run = Articles(options.rows), f"restore-{os.getpid()}"
    print(f"{options.rows:,} rows, {options.rounds} round(s): filling the changelogs", flush=True)
    topic = asyncio.run(_fill(address, run, articles))
    asyncio.run(fill_faust(address, f"{run}-faust", Articles(options.rows_of_faust)))
    asyncio.run(create(address, f"{run}-faust.orders", 1))
    rates: dict[str, list[float]] = {"headrace": [], "getmany": [], "faust-streaming": []}
    for number in range(1, options.rounds + 1):
        rates["headrace"].append(options.rows / _restored(address, run))
        rates["getmany"].append(options.rows / _read(address, topic, options.rows))
        rates["faust-streaming"].append(options.rows_of_faust / _recovered(address, f"{run}-faust"))
        shown = ", ".join(f"{name} {found[-1]:,.0f}" for name, found in rates.items())
        print(f"round {number}, rows/s: {shown}", flush=True)
    kept = f"{run}-kept"
    asyncio.run(_fill(address, kept, Articles(options.rows_kept)))
    ready_s, rss_mib = _started_again(address, kept)
    own, loop, other = (statistics.median(found) for found in rates.values())
    return {"of_loop": own / loop, "of_faust": own / other, "ready_s": ready_s, "rss_mib": rss_mib}


async def _fill(address: str, run: str, articles: Articles) -> str:
    await create(address, f"{run}.orders", 1)
    return await fill_headrace(address, run, f"{run}.orders", {0: articles})


def _course(address: str, run: str, folder: str) -> Course:
    return Course(
        run=run,
        broker=address,
        topic=f"{run}.orders",
        folder=Path(folder),
        orders=Orders(0),
    )


def _restored(address: str, run: str) -> float:
    """Seconds from an empty store to a served partition."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder, ExitStack() as stack:
        worker = start(stack, _course(address, run, folder), f"kafka://{address}")
        until([worker], lambda: bool(worker.states()), _TIMEOUT_S)
        began = time.monotonic()
        until_served(worker, _TIMEOUT_S)
        return time.monotonic() - began


def _started_again(address: str, run: str) -> tuple[float, float]:
    """Seconds from the start of a worker that has its rows to its being ready, and what it holds in MiB."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        course = _course(address, run, folder)
        _until_served(course)
        return _until_served(course)


def _until_served(course: Course) -> tuple[float, float]:
    with ExitStack() as stack:
        began = time.monotonic()
        worker = start(stack, course, f"kafka://{course.broker}", more={"HEADRACE_INSTANCE": "kept"})
        until_served(worker, _TIMEOUT_S)
        return time.monotonic() - began, worker.program.rss_mib()


def _read(address: str, topic: str, rows: int) -> float:
    """Seconds of a bare loop over the changelog."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        command = [this_python(), str(_PEERS / "getmany_loop.py"), address, topic, str(rows)]
        with Program(command, log=Path(folder) / "output.txt", folder=Path(folder)) as loop:
            seconds: float = loop.told("seconds", timeout_s=_TIMEOUT_S)
            return seconds


def _recovered(address: str, run: str) -> float:
    """Seconds from the start of the recovery of faust-streaming to its end."""
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        with faust(_course(address, run, folder)) as worker:
            began: float = worker.told("recovering", timeout_s=_TIMEOUT_S)
            ended: float = worker.told("recovered", timeout_s=_TIMEOUT_S)
            return ended - began


if __name__ == "__main__":
    sys.exit(main())
