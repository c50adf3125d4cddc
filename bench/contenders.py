"""Who is compared: headrace on two logs, and its peers; each does the job once in a process of its own.

Measured for all alike: from the first event in hand to the commit that covers the last one, seen from
outside every 50 ms; and the CPU seconds of the process in between.
"""

import asyncio
import http.client
import json
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from bench.environments import QUIX_VERSION, java_classes, python_of, streams_jars, this_python
from bench.orders import Orders
from bench.process import Program

_POLL_S = 0.05
_START_TIMEOUT_S = 120.0
_RUN_TIMEOUT_S = 900.0
_PAGE_ROWS = 1_000
_PEERS = Path(__file__).parent / "peers"
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What one run is given."""

    run: str
    """Unique; names the app, so that it starts without state."""
    broker: str
    topic: str
    embedded: Path
    """Folder of an embedded log that holds the same events; copied, never changed."""
    folder: Path
    """Empty; for state and output."""
    orders: Orders
    """As many as are to be handled; the topic may hold more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one run came to."""

    events: int
    seconds: float
    cpu_seconds: float
    total: int
    """What the contender's table sums up to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A name, what to say of it, and how to run it."""

    name: str
    guarantee: str
    run: Callable[[Course], Measurement]
    events_max: int | None = None
    """Slow ones get fewer events; rates are compared."""


def _headrace_on_kafka(course: Course) -> Measurement:
    return _headrace(course, f"kafka://{course.broker}")


def _headrace_embedded(course: Course) -> Measurement:
    shutil.copytree(course.embedded, course.folder / "log")
    return _headrace(course, f"embedded://{course.folder / 'log' / 'log.db'}")


def _headrace(course: Course, log: str) -> Measurement:
    port = _free_port()
    environment = {
        "HEADRACE_LOG": log,
        "HEADRACE_DATA": str(course.folder / "data"),
        "HEADRACE_HTTP": f"127.0.0.1:{port}",
        "BENCH_APP": course.run,
        "BENCH_TOPIC": course.topic,
    }
    command = [this_python(), "-m", "headrace", "-A", "bench.jobs.orders", "worker", "-l", "warn"]
    with _program(command, course, environment, folder=_ROOT) as worker:
        _await_events(worker, port, 1, _START_TIMEOUT_S)
        _await_events(worker, port, course.orders.events, _RUN_TIMEOUT_S)
        ended, cpu_seconds = time.monotonic(), worker.cpu_seconds()
        began = json.loads(_get(port, "/first"))
        return Measurement(
            events=course.orders.events,
            seconds=ended - began["first"],
            cpu_seconds=cpu_seconds - began["cpu"],
            total=_served_sum(port),
        )


def _await_events(worker: Program, port: int, count: int, timeout_s: float) -> None:
    """Wait until this many events are in committed units, as /metrics tells."""
    deadline = time.monotonic() + timeout_s
    while _committed_events(port) < count:
        worker.check_running()
        if time.monotonic() > deadline:
            raise worker.failure(f"did not commit {count} events within {timeout_s:g} s")
        time.sleep(_POLL_S)


def _committed_events(port: int) -> int:
    try:
        page = _get(port, "/metrics").decode()
    except OSError:  # not listening yet
        return 0
    # One sample per agent, and the job has one agent.
    counts = [line for line in page.splitlines() if line.startswith("headrace_events_total{")]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in counts)


def _served_sum(port: int) -> int:
    total = 0
    query = f"limit={_PAGE_ROWS}"
    while True:
        page = json.loads(_get(port, f"/quantities?{query}"))
        total += sum(int(row["value"]) for row in page["rows"])
        if not page.get("cursor"):
            return total
        query = f"limit={_PAGE_ROWS}&cursor={page['cursor']}"


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise ValueError(f"GET {path} answered {response.status}: {body[:500]!r}")
    return body


def _aiokafka(course: Course) -> Measurement:
    arguments = [course.broker, course.topic, str(course.orders.events)]
    with _program([this_python(), str(_PEERS / "aiokafka_loop.py"), *arguments], course) as loop:
        return _by_last_event(loop, course)


