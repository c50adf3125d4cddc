"""A service with one of everything that HTTP can serve: every kind of key, rows that are written, routes."""

import uuid
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import headrace

KEYS: dict[str, tuple[Any, Any]] = {
    "points": (int, [-1, 0, 1, 2, 3, 10**30]),
    "tags": (str, ["a", "b", "a/b", "ä", "with space", "%2f", "..", "0"]),
    "places": (tuple[int, str], [(0, ""), (1, "a"), (1, "b"), (-7, "/")]),
    "people": (uuid.UUID, [uuid.UUID(int=number) for number in (0, 1, 2**127)]),
    "blobs": (bytes, [b"", b"\xff", b"abc", b"\x00"]),
}
"""Key type of each table, and the keys that have a row."""


class Counted(headrace.Event, frozen=True):
    """Something was counted."""

    n: int


class Line(msgspec.Struct, frozen=True):
    """A part of a row."""

    product: str
    cents: int | None = None


class Row(msgspec.Struct, frozen=True):
    """What is known of a key."""

    n: int = 0
    lines: tuple[Line, ...] = ()
    rates: dict[str, float] = {}
    owner: uuid.UUID | None = None


class Bazaar:
    """The app, its topics and its tables by name."""

    def __init__(self) -> None:
        self.app = headrace.App("bazaar")
        self.topics: dict[str, headrace.Topic[Any, Counted]] = {}
        for name, (key_type, _) in KEYS.items():
            self.topics[name] = self._table(name, key_type)
        self.app.route("/purchases", methods=["POST"])(self._purchase)
        self.app.route("/purchases/{number:int}", methods=["GET", "PUT", "DELETE"])(self._purchased)
        self.app.route("/greetings/{name}")(self._greet)
        self.app.route("/people/{who:uuid}/note", methods=["PATCH"])(self._greet)

    def _table(self, name: str, key_type: Any) -> "headrace.Topic[Any, Counted]":
        topic: headrace.Topic[Any, Counted] = self.app.topic(
            f"bazaar.{name}", key_type=key_type, value_type=Counted, partitions=2
        )
        table: headrace.Table[Any, Row] = self.app.Table(
            name, key_type=key_type, value_type=Row, default=Row, group=name
        )
        self.app.serve(table, f"/{name}")

        async def count(events: "headrace.Stream[Counted]") -> None:
            """Counts."""
            async for delivery in events.events():
                row = table[delivery.key]
                line = Line(name, row.n or None)
                table[delivery.key] = Row(row.n + delivery.value.n, (line,), {"a": 0.5}, uuid.UUID(int=row.n))

        self.app.agent(topic, name=f"count_{name}", group=name)(count)
        return topic

    async def _purchase(self, request: Request) -> Response:
        """Note a purchase.

        The body is a JSON object with a number `n`.
        """
        try:
            bought = msgspec.json.decode(await request.body(), type=Counted)
        except msgspec.MsgspecError:
            return JSONResponse({"no": "that is no purchase"}, status_code=422)
        await self.topics["points"].send(key=bought.n, value=Counted(n=1))
        return JSONResponse({"n": bought.n}, status_code=201, headers={"Location": f"/points/{bought.n}"})

    async def _purchased(self, request: Request) -> Response:
        """Tell of a purchase, or change it."""
        number: int = request.path_params["number"]
        if request.method == "DELETE":
            return Response(status_code=204)
        if request.method == "PUT":
            await self.topics["points"].send(key=number, value=Counted(n=1))
        return JSONResponse({"number": str(number)})

    async def _greet(self, request: Request) -> Response:
        """Greet somebody."""
        return Response(str([*request.path_params.values()]), media_type="text/plain")

    async def fill(self, service: Any) -> None:
        """Give every key of `KEYS` its row, and return once they are read."""
        for name, (_, keys) in KEYS.items():
            await service.send_all(self.topics[name], [(key, Counted(n=1)) for key in keys])
        await service.until_applied()
