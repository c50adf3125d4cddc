"""Logs filled with the events of a comparison; as a program: a topic that shows all its events at one moment.

`python -m bench.filling ADDRESS TOPIC PARTITIONS EVENTS` fills a topic within one transaction, says that
it is filled, and commits when it is given a line: until then nobody who reads committed records sees any.
"""

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.ingest import fill
from bench.orders import Orders
from headrace.events.partitioner import Partitioner
from headrace.log.embedded.log import EmbeddedLog
from headrace.log.port import TopicSpec

_BATCH_BYTES = 256 * 1024
_HOLD_MS = 600_000
_HELD_BACK = "held-back"


Record = tuple[bytes, bytes, int | None]
"""Key, value, and timestamp in ms; None: now."""
_FOR_EVER = {"retention.ms": "-1"}
"""The orders are of a fixed day in the past: by the default retention they would soon be deleted."""


async def fill_kafka(address: str, topic: str, records: Iterable[Record], *, partitions: int = 1) -> None:
    """Put these records into a topic, which is made unless there is one, each where its key belongs."""
    await create(address, topic, partitions)
    producer = AIOKafkaProducer(
        bootstrap_servers=address, acks="all", enable_idempotence=True, max_batch_size=_BATCH_BYTES
    )
    await producer.start()
    try:
        await _send(producer, topic, records, partitions)
    finally:
        await producer.stop()


async def create(
    address: str, topic: str, partitions: int, *, configs: Mapping[str, str] = _FOR_EVER
) -> None:
    """Make an empty topic, which keeps its records if nothing else is asked, unless there is one."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        if topic in await admin.list_topics():
            return
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=dict(configs))])
    finally:
        await admin.close()


async def _send(producer: AIOKafkaProducer, topic: str, records: Iterable[Record], partitions: int) -> None:
    batches = [producer.create_batch() for _ in range(partitions)]
    for key, value, timestamp_ms in records:
        partition = Partitioner.MURMUR2.place(key, partitions)
        batch = batches[partition]
        if batch.append(key=key, value=value, timestamp=timestamp_ms) is None:
            await producer.send_batch(batch, topic, partition=partition)
            batch = batches[partition] = producer.create_batch()
            batch.append(key=key, value=value, timestamp=timestamp_ms)
    for partition, batch in enumerate(batches):
        if batch.record_count():
            await producer.send_batch(batch, topic, partition=partition)
    await producer.flush()


async def fill_embedded(path: Path, topic: str, orders: Orders) -> None:
    """Make an embedded log whose topic has one partition and holds exactly these orders."""
    log = EmbeddedLog(str(path))
    await log.open()
    try:
        await log.provision([TopicSpec(name=topic, partitions=1, retention_ms=-1)])
        await fill(log, topic, ((key, value, (), timestamp_ms) for key, value, timestamp_ms in orders))
    finally:
        await log.close()


async def _hold_back(address: str, topic: str, partitions: int, events: int) -> None:
    await create(address, topic, partitions)
    producer = AIOKafkaProducer(
        bootstrap_servers=address,
        transactional_id=f"{topic}-{_HELD_BACK}",
        transaction_timeout_ms=_HOLD_MS,
        max_batch_size=_BATCH_BYTES,
    )
    await producer.start()
    try:
        async with producer.transaction():
            await _send(producer, topic, Orders(events), partitions)
            print(json.dumps({"filled": True}), flush=True)
            await asyncio.to_thread(sys.stdin.readline)
    finally:
        await producer.stop()


if __name__ == "__main__":
    asyncio.run(_hold_back(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
