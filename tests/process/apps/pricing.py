"""Prices that every worker knows, and bills of orders that are made because of a price."""

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse

import headrace


class Priced(headrace.Event, frozen=True):
    """A product has a price from now on."""

    product: str
    cents: int


class Ordered(headrace.Event, frozen=True):
    """A product was ordered because of its price."""

    product: str
    cents: int


class Bill(msgspec.Struct, frozen=True):
    """Orders of a product, and those that were billed below the price that they were made for."""

    orders: int = 0
    too_low: int = 0


app = headrace.App("pricing")
priced: headrace.Topic[str, Priced] = app.topic(
    "pricing.priced", key_type=str, value_type=Priced, partitions=3
)
ordered: headrace.Topic[str, Ordered] = app.topic(
    "pricing.ordered", key_type=str, value_type=Ordered, partitions=4
)
prices: headrace.GlobalTable[str, int] = app.GlobalTable("prices", key_type=str, value_type=int)
bills: headrace.Table[str, Bill] = app.Table("bills", key_type=str, default=Bill)
app.serve(prices, "/prices")
app.serve(bills, "/bills")


@app.agent(priced, group="prices")
async def price(events: headrace.Stream[Priced]) -> None:
    """Know the price."""
    async for event in events:
        prices[event.product] = event.cents


@app.agent(priced, group="launches")
async def launch(events: headrace.Stream[Priced]) -> None:
    """Order at once, from a task that knows nothing of the other one, under a key of another partition."""
    async for event in events:
        await ordered.send(key=event.product[::-1], value=Ordered(event.product, event.cents))


@app.agent(ordered)
async def bill(events: headrace.Stream[Ordered]) -> None:
    """Prices only rise: what is known must not be below what the order was made for."""
    async for event in events:
        before, known = bills[event.product[::-1]], prices.get(event.product, 0)
        bills[event.product[::-1]] = Bill(before.orders + 1, before.too_low + (known < event.cents))


@app.route("/events", methods=["POST"])
async def tell(request: Request) -> JSONResponse:
    """Tell a price: `{"product": ..., "cents": ...}`."""
    event = msgspec.json.decode(await request.body(), type=Priced)
    await priced.send(key=event.product, value=event)
    return JSONResponse({})
