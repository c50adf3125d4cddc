"""Kill -9 a worker at random instants while unique events flow, and fold its changelog afterwards."""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from os import environ
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

PARTITIONS = 4
_KEYS = 500
_BURST_EVENTS = 50
_BURST_S = 0.05
_LIFE_S = (1.0, 5.0)
"""How long a worker that makes progress lives on until it is killed."""
_PROGRESS_TIMEOUT_S = 90.0
_STANDSTILL_S = 15.0
"""A worker whose changelog grew no more for this long has counted what it ever will."""
_POLL_S = 0.2


class NoProgress(Exception):
    """A worker counted nothing; the message ends with its output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was sent, and what the worker's table made of it."""

    events: int
    counted: int
    kills: int
    seconds: float


class Harness:
    """One app under test, on one broker."""

    def __init__(self, *, broker: str, run: str, guarantee: str, folder: Path, seed: int) -> None:
        self._broker = broker
        self._topic = f"{run}.events"
        self._changelog = f"{run}-counts-changelog"
        self._dice = random.Random(seed)
        self._output = folder / "worker.txt"
        self._sent = 0
        self._environment = {
            **environ,
            "BENCH_APP": run,
            "BENCH_BROKER": broker,
            "BENCH_DATA": str(folder / "data"),
            "BENCH_GUARANTEE": guarantee,
            "BENCH_PARTITIONS": str(PARTITIONS),
            "BENCH_TOPIC": self._topic,
        }

    async def run(self, cycles: int) -> Verdict:
        """Kill `cycles` workers, let one more come to its end, and count. Raises: NoProgress."""
        began = time.monotonic()
        await self._create_topic()
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._broker,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        enough = asyncio.Event()
        sending = asyncio.create_task(self._send(enough), name="events")
        worker = self._start_worker()
        try:
            for cycle in range(1, cycles + 1):
                await self._await_progress(consumer, worker)
                await asyncio.sleep(self._dice.uniform(*_LIFE_S))
                worker.kill()
                worker.wait()
                print(f"kill {cycle} of {cycles}, {self._sent:,} events sent", flush=True)
                worker = self._start_worker()
            await self._await_progress(consumer, worker)
            enough.set()
            await sending
            await self._await_standstill(consumer)
            counted = await self._fold(consumer)
        finally:
            enough.set()
            await asyncio.wait({sending})
            worker.kill()
            worker.wait()
            await consumer.stop()
        return Verdict(events=self._sent, counted=counted, kills=cycles, seconds=time.monotonic() - began)

    def _start_worker(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, str(Path(__file__).with_name("counter.py")), "worker", "-l", "warn"]
        with self._output.open("ab") as output:
            return subprocess.Popen(
                [*command, "--without-web"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    async def _create_topic(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._broker)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(self._topic, PARTITIONS, 1)])
        finally:
            await admin.close()

    async def _send(self, enough: asyncio.Event) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._broker, acks="all", enable_idempotence=True)
        await producer.start()
        try:
            while not enough.is_set():
                await self._send_burst(producer)
                await asyncio.sleep(_BURST_S)
        finally:
            await producer.stop()

    async def _send_burst(self, producer: AIOKafkaProducer) -> None:
        numbers = range(self._sent, self._sent + _BURST_EVENTS)
        self._sent += _BURST_EVENTS
        acknowledged = [
            await producer.send(self._topic, b"event %d" % number, key=b"key-%d" % (number % _KEYS))
            for number in numbers
        ]
        await asyncio.gather(*acknowledged)

    async def _written(self, consumer: AIOKafkaConsumer) -> int:
        """How many records the worker's changelog has; 0 while it does not exist."""
        places = await self._places(consumer)
        return sum((await consumer.end_offsets(places)).values()) if places else 0

    async def _places(self, consumer: AIOKafkaConsumer) -> Sequence[TopicPartition]:
        # `topics()` asks the broker: the worker makes its changelog itself, some time after its start.
        if self._changelog not in await consumer.topics():
            return ()
        return [TopicPartition(self._changelog, partition) for partition in range(PARTITIONS)]

    async def _await_progress(self, consumer: AIOKafkaConsumer, worker: "subprocess.Popen[bytes]") -> None:
        before = await self._written(consumer)
        deadline = time.monotonic() + _PROGRESS_TIMEOUT_S
        while await self._written(consumer) <= before:
            if worker.poll() is not None or time.monotonic() > deadline:
                raise NoProgress(f"the worker counts nothing:\n{self._output.read_text()[-2_000:]}")
            await asyncio.sleep(_POLL_S)

    async def _await_standstill(self, consumer: AIOKafkaConsumer) -> None:
        written, since = -1, time.monotonic()
        while time.monotonic() - since < _STANDSTILL_S:
            now = await self._written(consumer)
            if now != written:
                written, since = now, time.monotonic()
            await asyncio.sleep(_POLL_S)

    async def _fold(self, consumer: AIOKafkaConsumer) -> int:
        """The sum of the newest value of each key in the changelog."""
        places = await self._places(consumer)
        ends = await consumer.end_offsets(places)
        consumer.assign(places)
        newest: dict[bytes, int] = {}
        while any([await consumer.position(place) < ends[place] for place in places]):
            batches = await consumer.getmany(timeout_ms=500)
            for records in batches.values():
                for record in records:
                    newest[record.key] = json.loads(record.value) if record.value else 0
        return sum(newest.values())
