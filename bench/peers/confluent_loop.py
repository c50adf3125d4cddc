"""confluent_loop.py ADDRESS TOPIC EVENTS PARTITIONS: the job as a bare loop over librdkafka's consumer.

A plain dict in memory, as in the aiokafka loop. CPU is that of the whole process: librdkafka fetches in
threads of its own, on a second core.
"""

import json
import sys
import time

import msgspec
from confluent_kafka import Consumer, TopicPartition  # type: ignore[import-not-found]


class Order(msgspec.Struct):
    """An order of one article."""

    order_id: str
    sku: str
    qty: int
    price: float
    ts: float
    note: str = ""


def main(address: str, topic: str, events: int, partitions: int) -> None:
    """Add up quantities per article until all events are seen."""
    decode = msgspec.json.Decoder(Order).decode
    quantities: dict[str, int] = {}
    consumer = Consumer({"bootstrap.servers": address, "group.id": "bench", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    seen = 0
    while seen < events:
        records = consumer.consume(10_000, timeout=0.1)
        if records and not seen:
            print(json.dumps({"first": time.monotonic(), "cpu": time.process_time()}), flush=True)
        for record in records:
            order = decode(record.value())
            quantities[order.sku] = quantities.get(order.sku, 0) + order.qty
        seen += len(records)
    done = {"last": time.monotonic(), "last_cpu": time.process_time(), "sum": sum(quantities.values())}
    print(json.dumps(done), flush=True)
    consumer.close()


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
