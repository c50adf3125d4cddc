"""`python -m bench.stamped`: what stamps cost, on Kafka: ratios of one run, interleaved.

Two inputs. Each order names one event of the other input, a different one each time, which has to be
handled before it; the runs without stamps have the same events, with and without the other headers.
"""

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
from headrace.events.envelope import Envelope, Headers, encode_envelope
from headrace.events.position import TopicPartition
from headrace.events.seen import Seen
from headrace.log.port import Outgoing, catalog

_ARTICLES = 10_000
KINDS = ("bare", "headers", "stamped")


class Order(msgspec.Struct, frozen=True):
    """An order of one article."""

    order_id: str
    sku: str
    qty: int
    price: float


class Stocked(msgspec.Struct, frozen=True):
    """An article was put on a shelf."""

    sku: str
    qty: int


class Shop:
    """A service with two inputs; what an order names must be on its shelf."""

    def __init__(self, run: str) -> None:
        self.app = headrace.App(run)
        self.orders: headrace.Topic[str, Order] = self.app.topic(
            f"{run}.orders", key_type=str, value_type=Order, partitions=1
        )
        self.shelves: headrace.Topic[str, Stocked] = self.app.topic(
            f"{run}.shelves", key_type=str, value_type=Stocked, partitions=1
        )
        quantities: headrace.Table[str, int] = self.app.Table("quantities", key_type=str, default=int)
        stock: headrace.Table[str, int] = self.app.Table("stock", key_type=str, default=int)

        @self.app.agent(self.orders)
        async def add(events: headrace.Stream[Order]) -> None:
            async for order in events:
                quantities[order.sku] += order.qty

        @self.app.agent(self.shelves)
        async def put(events: headrace.Stream[Stocked]) -> None:
            async for stocked in events:
                stock[stocked.sku] += stocked.qty


def _skus(count: int) -> Iterator[str]:
    dice = random.Random(count)
    return (f"sku-{int(dice.random() * _ARTICLES):06d}" for _ in range(count))


def _stocked(count: int) -> Iterator[Outgoing]:
    encode = msgspec.json.Encoder().encode
    for sku in _skus(count):
        yield sku.encode(), encode(Stocked(sku, 1)), (), 0


def _orders(count: int, kind: str, shelf: bytes) -> Iterator[Outgoing]:
    encode = msgspec.json.Encoder().encode
    for number, sku in enumerate(_skus(count)):
        value = encode(Order(f"ord-{number:012d}", sku, 1 + number % 9, 12.5))
        headers: Headers = ()
        if kind != "bare":
            stamp = Seen({shelf: number + 1}).encode() if kind == "stamped" else b""
            headers = encode_envelope(Envelope(number.to_bytes(16, "big"), 0, stamp=stamp))
        yield sku.encode(), value, headers, 0


async def _rate(address: str, run: str, kind: str, count: int, folder: Path) -> float:
    """Events of both inputs per second, of one run."""
    settings = settings_of(address, run, folder)
    shop = Shop(run)
    log = await provision(settings, shop.app)
    infos = await log.describe([shop.shelves.name])
    shelf = catalog(log, infos).print_of(TopicPartition(shop.shelves.name, 0))
    await fill(log, shop.shelves.name, _stocked(count))
    await fill(log, shop.orders.name, _orders(count, kind, shelf))
    await log.close()
    rate, figures = await ingest(shop.app, settings, 2 * count)
    if figures.dead_letters:
        raise RuntimeError(f"{kind}: {figures.dead_letters} dead letters")
    return rate


async def _measure(address: str, count: int, rounds: int) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        for number in range(rounds):
            for kind in KINDS:
                run = f"stamped-{int(time.time() * 1000)}"
                rates[kind].append(await _rate(address, run, kind, count, Path(folder)))
                print(f"round {number + 1} {kind}: {rates[kind][-1]:,.0f} events/s", flush=True)
    return rates


def main() -> int:
    """Measure and print; 1 without a broker."""
    parser = argparse.ArgumentParser(prog="python -m bench.stamped", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000, help="of each input")
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
    stamped = statistics.median(rates["stamped"])
    for kind in ("headers", "bare"):
        print(f"stamped: {stamped / statistics.median(rates[kind]):.2f} of the rate of {kind}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
