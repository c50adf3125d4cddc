"""The shop that most stories are told about: purchases folded into balances."""

from dataclasses import dataclass
from typing import Any

import msgspec

import headrace
from headrace.flow.policy import Policy


class Bought(headrace.Event, frozen=True):
    """Somebody has bought something."""

    who: int
    cents: int


class Balance(msgspec.Struct, frozen=True):
    """What somebody has spent."""

    cents: int = 0
    visits: int = 0

    def plus(self, event: Bought) -> "Balance":
        """The balance after a purchase."""
        return Balance(self.cents + event.cents, self.visits + 1)


@dataclass(frozen=True)
class Shop:
    """The declarations of the shop."""

    app: headrace.App
    buys: headrace.Topic[int, Bought]
    receipts: headrace.Topic[int, Bought]
    balances: headrace.Table[int, Balance]


def declare_shop(*, partitions: int = 2, buys: dict[str, Any] | None = None) -> Shop:
    """Topics and table of a shop, without an agent."""
    app = headrace.App("shop")
    return Shop(
        app,
        app.topic("buys", key_type=int, value_type=Bought, partitions=partitions, **(buys or {})),
        app.topic("receipts", key_type=int, value_type=Bought, partitions=2),
        app.Table("balances", key_type=int, value_type=Balance, default=Balance),
    )


def open_shop(*, on_error: Policy | None = None, **options: Any) -> Shop:
    """A shop whose agent adds up purchases, and sends a receipt for each of 10 cents' multiples."""
    shop = declare_shop(**options)

    @shop.app.agent(shop.buys, on_error=on_error)
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            shop.balances[event.who] = shop.balances[event.who].plus(event)
            if event.cents % 10 == 0:
                await shop.receipts.send(value=event)

    return shop


def purchases(count: int, *, people: int = 7) -> list[Bought]:
    """So many purchases, of different people and amounts."""
    return [Bought(index % people, index) for index in range(count)]


def fold(events: list[Bought]) -> dict[int, Balance]:
    """What the balances must be after these events."""
    balances: dict[int, Balance] = {}
    for event in events:
        balances[event.who] = balances.get(event.who, Balance()).plus(event)
    return balances


def by_key(events: list[Bought]) -> list[tuple[int, Bought]]:
    """The events with their keys."""
    return [(event.who, event) for event in events]
