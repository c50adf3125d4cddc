"""getmany_loop.py ADDRESS TOPIC RECORDS: so many records are read with aiokafka, and that is all."""

import asyncio
import json
import sys
import time

from aiokafka import AIOKafkaConsumer, TopicPartition


async def main(address: str, topic: str, count: int) -> None:
    """Read them, committed ones only, and say how long it took."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=address, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    consumer.assign([TopicPartition(topic, 0)])
    began, cpu, seen = time.monotonic(), time.process_time(), 0
    while seen < count:
        for records in (await consumer.getmany(timeout_ms=1_000, max_records=10_000)).values():
            seen += len(records)
    done = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - cpu}
    print(json.dumps(done), flush=True)
    await consumer.stop()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
