"""`python -m bench.reads`: point reads and scans of a million rows, at rest, during ingest, during a restore.

Point reads of random keys with a bearer token, each answer with ETag and position, over 16 kept connections,
as fast as answers come; in turn with an application on the same uvicorn that returns a constant. While the
worker takes in orders at full speed, and while it restores a partition, 500 a second are asked, and the time
of each begins when it is due. A scan is a page of 1,000 rows.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.asking import Answered, ask
from bench.broker import NoBroker, broker
from bench.changelogs import Articles, fill_headrace
from bench.course import Course
from bench.environments import this_python
from bench.filling import create, fill_kafka
from bench.orders import Orders
from bench.process import Program, ProgramFailed
from bench.workers import TOKEN, Worker, free_port, is_listening, start, until, until_served
from headrace.events.partitioner import Partitioner

RATIO_MIN, INGEST_P99_MS_MAX, RESTORE_P99_MS_MAX, SCAN_MS_MAX = 0.8, 10.0, 20.0, 5.0
_ROWS = 1_000_000
_INGEST_EVENTS = 2_000_000
_RESTORED_ROWS = 4_000_000
_FEW_ROWS = 1_000
_LANES, _PACED_LANES, _PACED_RATE = 16, 4, 500.0
_TIMEOUT_S = 300.0
_ROOT = Path(__file__).parents[1]
_SAME_AS_OURS = ("--loop", "asyncio", "--no-server-header", "--no-proxy-headers", "--ws", "none")
_DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()


class Reads:
    """A worker with a million rows, and what is asked of it."""

    def __init__(self, address: str, stack: ExitStack, options: argparse.Namespace) -> None:
        self._address = address
        self._stack = stack
        self._options = options
        self._dice = random.Random(1)

    def point(self) -> Mapping[str, float]:
        """Requests/s and CPU of point reads, over those of a constant."""
        rates: dict[str, list[float]] = {"headrace": [], "with a position": [], "constant": []}
        costs: dict[str, list[float]] = {name: [] for name in rates}
        worker = self._worker("point", rows=_ROWS)
        until_served(worker, _TIMEOUT_S)
        constant = self._constant()
        token = self._position(worker.port)
        lines = {
            "headrace": (worker, self._requests()),
            "with a position": (worker, self._requests(position=token)),
            "constant": (constant, self._requests()),
        }
        for number in range(self._options.rounds + 1):
            for name, (asked, requests) in lines.items():
                before = asked.program.cpu_seconds()
                answered = ask(asked.port, requests, lanes=_LANES, seconds=self._options.seconds)
                spent = asked.program.cpu_seconds() - before
                cost = spent / (answered.requests_per_s * self._options.seconds)
                if number:  # the first round warms both up
                    rates[name].append(answered.requests_per_s)
                    costs[name].append(cost * 1e6)
                    _tell(f"round {number} {name}", answered)
        rate = {name: statistics.median(found) for name, found in rates.items()}
        cost = {name: statistics.median(found) for name, found in costs.items()}
        scans = ask(worker.port, self._scans(), lanes=1, seconds=self._options.seconds)
        _tell("scan of 1,000 rows", scans)
        return {
            "point_of_constant": rate["headrace"] / rate["constant"],
            "point_of_constant_in_cpu": cost["constant"] / cost["headrace"],
            "positioned_of_constant": rate["with a position"] / rate["constant"],
            "cpu_us": cost["headrace"],
            "scan_p50_ms": scans.p50_ms,
            "scan_p99_ms": scans.p99_ms,
        }

    def during_ingest(self) -> Mapping[str, float]:
        """Times of point reads while orders are taken in at full speed."""
        worker = self._worker("ingest", rows=_ROWS, events=_INGEST_EVENTS)
        until([worker], lambda: worker.events() > 0, _TIMEOUT_S)
        began, before = time.monotonic(), worker.events()
        answered = ask(
            worker.port,
            self._requests(),
            lanes=_PACED_LANES,
            rate=_PACED_RATE,
            until=lambda: worker.events() >= _INGEST_EVENTS * 0.9,
        )
        rate = (worker.events() - before) / (time.monotonic() - began)
        _tell(f"at {rate:,.0f} events/s", answered)
        return {
            "ingest_p99_ms": answered.p99_ms,
            "ingest_max_ms": answered.max_ms,
            "ingest_events_per_s": rate,
        }

    def during_restore(self) -> Mapping[str, float]:
        """Times of point reads of one partition while the other one is restored."""
        worker = self._worker("restore", rows=_RESTORED_ROWS, partitions=2)
        until([worker], lambda: sorted(worker.states()) == ["restoring", "serving"], _TIMEOUT_S)
        answered = ask(
            worker.port,
            self._requests(is_of_few=True),
            lanes=_PACED_LANES,
            rate=_PACED_RATE,
            until=lambda: worker.partitions() == 2,
        )
        _tell("during a restore", answered)
        return {"restore_p99_ms": answered.p99_ms, "restore_max_ms": answered.max_ms}

    def _worker(self, name: str, *, rows: int, events: int = 0, partitions: int = 1) -> Worker:
        """A worker of an app of its own, which restores so many rows into its last partition."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        run = f"reads-{os.getpid()}-{name}"
        course = Course(
            run=run,
            broker=self._address,
            topic=f"{run}.orders",
            folder=folder,
            orders=Orders(events),
            partitions=partitions,
        )
        _say(f"{name}: filling, {rows:,} rows and {events:,} orders")
        asyncio.run(self._fill(course, rows))
        more = {"HEADRACE_TOKENS": _DIGEST}
        return start(self._stack, course, f"kafka://{self._address}", more=more)

    async def _fill(self, course: Course, rows: int) -> None:
        if course.orders.events:
            await fill_kafka(self._address, course.topic, course.orders)
        else:
            await create(self._address, course.topic, course.partitions)
        articles = {0: Articles(_FEW_ROWS)} if course.partitions > 1 else {}
        articles[course.partitions - 1] = Articles(rows)
        await fill_headrace(self._address, course.run, course.topic, articles)

    def _constant(self) -> Worker:
        """The application that a point read is held against, on a uvicorn of its own."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-bench-")))
        port = free_port()
        options = ["--port", str(port), "--log-level", "error", "--no-access-log", "--lifespan", "off"]
        command = [this_python(), "-m", "uvicorn", "bench.jobs.constant:app", *_SAME_AS_OURS, *options]
        program = self._stack.enter_context(Program(command, log=folder / "output.txt", folder=_ROOT))
        constant = Worker(program, port)
        until([constant], lambda: is_listening(port), _TIMEOUT_S)
        return constant

    def _position(self, port: int) -> str:
        """The position of an answer, as clients carry it on."""
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(next(self._requests()))
            head = connection.recv(65_536).partition(b"\r\n\r\n")[0].decode().split("\r\n")
        (token,) = (line.partition(": ")[2] for line in head if line.startswith("headrace-position: "))
        return token

    def _requests(self, *, position: str = "", is_of_few: bool = False) -> Iterator[bytes]:
        """Point reads of random keys; of few: those that are in the first of two partitions."""
        rows = _FEW_ROWS if is_of_few else _ROWS
        known = f"Headrace-Position: {position}\r\n" if position else ""
        tail = f" HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\n{known}\r\n".encode()
        while True:
            sku = b"sku-%06d" % int(self._dice.random() * rows)
            if not is_of_few or Partitioner.MURMUR2.place(sku, 2) == 0:
                yield b"GET /quantities/" + sku + tail

    def _scans(self) -> Iterator[bytes]:
        tail = f"Host: bench\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        while True:
            yield b"GET /quantities?limit=1000 HTTP/1.1\r\n" + tail


def _tell(name: str, answered: Answered) -> None:
    _say(
        f"{name}: {answered.requests_per_s:,.0f} requests/s, p50 {answered.p50_ms:.2f} ms, "
        f"p99 {answered.p99_ms:.2f} ms, max {answered.max_ms:.1f} ms"
    )


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Measure and print; 1 without a broker, and where a figure is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.reads", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run of point reads")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--broker", default="", help="host:port of a running broker; default: one of our own")
    options = parser.parse_args()
    told: dict[str, float] = {}
    try:
        with broker(options.broker) as address:
            for part in (Reads.point, Reads.during_ingest, Reads.during_restore):
                with ExitStack() as stack:
                    told.update(part(Reads(address, stack, options)))
    except (NoBroker, ProgramFailed, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"point read: {told['point_of_constant']:.2f} of a constant (at least {RATIO_MIN:g}), "
        f"{told['point_of_constant_in_cpu']:.2f} in CPU, {told['positioned_of_constant']:.2f} with one;"
        f" scan of 1,000 rows: p50 {told['scan_p50_ms']:.2f} ms (at most {SCAN_MS_MAX:g})"
    )
    print(
        f"p99 of 500 reads/s: {told['ingest_p99_ms']:.1f} ms during ingest (at most {INGEST_P99_MS_MAX:g}), "
        f"{told['restore_p99_ms']:.1f} ms during a restore (at most {RESTORE_P99_MS_MAX:g})"
    )
    print(json.dumps(told))
    reached = (
        told["point_of_constant"] >= RATIO_MIN,
        told["ingest_p99_ms"] <= INGEST_P99_MS_MAX,
        told["restore_p99_ms"] <= RESTORE_P99_MS_MAX,
        told["scan_p50_ms"] <= SCAN_MS_MAX,
    )
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
