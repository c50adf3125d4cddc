"""Is read and sent bodies to by good clients and bad ones."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import headrace
from tests.process.apps.orders import Ordered

app = headrace.App("hall")
orders: headrace.Topic[str, Ordered] = app.topic(
    "hall.orders", key_type=str, value_type=Ordered, partitions=1
)
seats: headrace.Table[str, int] = app.Table("seats", key_type=str, value_type=int, default=int)
app.serve(seats, "/seats")
reached: list[int] = []


@app.agent(orders)
async def seat(events: headrace.Stream[Ordered]) -> None:
    """Count what is ordered under a name."""
    async for delivery in events.events():
        seats[delivery.key] += 1


@app.route("/orders", methods=["POST"])
async def order(request: Request) -> Response:
    """Order under the name in the body."""
    await orders.send(key=(await request.body()).decode(), value=Ordered(customer=0, number=0))
    return JSONResponse("ordered", status_code=201)


@app.route("/length", methods=["POST"])
async def length(request: Request) -> Response:
    """The length of the body."""
    return JSONResponse(len(await request.body()))


@app.route("/smuggled/{number:int}")
async def reach(request: Request) -> Response:
    """What only a hidden request asks for."""
    reached.append(request.path_params["number"])
    return JSONResponse("reached")


@app.route("/reached")
async def tell(request: Request) -> Response:
    """Which hidden requests were answered."""
    return JSONResponse(reached)
