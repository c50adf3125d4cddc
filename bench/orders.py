"""The events of the comparison: orders of about 100 bytes over 10,000 articles, the same in every run."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from headrace.log.embedded.log import EmbeddedLog
from headrace.log.port import Append, Outgoing, TopicSpec

_ARTICLES = 10_000
_SEED = 20_261_123
_STARTED_AT_MS = 1_790_000_000_000
_APPEND_RECORDS = 10_000


@dataclass(frozen=True, slots=True)
class Orders:
    """The first `events` orders of the sequence."""

    events: int

    def __iter__(self) -> Iterator[tuple[bytes, bytes, int]]:
        """Key, value and timestamp of each order."""
        dice = random.Random(_SEED)
        encode = msgspec.json.Encoder().encode
        for number, (article, quantity) in enumerate(_rolls(dice, self.events)):
            sku = f"sku-{article:06d}"
            order = {
                "order_id": f"ord-{number:012d}",
                "sku": sku,
                "qty": quantity,
                "price": 1 + article % 199 + 0.95,
                "ts": _STARTED_AT_MS / 1000 + number / 1000,
            }
            yield sku.encode(), encode(order), _STARTED_AT_MS + number

    def expected_sum(self) -> int:
        """What all quantities come to."""
        return sum(quantity for _, quantity in _rolls(random.Random(_SEED), self.events))


def _rolls(dice: random.Random, count: int) -> Iterator[tuple[int, int]]:
    for _ in range(count):
        yield int(dice.random() * _ARTICLES), 1 + int(dice.random() * 9)


async def fill_kafka(address: str, topic: str, orders: Orders) -> None:
    """Make a topic with one partition that holds exactly these orders."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        # The orders are of a fixed day in the past: by the default retention they would soon be deleted.
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"retention.ms": "-1"})])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(
        bootstrap_servers=address, acks="all", enable_idempotence=True, max_batch_size=256 * 1024
    )
    await producer.start()
    try:
        batch = producer.create_batch()
        for key, value, timestamp_ms in orders:
            if batch.append(key=key, value=value, timestamp=timestamp_ms) is None:
                await producer.send_batch(batch, topic, partition=0)
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=timestamp_ms)
        await producer.send_batch(batch, topic, partition=0)
        await producer.flush()
    finally:
        await producer.stop()


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
