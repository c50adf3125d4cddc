"""A plain Faust app that counts events per key; settings come from BENCH_* variables."""

import os

import faust

app = faust.App(
    os.environ["BENCH_APP"],
    broker=f"kafka://{os.environ['BENCH_BROKER']}",
    store="rocksdb://",
    datadir=os.environ["BENCH_DATA"],
    processing_guarantee=os.environ["BENCH_GUARANTEE"],
    topic_partitions=int(os.environ["BENCH_PARTITIONS"]),
    topic_replication_factor=1,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    # Shorter than the default of 60 s, so that a killed worker's successor starts soon.
    broker_session_timeout=6,
    broker_heartbeat_interval=2,
    web_enabled=False,
)
events = app.topic(os.environ["BENCH_TOPIC"], key_type=str, value_type=bytes, value_serializer="raw")
counts = app.Table("counts", default=int)


@app.agent(events)
async def count(stream: faust.StreamT[bytes]) -> None:
    """Count each event once, if Faust does."""
    async for key, _ in stream.items():
        counts[key] += 1


if __name__ == "__main__":
    app.main()
