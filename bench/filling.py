"""Logs filled with the events of a comparison; as a program: a topic that shows all its events at one moment.

`python -m bench.filling ADDRESS TOPIC PARTITIONS EVENTS` fills a topic within one transaction, says that
it is filled, and commits when it is given a line: until then nobody who reads committed records sees any.
"""

import asyncio
import json
import sys
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.orders import Orders
from headrace.events.partitioner import Partitioner
from headrace.log.embedded.log import EmbeddedLog
from headrace.log.port import Append, Outgoing, TopicSpec

_APPEND_RECORDS = 10_000
_BATCH_BYTES = 256 * 1024
_HOLD_MS = 600_000
_HELD_BACK = "held-back"


async def fill_kafka(address: str, topic: str, orders: Orders, *, partitions: int = 1) -> None:
    """Make a topic that holds exactly these orders, each where its key belongs."""
    await create(address, topic, partitions)
    producer = AIOKafkaProducer(
        bootstrap_servers=address, acks="all", enable_idempotence=True, max_batch_size=_BATCH_BYTES
    )
    await producer.start()
    try:
        await _send(producer, topic, orders, partitions)
    finally:
        await producer.stop()


async def create(address: str, topic: str, partitions: int) -> None:
    """Make an empty topic that keeps its records, unless there is one."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        if topic in await admin.list_topics():
            return
        # The orders are of a fixed day in the past: by the default retention they would soon be deleted.
        configs = {"retention.ms": "-1"}
        await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)])
    finally:
        await admin.close()


async def _send(producer: AIOKafkaProducer, topic: str, orders: Orders, partitions: int) -> None:
    batches = [producer.create_batch() for _ in range(partitions)]
    for key, value, timestamp_ms in orders:
        partition = Partitioner.MURMUR2.place(key, partitions) if partitions > 1 else 0
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
        writer = await log.writer("bench-fill")
        pending: list[Outgoing] = []
        for key, value, timestamp_ms in orders:
            pending.append((key, value, (), timestamp_ms))
            if len(pending) == _APPEND_RECORDS:
                await writer.commit([Append(topic, 0, pending)])
                pending = []
        if pending:
            await writer.commit([Append(topic, 0, pending)])
        await writer.close()
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
        print(json.dumps({"shown": True}), flush=True)
    finally:
        await producer.stop()


if __name__ == "__main__":
    asyncio.run(_hold_back(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
