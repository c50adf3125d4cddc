"""The job on faust-streaming, with its table in RocksDB; settings come from BENCH_* variables.

It notes its last event rather than the commit that covers it, which comes up to 2.8 s later: with the
few events it is given that would count against it.
"""

import json
import os
import sys
import time

import faust

EVENTS = int(os.environ["BENCH_EVENTS"])


class Order(faust.Record, serializer="json"):
    """An order of one article."""

    order_id: str
    sku: str
    qty: int
    price: float
    ts: float
    note: str = ""


app = faust.App(
    os.environ["BENCH_APP"],
    broker=f"kafka://{os.environ['BENCH_BROKER']}",
    store="rocksdb://",
    datadir=os.environ["BENCH_DATA"],
    topic_partitions=1,
    topic_replication_factor=1,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    web_enabled=False,
)
orders = app.topic(os.environ["BENCH_TOPIC"], value_type=Order, partitions=1)
quantities = app.Table("quantities", default=int, partitions=1)


@app.on_partitions_assigned.connect
async def tell_recovering(*_: object, **__: object) -> None:
    """Say when the recovery begins, on a line that Faust's spinner has not begun."""
    print("\n" + json.dumps({"recovering": time.monotonic()}), file=sys.__stdout__, flush=True)


@quantities.on_recover
async def tell_recovered() -> None:
    """Say when the table is what its changelog says."""
    print(json.dumps({"recovered": time.monotonic()}), file=sys.__stdout__, flush=True)


@app.agent(orders)
async def count_articles(stream: faust.StreamT[Order]) -> None:
    """Add up quantities per article."""
    seen = 0
    async for order in stream:
        if not seen:
            print(
                json.dumps({"first": time.monotonic(), "cpu": time.process_time()}),
                file=sys.__stdout__,
                flush=True,
            )
        quantities[order.sku] += order.qty
        seen += 1
        if seen == EVENTS:
            done = {"last": time.monotonic(), "last_cpu": time.process_time()}
            print(json.dumps({**done, "sum": sum(quantities.values())}), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    app.main()
