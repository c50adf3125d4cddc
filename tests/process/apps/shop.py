"""A service that is repaired: what two versions of it share, and where they differ."""

from typing import Any

import msgspec

import headrace

PARTITIONS = 4


class Sold(headrace.Event, frozen=True):
    """Something was sold; earlier tills wrote `dollars`, as text."""

    shop: int
    cents: int


class Thanked(headrace.Event, frozen=True):
    """A sale was counted."""

    shop: int
    cents: int


class Takings(msgspec.Struct, frozen=True):
    """What a shop took."""

    sales: int = 0
    cents: int = 0


def renewed(sold: Any) -> Any:
    """A sale of earlier tills in today's shape."""
    dollars, cents = sold.pop("dollars").split(".")
    return sold | {"cents": int(dollars) * 100 + int(cents)}


def declare(*, is_fixed: bool) -> headrace.App:
    """The service before and after: it learns the earlier shape, and a discount divides nothing by zero."""
    app = headrace.App("shop")
    sales: headrace.Topic[int, Sold] = app.topic(
        "shop.sales",
        key_type=int,
        value_type=Sold,
        partitions=PARTITIONS,
        upcast=renewed if is_fixed else None,
    )
    thanks: headrace.Topic[int, Thanked] = app.topic(
        "shop.thanks", key_type=int, value_type=Thanked, partitions=PARTITIONS
    )
    takings: headrace.Table[int, Takings] = app.Table(
        "takings", key_type=int, value_type=Takings, default=Takings
    )
    app.serve(takings, "/takings")

    @app.agent(sales, name="take")
    async def take(events: headrace.Stream[Sold]) -> None:
        """Add a sale up, and thank for it."""
        async for sold in events:
            before = takings[sold.shop]
            takings[sold.shop] = Takings(before.sales + 1, before.cents + sold.cents)
            await thanks.send(value=Thanked(sold.shop, sold.cents))
            if not is_fixed:
                # Nobody thought of sales that end on 99; the row above is written by then.
                divmod(100, 99 - sold.cents % 100)

    return app
