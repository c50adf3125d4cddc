"""The service that the tests of the harness are told about: a till with three agents, a route and timers."""

from dataclasses import dataclass, field

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import headrace


class Bought(headrace.Event, frozen=True):
    """Somebody has bought something."""

    who: int
    cents: int


class Returned(headrace.Event, frozen=True):
    """Somebody has brought something back."""

    who: int
    cents: int


class Printed(headrace.Event, frozen=True):
    """A receipt was printed, for a large purchase."""

    who: int
    cents: int


class Balance(msgspec.Struct, frozen=True):
    """What somebody has spent, and how often."""

    cents: int = 0
    visits: int = 0


@dataclass
class Till:
    """The declarations of the till, and what its timers have seen."""

    app: headrace.App
    buys: headrace.Topic[int, Bought]
    returns: headrace.Topic[int, Returned]
    receipts: headrace.Topic[int, Printed]
    balances: headrace.Table[int, Balance]
    printed: headrace.Table[int, int]
    ticks: list[str] = field(default_factory=list)


def open_till(*, partitions: int = 2) -> Till:
    """A till: purchases and returns change balances, large purchases are printed as receipts."""
    app = headrace.App("till")
    till = Till(
        app,
        app.topic("buys", key_type=int, value_type=Bought, partitions=partitions),
        app.topic("returns", key_type=int, value_type=Returned, partitions=partitions),
        app.topic("receipts", key_type=int, value_type=Printed, partitions=partitions),
        app.Table("balances", key_type=int, value_type=Balance, default=Balance),
        app.Table("printed", key_type=int, default=int),
    )

    @app.agent(till.buys)
    async def earn(events: headrace.Stream[Bought]) -> None:
        async for event in events:
            balance = till.balances[event.who]
            till.balances[event.who] = Balance(balance.cents + event.cents, balance.visits + 1)
            if event.cents >= 1000:
                await till.receipts.send(value=Printed(event.who, event.cents))

    @app.agent(till.returns)
    async def give_back(events: headrace.Stream[Returned]) -> None:
        async for event in events:
            balance = till.balances[event.who]
            till.balances[event.who] = Balance(balance.cents - event.cents, balance.visits)

    @app.agent(till.receipts)
    async def count_receipts(events: headrace.Stream[Printed]) -> None:
        async for event in events:
            till.printed[event.who] += 1

    @app.route("/purchases", methods=["POST"])
    async def purchase(request: Request) -> Response:
        event = msgspec.json.decode(await request.body(), type=Bought)
        await till.buys.send(key=event.who, value=event)
        return JSONResponse({"cents": event.cents}, status_code=202)

    app.serve(till.balances, "/balances")
    return till


def balance_of(rows: dict[int, Balance], event: Bought | Returned | Printed) -> None:
    """What an event does to the balances, told without headrace."""
    before = rows.get(event.who, Balance())
    match event:
        case Bought():
            rows[event.who] = Balance(before.cents + event.cents, before.visits + 1)
        case Returned():
            rows[event.who] = Balance(before.cents - event.cents, before.visits)
