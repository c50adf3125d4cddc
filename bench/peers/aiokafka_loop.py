"""aiokafka_loop.py ADDRESS TOPIC EVENTS PARTITIONS: the job as a bare consumer loop.

A plain dict in memory: no state on disk, nothing committed, nothing survives a crash. What remains
is the cost of fetching, decoding and adding.
"""

import asyncio
import json
import sys
import time

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition


class Order(msgspec.Struct):
    """An order of one article."""

    order_id: str
    sku: str
    qty: int
    price: float
    ts: float
    note: str = ""


async def main(address: str, topic: str, events: int, partitions: int) -> None:
    """Add up quantities per article until all events are seen."""
    decode = msgspec.json.Decoder(Order).decode
    quantities: dict[str, int] = {}
    consumer = AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition(topic, partition) for partition in range(partitions)])
    seen = 0
    while seen < events:
        batch = await consumer.getmany(timeout_ms=1_000, max_records=10_000)
        for records in batch.values():
            if not seen:
                print(json.dumps({"first": time.monotonic(), "cpu": time.process_time()}), flush=True)
            for record in records:
                order = decode(record.value)
                quantities[order.sku] = quantities.get(order.sku, 0) + order.qty
            seen += len(records)
    done = {"last": time.monotonic(), "last_cpu": time.process_time(), "sum": sum(quantities.values())}
    print(json.dumps(done), flush=True)
    await consumer.stop()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
