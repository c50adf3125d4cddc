"""The job on headrace: how many of each article were ordered; a normal app, run as a worker.

Every run is an app of its own, so that it starts without state: BENCH_APP names it, BENCH_TOPIC its input.
"""

import os
import time

from starlette.requests import Request
from starlette.responses import JSONResponse

import headrace


class OrderPlaced(headrace.Event, frozen=True):
    """An order of one article."""

    order_id: str
    sku: str
    qty: int
    price: float
    ts: float


app = headrace.App(os.environ.get("BENCH_APP", "bench-orders"))
orders: headrace.Topic[str, OrderPlaced] = app.topic(
    os.environ.get("BENCH_TOPIC", "bench.orders"), key_type=str, value_type=OrderPlaced, partitions=1
)
quantities = app.Table("quantities", key_type=str, value_type=int, default=int)
app.serve(quantities, "/quantities")

first: dict[str, float] = {}


@app.agent(orders)
async def count_articles(events: headrace.Stream[OrderPlaced]) -> None:
    """Add up quantities per article."""
    async for order in events:
        # Outside of the loop below, so that noting the start costs nothing per event.
        first.setdefault("first", time.monotonic())
        first.setdefault("cpu", time.process_time())
        quantities[order.sku] += order.qty
        break
    async for order in events:
        quantities[order.sku] += order.qty


@app.route("/first")
async def first_event(request: Request) -> JSONResponse:
    """When the first event was in hand, on the monotonic clock, and the CPU seconds until then."""
    return JSONResponse(first)
