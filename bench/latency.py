"""`python -m bench.latency`: how long after an order is produced its row can be read, at several rates.

headrace: at a client that has the row's stream open over HTTP. Kafka Streams (exactly_once_v2, with its
default and with a commit interval of 10 ms): at a committed reader of its table's changelog, as whoever
reads the store sees rows that may still be taken back. Fifty orders a second are of the row that is
watched, the others are spread over 10,000 rows.
"""

import argparse
import asyncio
import json
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from bench.broker import NoBroker, broker
from bench.contenders import EXACTLY_ONCE, kafka_streams
from bench.course import Course
from bench.environments import NotBuilt
from bench.filling import create
from bench.orders import Orders
from bench.process import ProgramFailed
from bench.workers import start, until_served

P50_MS_MAX, P99_MS_MAX = 6.0, 25.0
_RATES = (50, 2_000, 5_000)
_PROBES_PER_S = 50
_PROBE = b"sku-watched"
_WARM_UP_S = 3.0
_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 30.0
_ENDLESS = 2**62


class Probes:
    """The orders of the watched row: when each was produced, and how long until it could be read."""

    def __init__(self) -> None:
        self._produced: list[float] = []
        self._read = 0
        self._skipped = 0
        self.took_ms: list[float] = []
        self.all_read = asyncio.Event()

    def produced(self) -> None:
        """Another one is on its way."""
        self.all_read.clear()
        self._produced.append(time.perf_counter())

    def read(self, count: int) -> None:
        """So many of them are in the row."""
        now = time.perf_counter()
        for at in range(self._read, count):
            if at >= self._skipped:
                self.took_ms.append((now - self._produced[at]) * 1000)
        self._read = max(self._read, count)
        if self._read == len(self._produced):
            self.all_read.set()

    def forget(self) -> None:
        """What was so far was the warm-up."""
        self._skipped = len(self._produced)
        self.took_ms.clear()

    def percentiles(self) -> tuple[float, float]:
        """p50 and p99 in ms."""
        took = sorted(self.took_ms)
        return took[len(took) // 2], took[len(took) * 99 // 100]


async def _produce(course: Course, rate: int, seconds: float, probes: Probes) -> None:
    """Orders at an even rate, fifty of them a second of the watched row."""
    producer = AIOKafkaProducer(bootstrap_servers=course.broker, acks="all")
    await producer.start()
    try:
        loop, events = asyncio.get_running_loop(), iter(course.orders)
        began, tick, is_warm = loop.time(), 0, False
        while (elapsed := loop.time() - began) < _WARM_UP_S + seconds:
            if elapsed >= _WARM_UP_S and not is_warm:
                is_warm = True
                probes.forget()
            for _ in range(rate // _PROBES_PER_S - 1):
                key, value, _ = next(events)
                await producer.send(course.topic, value, key=key, partition=0)
            probes.produced()
            order = b'{"order_id":"ord-0","sku":"%b","qty":1,"price":1.0,"ts":0.0}' % _PROBE
            await producer.send(course.topic, order, key=_PROBE, partition=0)
            tick += 1
            await asyncio.sleep(max(0.0, began + tick / _PROBES_PER_S - loop.time()))
        async with asyncio.timeout(_END_TIMEOUT_S):
            await probes.all_read.wait()
    finally:
        await producer.stop()


async def _row_stream(port: int) -> AsyncIterator[int]:
    """The watched row as its stream tells it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /quantities/%b HTTP/1.1\r\nHost: bench\r\n" % _PROBE)
        writer.write(b"Accept: text/event-stream\r\n\r\n")
        event = b""
        while line := await reader.readline():
            if line.startswith(b"event: "):
                event = line[7:].strip()
            elif line.startswith(b"data: ") and event == b"row":
                yield int(line[6:])
    finally:
        writer.close()


def _changelog_name(course: Course) -> str:
    return f"{course.run}-quantities-changelog"


async def _changelog(course: Course) -> AsyncIterator[int]:
    """The watched row as committed readers of Kafka Streams' changelog find it."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=course.broker, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(_changelog_name(course), 0)])
        async for record in consumer:
            if record.key == _PROBE:
                yield struct.unpack(">q", record.value)[0]
    finally:
        await consumer.stop()


async def _watch(rows: AsyncIterator[int], probes: Probes) -> None:
    async with aclosing(rows) as watched:  # type: ignore[type-var]  # both are generators
        async for count in watched:
            probes.read(count)
    raise EOFError("the row's stream has ended")


async def _run(rows: AsyncIterator[int], course: Course, rate: int, seconds: float) -> tuple[float, float]:
    probes = Probes()
    watching = asyncio.create_task(_watch(rows, probes), name="row")
    producing = asyncio.create_task(_produce(course, rate, seconds, probes), name="orders")
    try:
        await asyncio.wait({watching, producing}, return_when=asyncio.FIRST_COMPLETED)
        for each in (producing, watching):
            if each.done():
                each.result()
    finally:
        producing.cancel()
        watching.cancel()
        await asyncio.gather(producing, watching, return_exceptions=True)
    return probes.percentiles()


def _headrace(course: Course, rate: int, seconds: float) -> tuple[float, float]:
    with ExitStack() as stack:
        worker = start(stack, course, f"kafka://{course.broker}")
        until_served(worker, _START_TIMEOUT_S)
        return asyncio.run(_run(_row_stream(worker.port), course, rate, seconds))


def _streams(commit_ms: str, course: Course, rate: int, seconds: float) -> tuple[float, float]:
    with kafka_streams(course, EXACTLY_ONCE, *([commit_ms] if commit_ms else [])):
        asyncio.run(_until_it_exists(course.broker, _changelog_name(course)))
        return asyncio.run(_run(_changelog(course), course, rate, seconds))


async def _until_it_exists(address: str, topic: str) -> None:
    """Wait until Kafka Streams has made a topic: who reads it before would make another one."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while True:
                if topic in await admin.list_topics():
                    return
                await asyncio.sleep(0.1)
    finally:
        await admin.close()


def main() -> int:
    """Measure and print; 1 when headrace takes longer than it may."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run, after the warm-up")
    parser.add_argument("--broker", default="", help="host:port of a running broker; default: one of our own")
    options = parser.parse_args()
    contenders = {
        "headrace": _headrace,
        "kafka-streams": lambda *of: _streams("", *of),
        "kafka-streams, 10 ms": lambda *of: _streams("10", *of),
    }
    told: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in contenders}
    try:
        with broker(options.broker) as address:
            for rate in _RATES:
                for name, run in contenders.items():
                    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
                        course = _course(address, f"latency-{int(time.time() * 1000)}", Path(folder))
                        asyncio.run(create(address, course.topic, 1))
                        p50_ms, p99_ms = told[name][rate] = run(course, rate, options.seconds)
                    print(
                        f"{rate:>5} events/s  {name:20} p50 {p50_ms:6.1f} ms  p99 {p99_ms:6.1f} ms",
                        flush=True,
                    )
    except (NoBroker, NotBuilt, ProgramFailed) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(told))
    own = told["headrace"].values()
    return 0 if all(p50 <= P50_MS_MAX and p99 <= P99_MS_MAX for p50, p99 in own) else 1


def _course(address: str, run: str, folder: Path) -> Course:
    return Course(
        run=run,
        broker=address,
        topic=f"{run}.orders",
        folder=folder,
        orders=Orders(_ENDLESS),
    )


if __name__ == "__main__":
    sys.exit(main())