def _faust(course: Course) -> Measurement:
    environment = {
        "BENCH_APP": course.run,
        "BENCH_BROKER": course.broker,
        "BENCH_DATA": str(course.folder / "data"),
        "BENCH_EVENTS": str(course.orders.events),
        "BENCH_TOPIC": course.topic,
    }
    command = [this_python(), str(_PEERS / "faust_orders.py"), "worker", "-l", "warn", "--without-web"]
    with _program(command, course, environment) as worker:
        return _by_last_event(worker, course)


def _quix(course: Course) -> Measurement:
    python = python_of("quixstreams", (f"quixstreams=={QUIX_VERSION}",))
    with _program([python, str(_PEERS / "quix_orders.py"), *_arguments(course)], course) as program:
        return _by_commit(program, course)


def _kafka_streams(course: Course) -> Measurement:
    lib = streams_jars()
    classes = java_classes(_PEERS / "StreamsOrders.java", lib)
    path = f"{classes}:{lib}/*"
    command = ["java", "-cp", path, "StreamsOrders", *_arguments(course)]
    with _program(command, course) as program:
        return _by_commit(program, course)


def _arguments(course: Course) -> list[str]:
    state = course.folder / "state"
    state.mkdir()
    return [course.broker, course.topic, str(course.orders.events), course.run, str(state)]


def _by_last_event(program: Program, course: Course) -> Measurement:
    began = program.told("first", timeout_s=_START_TIMEOUT_S)
    ended = program.told("last", timeout_s=_RUN_TIMEOUT_S)
    spent = program.told("last_cpu", timeout_s=1.0) - program.told("cpu", timeout_s=1.0)
    total = program.told("sum", timeout_s=60.0)
    events = course.orders.events
    return Measurement(events=events, seconds=ended - began, cpu_seconds=spent, total=total)


def _by_commit(program: Program, course: Course) -> Measurement:
    began = program.told("first", timeout_s=_START_TIMEOUT_S)
    asyncio.run(_await_commit(program, course))
    ended, cpu_seconds = time.monotonic(), program.cpu_seconds()
    program.ask()
    return Measurement(
        events=course.orders.events,
        seconds=ended - began,
        cpu_seconds=cpu_seconds - program.told("cpu", timeout_s=1.0),
        total=program.told("sum", timeout_s=60.0),
    )


async def _await_commit(program: Program, course: Course) -> None:
    """Wait until the consumer group's committed offset covers the last event."""
    admin = AIOKafkaAdminClient(bootstrap_servers=course.broker)
    await admin.start()
    place = TopicPartition(course.topic, 0)
    deadline = time.monotonic() + _RUN_TIMEOUT_S
    try:
        while True:
            offsets = await admin.list_consumer_group_offsets(course.run, partitions=[place])
            if place in offsets and offsets[place].offset >= course.orders.events:
                return
            program.check_running()
            if time.monotonic() > deadline:
                raise program.failure(f"did not commit its last event within {_RUN_TIMEOUT_S:g} s")
            await asyncio.sleep(_POLL_S)
    finally:
        await admin.close()


def _program(
    command: list[str],
    course: Course,
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
) -> Program:
    return Program(
        command,
        log=course.folder / "output.txt",
        folder=folder or course.folder,
        environment=environment,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


HEADRACE_KAFKA = "headrace-kafka"
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(name=HEADRACE_KAFKA, guarantee="exactly once", run=_headrace_on_kafka),
        Contender(name="headrace-embedded", guarantee="exactly once", run=_headrace_embedded),
        Contender(name="kafka-streams", guarantee="exactly once (v2)", run=_kafka_streams),
        Contender(name="quix-streams", guarantee="exactly once", run=_quix),
        Contender(name="faust-streaming", guarantee="at least once", run=_faust, events_max=30_000),
        Contender(name="aiokafka-loop", guarantee="none: no store, no commit", run=_aiokafka),
    )
}
