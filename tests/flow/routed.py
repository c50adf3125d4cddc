"""A service whose routes read, send and wait, and another one that sends to its input."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import headrace
from headrace.events.envelope import decode_envelope
from headrace.events.position import Catalog, Position, TopicPartition
from headrace.events.seen import Seen
from headrace.events.token import Token
from headrace.settings import Settings
from headrace.testing import harness
from headrace.testing.harness import Harness

PLACE, COPIES = TopicPartition("buys", 0), TopicPartition("copies", 0)


class Till:
    """A service whose routes read, send, and wait."""

    def __init__(self) -> None:
        self.app = app = headrace.App("till")
        self.buys: headrace.Topic[int, int] = app.topic("buys", key_type=int, value_type=int, partitions=1)
        self.copies: headrace.Topic[int, int] = app.topic(
            "copies", key_type=int, value_type=int, partitions=1
        )
        self.spent: headrace.Table[int, int] = app.Table("spent", key_type=int, default=int)
        app.serve(self.spent, "/spent")

        @app.agent(self.buys)
        async def add_up(events: headrace.Stream[int]) -> None:
            async for event in events.events():
                self.spent[event.key] += event.value

        @app.route("/buys/{key:int}", methods=["POST"])
        async def buy(request: Request) -> Response:
            await self.buys.send(key=request.path_params["key"], value=1)
            return JSONResponse({}, status_code=202)

        @app.route("/copies/{key:int}", methods=["POST"])
        async def copy(request: Request) -> Response:
            key = request.path_params["key"]
            await self.copies.send(key=key, value=0)
            await self.copies.send(key=key, value=self.spent[key])
            return JSONResponse({})

        @app.route("/sums/{key:int}")
        async def look(request: Request) -> Response:
            return JSONResponse(self.spent[request.path_params["key"]])

        @app.route("/surely/{key:int}")
        async def look_surely(request: Request) -> Response:
            key = request.path_params["key"]
            unproven = await app.reached(self.spent, key)
            return JSONResponse({"sum": self.spent[key], "unproven": list(unproven)})

        @app.route("/nothing", methods=["GET", "POST"])
        async def nothing(_: Request) -> Response:
            return JSONResponse({})


def front() -> headrace.App:
    """Another service, which sends to the till's input."""
    app = headrace.App("front")
    buys: headrace.Topic[int, int] = app.topic("buys", key_type=int, value_type=int, partitions=1)

    @app.route("/buys/{key:int}", methods=["POST"])
    async def buy(request: Request) -> Response:
        await buys.send(key=request.path_params["key"], value=1)
        return JSONResponse({}, status_code=202)

    return app


async def turns() -> None:
    """Let a request go on as far as it gets."""
    for _ in range(20):
        await asyncio.sleep(0)


class Apart:
    """The till standing still, and what was written meanwhile by way of the other service."""

    def __init__(self, h: Harness, front: headrace.App) -> None:
        self.h = h
        self._front = front
        (self.worker,) = h.workers
        self.worker.stand_still()

    async def write(self) -> str:
        """The position of a purchase that the till has not handled."""
        return (await self.h[self._front].http.post("/buys/1")).headers["Headrace-Position"]

    async def ask(self, path: str, **headers: str) -> "asyncio.Task[httpx.Response]":
        """A request that is under way to the till, as far as it gets."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        asking = asyncio.create_task(self.h.http.get(path, headers=named), name="request")
        await self.h.quiet()
        return asking


@asynccontextmanager
async def apart(settings: Settings | None = None) -> AsyncIterator[Apart]:
    till, other = Till(), front()
    async with harness(till.app, other, settings=settings) as h:
        yield Apart(h, other)


def catalog(h: Harness) -> Catalog:
    return h.workers[0].runtime.catalog


def token(h: Harness, offsets: dict[TopicPartition, int]) -> str:
    return Token.of(Position(offsets), catalog(h)).text()


def stamps(h: Harness, place: TopicPartition = COPIES) -> list[Seen]:
    """What the senders of a partition's events had seen."""
    found = []
    for record in h.log.records[place]:
        envelope = decode_envelope(record.headers)
        assert envelope is not None
        found.append(Seen.decode(envelope.stamp))
    return found


def seen(h: Harness, offsets: dict[TopicPartition, int]) -> Seen:
    return catalog(h).seen(Position(offsets))


def at(headers: str) -> dict[str, str]:
    return {"Headrace-Position": headers}
