"""`python -m bench.bad_events`: what 1 % bad events cost, on Kafka: ratios of one run, interleaved."""

import argparse
import asyncio
import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

import headrace
from bench.broker import NoBroker, broker
from bench.ingest import fill, ingest, provision, settings_of
from headrace.log.port import Outgoing

_ARTICLES = 10_000
_SEED = 10_000
_BAD_EVERY = 100
KINDS = ("clean", "undecodable", "refused")


class Order(msgspec.Struct, frozen=True):
    """An order of one article; the agent refuses one of no pieces."""

    order_id: str
    sku: str
    qty: int
    price: float


def _service(run: str, topic: str) -> tuple[headrace.App, headrace.Topic[str, Order]]:
    app = headrace.App(run)
    orders: headrace.Topic[str, Order] = app.topic(topic, key_type=str, value_type=Order, partitions=1)
    quantities: headrace.Table[str, int] = app.Table("quantities", key_type=str, default=int)

    @app.agent(orders)
    async def add(events: headrace.Stream[Order]) -> None:
        async for order in events:
            quantities[order.sku] += order.qty
            if not order.qty:
                raise ValueError("no pieces")

    return app, orders


def _orders(count: int, kind: str) -> Iterator[Outgoing]:
    dice, encode = random.Random(_SEED), msgspec.json.Encoder().encode
    for number in range(count):
        sku = f"sku-{int(dice.random() * _ARTICLES):06d}"
        is_bad = kind != "clean" and not number % _BAD_EVERY
        quantity = 0 if is_bad and kind == "refused" else 1 + number % 9
        value = encode(Order(f"ord-{number:012d}", sku, quantity, 12.5))
        yield sku.encode(), value[:-3] if is_bad and kind == "undecodable" else value, (), 0


async def _rate(address: str, run: str, kind: str, count: int, folder: Path) -> float:
    """Events per second of one run."""
    settings = settings_of(address, run, folder)
    app, orders = _service(run, f"{run}.orders")
    log = await provision(settings, app)
    await fill(log, orders.name, _orders(count, kind))
    await log.close()
    rate, figures = await ingest(app, settings, count)
    expected = 0 if kind == "clean" else -(-count // _BAD_EVERY)
    if figures.dead_letters != expected:
        raise RuntimeError(f"{kind}: {figures.dead_letters} dead letters, {expected} expected")
    return rate


async def _measure(address: str, count: int, rounds: int) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        for number in range(rounds):
            for kind in KINDS:
                run = f"bad-{int(time.time() * 1000)}"
                rates[kind].append(await _rate(address, run, kind, count, Path(folder)))
                print(f"round {number + 1} {kind}: {rates[kind][-1]:,.0f} events/s", flush=True)
    return rates


def main() -> int:
    """Measure and print; 1 without a broker."""
    parser = argparse.ArgumentParser(prog="python -m bench.bad_events", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--broker", default="", help="host:port of a running broker; default: one of our own")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    try:
        with broker(options.broker) as address:
            rates = asyncio.run(_measure(address, options.events, options.rounds))
    except NoBroker as error:
        print(error, file=sys.stderr)
        return 1
    clean = statistics.median(rates["clean"])
    for kind in KINDS[1:]:
        print(f"1 % {kind}: {statistics.median(rates[kind]) / clean:.2f} of the clean rate")
    return 0


if __name__ == "__main__":
    sys.exit(main())
