"""A shop whose prices are a global table: orders of anybody are billed by the price of any product."""

from dataclasses import dataclass

import msgspec

import headrace


class Priced(headrace.Event, frozen=True):
    """A product has a price from now on; 0: it is not sold any more."""

    product: str
    cents: int


class Ordered(headrace.Event, frozen=True):
    """Somebody has ordered one piece of a product."""

    who: int
    product: str


class Price(msgspec.Struct, frozen=True):
    """What a product costs."""

    cents: int
    changes: int = 1


@dataclass(frozen=True)
class PricedShop:
    """The declarations of the shop."""

    app: headrace.App
    priced: headrace.Topic[str, Priced]
    ordered: headrace.Topic[int, Ordered]
    prices: headrace.GlobalTable[str, Price]
    bills: headrace.Table[int, dict[str, int]]


def declare_priced_shop(*, partitions: int = 3) -> PricedShop:
    """Topics and tables, without agents; prices have another number of partitions than orders."""
    app = headrace.App("priced")
    return PricedShop(
        app,
        app.topic("priced.events", key_type=str, value_type=Priced, partitions=partitions),
        app.topic("ordered.events", key_type=int, value_type=Ordered, partitions=2),
        app.GlobalTable("prices", key_type=str, value_type=Price),
        app.Table("bills", key_type=int, value_type=dict[str, int], default=dict),
    )


def open_priced_shop(*, partitions: int = 3) -> PricedShop:
    """A shop in which each order is billed by the price that is known when it is handled."""
    shop = declare_priced_shop(partitions=partitions)

    @shop.app.agent(shop.priced, group="prices")
    async def price(events: headrace.Stream[Priced]) -> None:
        async for event in events:
            known = shop.prices.get(event.product)
            if event.cents:
                shop.prices[event.product] = Price(event.cents, known.changes + 1 if known else 1)
            else:
                shop.prices.discard(event.product)

    @shop.app.agent(shop.ordered)
    async def bill(events: headrace.Stream[Ordered]) -> None:
        async for event in events:
            price = shop.prices.get(event.product)
            bills = shop.bills[event.who]
            shop.bills[event.who] = {**bills, event.product: price.cents if price else -1}

    return shop


def by_product(events: list[Priced]) -> list[tuple[str, Priced]]:
    """The events with their keys."""
    return [(event.product, event) for event in events]


def price_list(count: int, *, cents: int = 100) -> list[Priced]:
    """So many products, each at a price of its own."""
    return [Priced(f"p{number}", cents + number) for number in range(count)]
