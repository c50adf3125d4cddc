"""The job on headrace: how many of each article were ordered; a normal app, run as a worker.

Every run is an app of its own, so that it starts without state: BENCH_APP names it, BENCH_TOPIC its
input. BENCH_JOB says what more is done for each order: `outputs` sends an event, `agents` lets a
second agent keep a row, too.
"""

import asyncio
import os
import time

from starlette.requests import Request
from starlette.responses import JSONResponse

import headrace
from headrace.histogram import Histogram

_NAME = os.environ.get("BENCH_APP", "bench-orders")
_JOB = os.environ.get("BENCH_JOB", "table")
_PARTITIONS = int(os.environ.get("BENCH_PARTITIONS", "1"))
_TICK_S = 0.005


class OrderPlaced(headrace.Event, frozen=True):
    """An order of one article."""

    order_id: str
    sku: str
    qty: int
    price: float
    ts: float
    note: str = ""


class Reserved(headrace.Event, frozen=True):
    """So many of an article were set aside."""

    order_id: str
    qty: int


app = headrace.App(_NAME)
orders: headrace.Topic[str, OrderPlaced] = app.topic(
    os.environ.get("BENCH_TOPIC", "bench.orders"),
    key_type=str,
    value_type=OrderPlaced,
    partitions=_PARTITIONS,
)
quantities = app.Table("quantities", key_type=str, value_type=int, default=int)
app.serve(quantities, "/quantities")

first: dict[str, float] = {}
late = Histogram()


def begin() -> None:
    """Note when the first event is in hand."""
    first.setdefault("first", time.monotonic())
    first.setdefault("cpu", time.process_time())


if _JOB == "outputs":
    reservations: headrace.Topic[str, Reserved] = app.topic(
        f"{_NAME}.reservations", key_type=str, value_type=Reserved, partitions=_PARTITIONS
    )

    @app.agent(orders)
    async def reserve_articles(events: headrace.Stream[OrderPlaced]) -> None:
        """Add up quantities per article, and tell of each order."""
        async for order in events:
            begin()
            quantities[order.sku] += order.qty
            await reservations.send(key=order.sku, value=Reserved(order.order_id, order.qty))
            break
        async for order in events:
            quantities[order.sku] += order.qty
            await reservations.send(key=order.sku, value=Reserved(order.order_id, order.qty))

else:

    @app.agent(orders)
    async def count_articles(events: headrace.Stream[OrderPlaced]) -> None:
        """Add up quantities per article."""
        async for order in events:
            # Outside of the loop below, so that noting the start costs nothing per event.
            begin()
            quantities[order.sku] += order.qty
            break
        async for order in events:
            quantities[order.sku] += order.qty


if _JOB == "agents":
    largest = app.Table("largest", key_type=str, value_type=int, default=int)

    @app.agent(orders)
    async def keep_largest(events: headrace.Stream[OrderPlaced]) -> None:
        """Keep the largest order of each article."""
        async for order in events:
            if order.qty > largest[order.sku]:
                largest[order.sku] = order.qty


@app.task
async def watch_loop() -> None:
    """Note how late the loop is with a timer, from the first event on."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _TICK_S
        await asyncio.sleep(_TICK_S)
        if first:
            late.add(loop.time() - due)


@app.route("/first")
async def first_event(request: Request) -> JSONResponse:
    """When the first event was in hand, on the monotonic clock, and the CPU seconds until then."""
    return JSONResponse(first)


@app.route("/events")
async def committed_events(request: Request) -> JSONResponse:
    """How many orders are in committed units, by agent."""
    agents = app.current.figures_of_flow.agents.values() if app.current is not None else ()
    return JSONResponse([figures.events for figures in agents])


@app.route("/late")
async def loop_lateness(request: Request) -> JSONResponse:
    """How often the loop was late, by how much at most, in seconds."""
    return JSONResponse(late.cumulative())
