"""Takes orders over HTTP, and keeps nothing of them."""

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse

import headrace


class Ordered(headrace.Event, frozen=True):
    """A customer has placed an order; each customer's orders are numbered from 1."""

    customer: int
    number: int


app = headrace.App("orders")
orders: headrace.Topic[int, Ordered] = app.topic(
    "orders.events", key_type=int, value_type=Ordered, partitions=4
)


@app.route("/orders", methods=["POST"])
async def place(request: Request) -> JSONResponse:
    """Place an order: `{"customer": ..., "number": ...}`."""
    event = msgspec.json.decode(await request.body(), type=Ordered)
    await orders.send(key=event.customer, value=event)
    return JSONResponse({"customer": event.customer, "number": event.number}, status_code=201)
