"""`python -m bench.applier`: events applied to PostgreSQL, against bare psycopg writing the same rows.

The bare loop has its rows in memory: it merges ten thousand of them by key, copies them in binary form into
a staging table, upserts from there and commits; the fastest of seven ways that were tried. The applier
reads its events from Kafka, decodes them, hands them to an agent, and commits its position with the rows.
"""

import argparse
import asyncio
import json
import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import msgspec
import psycopg

import headrace
from bench.broker import NoBroker, broker
from bench.ingest import fill, ingest, provision, settings_of
from headrace import bridge
from headrace.events.partitioner import Partitioner
from headrace.lifecycle import spare_the_collector
from headrace.log.port import Outgoing
from headrace.testing.postgres_server import PostgresServer

RATIO_MIN = 0.5
_HOUSEHOLDS = 50_000
_BATCH = 10_000
_PARTITIONS = 4
_TABLE = """CREATE TABLE {} (household_id bigint PRIMARY KEY, spend_cents bigint NOT NULL,
    visits bigint NOT NULL, last_store text NOT NULL)"""

Row = tuple[int, int, int, str]


class Bought(headrace.Event, frozen=True):
    """A household bought something."""

    household_id: int
    spend_cents: int
    store: str


def _rows(count: int) -> Iterator[Row]:
    dice = random.Random(count)
    for _ in range(count):
        yield int(dice.random() * _HOUSEHOLDS), int(dice.random() * 9_000), 1, f"store {dice.random():.1f}"


def _events(count: int, partition: int) -> Iterator[Outgoing]:
    encode = msgspec.json.Encoder().encode
    placed = cache(lambda key: Partitioner.MURMUR2.place(key, _PARTITIONS))
    for household, cents, _, store in _rows(count):
        if placed(b"%d" % household) != partition:
            continue
        yield b"%d" % household, encode(Bought(household, cents, store)), (), 0


async def _bare(url: str, rows: Sequence[Row]) -> float:
    """Rows per second of the bare loop."""
    connection = await psycopg.AsyncConnection.connect(url)
    await connection.execute("DROP TABLE IF EXISTS bare")
    await connection.execute(_TABLE.format("bare").encode())
    await connection.execute(
        b"CREATE TEMP TABLE staging ON COMMIT DELETE ROWS AS SELECT * FROM bare WITH NO DATA"
    )
    await connection.commit()
    began = time.perf_counter()
    for start in range(0, len(rows), _BATCH):
        merged: dict[int, Row] = {}
        for row in rows[start : start + _BATCH]:
            before = merged.get(row[0])
            merged[row[0]] = row if before is None else (row[0], before[1] + row[1], before[2] + 1, row[3])
        async with connection.cursor() as cursor:
            async with cursor.copy("COPY staging FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["int8", "int8", "int8", "text"])
                for row in merged.values():
                    await copy.write_row(row)
            await cursor.execute(
                "INSERT INTO bare SELECT * FROM staging ON CONFLICT (household_id) DO UPDATE SET "
                "spend_cents = bare.spend_cents + excluded.spend_cents, "
                "visits = bare.visits + excluded.visits, last_store = excluded.last_store"
            )
        await connection.commit()
    seconds = time.perf_counter() - began
    await connection.close()
    return len(rows) / seconds


async def _applied(address: str, url: str, run: str, count: int, folder: Path) -> float:
    """Events per second of the applier."""
    app = headrace.App(run)
    bought: headrace.Topic[int, Bought] = app.topic(
        f"{run}.bought", key_type=int, value_type=Bought, partitions=_PARTITIONS
    )
    applier = bridge.Applier(app, bridge.Database(url), group="shop")
    households = bridge.SqlTable("applied", key="household_id", sums=("spend_cents", "visits"))

    @applier.agent(bought)
    async def keep(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            households.add(
                household_id=event.household_id,
                spend_cents=event.spend_cents,
                visits=1,
                last_store=event.store,
            )

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS applied")
        connection.execute(_TABLE.format("applied").encode())
    settings = settings_of(address, run, folder)
    log = await provision(settings, app)
    for partition in range(_PARTITIONS):
        await fill(log, bought.name, _events(count, partition), partition=partition)
    await log.close()
    rate, figures = await ingest(app, settings, count)
    print(f"units of {count / figures.units:,.0f} events", flush=True)
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT sum(visits) FROM applied").fetchone()
    if found != (count,):
        raise RuntimeError(f"{found} events are in the database instead of {count}")
    return rate


async def _measure(address: str, url: str, count: int, rounds: int) -> dict[str, list[float]]:
    spare_the_collector()
    rates: dict[str, list[float]] = {"bare": [], "applier": []}
    rows = list(_rows(count))
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        for number in range(rounds):
            rates["bare"].append(await _bare(url, rows))
            run = f"applied-{int(time.time() * 1000)}"
            rates["applier"].append(await _applied(address, url, run, count, Path(folder)))
            told = ", ".join(f"{kind} {rate[-1]:,.0f}/s" for kind, rate in rates.items())
            print(f"round {number + 1}: {told}", flush=True)
    return rates


def main() -> int:
    """Measure and print; 1 below the least ratio, or without a broker."""
    parser = argparse.ArgumentParser(prog="python -m bench.applier", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
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
    ratio = statistics.median(rates["applier"]) / statistics.median(rates["bare"])
    print(f"applier: {ratio:.2f} of bare psycopg (at least {RATIO_MIN})")
    print(json.dumps({"ratio": ratio, **rates}))
    return 0 if ratio >= RATIO_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
