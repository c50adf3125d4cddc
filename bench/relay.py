"""`python -m bench.relay`: the relay of an outbox, against a bare loop that reads and produces.

The bare loop reads rows by id in batches of five thousand and commits each batch in one transaction of
the same log, with nothing that says where it is: it would publish twice after a crash, skip what commits
late, and leave the table as it was. The relay deletes what it has published, too.
"""

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psycopg

import headrace
from bench.broker import NoBroker, broker
from bench.ingest import provision, settings_of
from headrace import bridge
from headrace.bridge.database import connect as connect_database
from headrace.bridge.outboxtable import decode_headers, ensure_outbox
from headrace.events.partitioner import Partitioner
from headrace.lifecycle import spare_the_collector
from headrace.log.port import Append, Outgoing
from headrace.runtime import Runtime
from headrace.testing.postgres_server import PostgresServer

RATIO_MIN = 0.5
_BATCH = 5_000
_PARTITIONS = 4


class Bought(headrace.Event, frozen=True):
    """A household bought something."""

    household_id: int
    spend_cents: int


class Till:
    """An app whose only work is to publish what is left in the outbox."""

    def __init__(self, url: str, run: str) -> None:
        self.app = headrace.App(run)
        self.bought: headrace.Topic[int, Bought] = self.app.topic(
            f"{run}.bought", key_type=int, value_type=Bought, partitions=_PARTITIONS
        )
        self.outbox = bridge.Outbox(self.bought)
        bridge.Relay(self.app, [self.outbox], bridge.Database(url))

    def leave(self, url: str, count: int) -> None:
        """Leave so many events, in transactions of ten thousand."""
        with psycopg.connect(url) as connection:
            connection.execute("TRUNCATE headrace_outbox")
            for start in range(0, count, 10_000):
                numbers = range(start, min(start + 10_000, count))
                self.outbox.send_many(connection, [(n % 5_000, Bought(n % 5_000, n)) for n in numbers])
                connection.commit()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE headrace_outbox")


async def _bare(till: Till, settings: headrace.Settings, url: str, count: int) -> float:
    """Events per second of the bare loop."""
    log = await provision(settings, till.app)
    writer = await log.writer(f"{till.bought.name}-bare")
    connection = await psycopg.AsyncConnection.connect(url)
    began, last, done = time.perf_counter(), 0, 0
    while done < count:
        cursor = await connection.execute(
            "SELECT id, key, value, headers, created_ms FROM headrace_outbox "
            "WHERE id > %s ORDER BY id LIMIT %s",
            (last, _BATCH),
        )
        found = await cursor.fetchall()
        records: dict[int, list[Outgoing]] = {}
        for _, key, value, headers, created_ms in found:
            place = Partitioner.MURMUR2.place(key, _PARTITIONS)
            records.setdefault(place, []).append((key, value, decode_headers(headers), created_ms))
        await writer.commit([Append(till.bought.name, place, part) for place, part in records.items()])
        last, done = found[-1][0], done + len(found)
    seconds = time.perf_counter() - began
    await connection.close()
    await writer.close()
    await log.close()
    return count / seconds


async def _relayed(till: Till, settings: headrace.Settings, count: int) -> float:
    """Events per second of the relay, until the last one is published."""
    log = await provision(settings, till.app)
    runtime = till.app.current = Runtime(till.app.declarations, settings)
    began = time.perf_counter()
    running = asyncio.create_task(runtime.run(), name="runtime")
    figures, first = runtime.figures_of_flow, 0
    while figures.sent[till.bought.name] < count:
        if running.done():
            running.result()
            raise RuntimeError("the run ended early")
        if not first and (first := figures.sent[till.bought.name]):
            # What comes before the first batch is the start of the worker.
            began = time.perf_counter()
        await asyncio.sleep(0.001)
    seconds = time.perf_counter() - began
    runtime.stop()
    await running
    await log.close()
    return (count - first) / seconds


async def _measure(address: str, url: str, count: int, rounds: int) -> dict[str, list[float]]:
    engine = connect_database(url)
    session = await engine.connect()
    await ensure_outbox(engine, session)
    await session.close()
    spare_the_collector()
    rates: dict[str, list[float]] = {"bare": [], "relay": []}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        for number in range(rounds):
            for kind in rates:
                run = f"{kind}-{int(time.time() * 1000)}"
                settings, till = settings_of(address, run, Path(folder)), Till(url, run)
                till.leave(url, count)
                if kind == "bare":
                    rates[kind].append(await _bare(till, settings, url, count))
                else:
                    rates[kind].append(await _relayed(till, settings, count))
                print(f"round {number + 1} {kind}: {rates[kind][-1]:,.0f} events/s", flush=True)
    return rates


def main() -> int:
    """Measure and print; 1 below the least ratio, or without a broker."""
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--broker", default="", help="host:port of a running broker; default: one of our own")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    try:
        with broker(options.broker) as address, PostgresServer(is_durable=True) as server:
            rates = asyncio.run(_measure(address, server.url, options.events, options.rounds))
    except NoBroker as error:
        print(error, file=sys.stderr)
        return 1
    ratio = statistics.median(rates["relay"]) / statistics.median(rates["bare"])
    print(f"relay: {ratio:.2f} of a bare loop (at least {RATIO_MIN})")
    print(json.dumps({"ratio": ratio, **rates}))
    return 0 if ratio >= RATIO_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
