"""Who is compared: headrace on two logs, and its peers; each does the job once in a process of its own.

Measured for all alike: from the first event in hand to the commit that covers the last one, seen from
outside every 50 ms; and the CPU seconds of the process in between.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from bench import workers
from bench.course import Course, Measurement
from bench.environments import (
    CONFLUENT_VERSION,
    QUIX_VERSION,
    java_classes,
    python_of,
    streams_jars,
    this_python,
)
from bench.filling import create
from bench.process import Program

_POLL_S = 0.05
_START_TIMEOUT_S = 120.0
_RUN_TIMEOUT_S = 900.0
EXACTLY_ONCE, AT_LEAST_ONCE = "exactly_once_v2", "at_least_once"
"""Guarantees of Kafka Streams."""
_PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A name, what to say of it, and how to run it."""

    name: str
    guarantee: str
    run: Callable[[Course], Measurement]
    events_max: int | None = None
    """Slow ones get fewer events; rates are compared."""


def _loop(python: Callable[[], str], program: str, course: Course) -> Measurement:
    """A bare consumer loop."""
    arguments = [course.broker, course.topic, str(course.orders.events), str(course.partitions)]
    with _program([python(), str(_PEERS / program), *arguments], course) as loop:
        return _by_last_event(loop, course)


def _with_confluent() -> str:
    return python_of("confluent", (f"confluent-kafka=={CONFLUENT_VERSION}", "msgspec"))


def _faust(course: Course) -> Measurement:
    with faust(course) as worker:
        return _by_last_event(worker, course)


def faust(course: Course) -> Program:
    """The job on faust-streaming."""
    environment = {
        "BENCH_APP": course.run,
        "BENCH_BROKER": course.broker,
        "BENCH_DATA": str(course.folder / "data"),
        "BENCH_EVENTS": str(course.orders.events),
        "BENCH_TOPIC": course.topic,
    }
    command = [this_python(), str(_PEERS / "faust_orders.py"), "worker", "-l", "warn", "--without-web"]
    return _program(command, course, environment)


def _quix(course: Course) -> Measurement:
    python = python_of("quixstreams", (f"quixstreams=={QUIX_VERSION}",))
    with _program([python, str(_PEERS / "quix_orders.py"), *_arguments(course)], course) as program:
        return _by_commit(program, course)


def _kafka_streams(guarantee: str, course: Course) -> Measurement:
    if course.job == "outputs":
        asyncio.run(create(course.broker, course.outputs_topic, course.partitions))
    with kafka_streams(course, guarantee) as program:
        if guarantee == AT_LEAST_ONCE:
            # Its default is a commit every 30 s: by its last event it is given that time.
            program.told("last", timeout_s=_RUN_TIMEOUT_S)
            program.ask()
            return _by_last_event(program, course)
        return _by_commit(program, course)


def kafka_streams(course: Course, guarantee: str, *more: str) -> Program:
    """The job on Kafka Streams; `more`: its commit interval in ms. Raises: NotBuilt."""
    lib = streams_jars()
    classes = java_classes(_PEERS / "StreamsOrders.java", lib)
    path = f"{classes}:{lib}/*"
    command = ["java", "-cp", path, "StreamsOrders", *_arguments(course), guarantee, course.job, *more]
    return _program(command, course)


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
        outputs=asyncio.run(workers.outputs(course)),
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


def _program(command: list[str], course: Course, environment: Mapping[str, str] | None = None) -> Program:
    log = course.folder / "output.txt"
    return Program(command, log=log, folder=course.folder, environment=environment)


HEADRACE_KAFKA = "headrace-kafka"
AIOKAFKA_LOOP = "aiokafka-loop"
_NOTHING_KEPT = "none: no store, no commit"
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(name=HEADRACE_KAFKA, guarantee="exactly once", run=workers.on_kafka),
        Contender(name="headrace-embedded", guarantee="exactly once", run=workers.on_embedded_log),
        Contender(
            name="kafka-streams",
            guarantee="exactly once (v2)",
            run=partial(_kafka_streams, EXACTLY_ONCE),
        ),
        Contender(
            name="kafka-streams-alo",
            guarantee="at least once",
            run=partial(_kafka_streams, AT_LEAST_ONCE),
        ),
        Contender(name="quix-streams", guarantee="exactly once", run=_quix),
        Contender(name="faust-streaming", guarantee="at least once", run=_faust, events_max=30_000),
        Contender(
            name="confluent-loop",
            guarantee=_NOTHING_KEPT,
            run=partial(_loop, _with_confluent, "confluent_loop.py"),
        ),
        Contender(
            name=AIOKAFKA_LOOP,
            guarantee=_NOTHING_KEPT,
            run=partial(_loop, this_python, "aiokafka_loop.py"),
        ),
    )
}
