"""A till whose purchases are posted, and the ways in which a test sees and disturbs them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

import headrace
from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.events.position import TopicPartition
from headrace.flow.requests.answer import PARTITIONS
from headrace.http.application import build_application
from headrace.http.idempotency import ANSWER_BYTES_MAX
from headrace.log.port import Log
from headrace.runtime import Runtime
from headrace.tables.store import StoreEngine
from tests.service import PATIENCE_S, Service, committed, running

ONE, TWO = {"who": 1, "cents": 100}, {"who": 2, "cents": 200}


def key(name: str = "k") -> dict[str, str]:
    """The header that names a request."""
    return {"Idempotency-Key": f'"{name}"'}


class Bought(headrace.Event, frozen=True):
    """Something was bought."""

    who: int
    cents: int


class Till:
    """An app with one endpoint, which can be held up and made to fail."""

    def __init__(self) -> None:
        self.app = headrace.App("till")
        self.buys: headrace.Topic[int, Bought] = self.app.topic(
            "buys", key_type=int, value_type=Bought, partitions=2
        )
        self.app.route("/buys", methods=["POST", "PUT", "GET"])(self._buy)
        self.handled = 0
        """How often the endpoint ran."""
        self.arrived = asyncio.Event()
        """Set when the endpoint runs."""
        self.may_answer = asyncio.Event()
        """The endpoint waits for it."""
        self.may_answer.set()
        self.failures = 0
        """So many requests fail still."""

    async def _buy(self, request: Request) -> Response:
        self.handled += 1
        bought = await request.json() if request.method != "GET" else {"who": 0, "cents": 0}
        await self.buys.send(key=bought["who"], value=Bought(bought["who"], bought["cents"]))
        self.arrived.set()
        await self.may_answer.wait()
        self.arrived.clear()
        if self.failures > 0:
            self.failures -= 1
            if request.query_params.get("how") == "answers":
                return JSONResponse({"sorry": True}, status_code=503)
            raise ZeroDivisionError("the till is broken")
        match request.query_params.get("as"):
            case "stream":
                return StreamingResponse(iter([b"a", b"b"]))
            case "book":
                return Response(b"x" * ANSWER_BYTES_MAX)
            case "refusal":
                return JSONResponse({"no": True}, status_code=402)
        headers = {"Location": f"/buys/{self.handled}"}
        return JSONResponse({"number": self.handled}, status_code=201, headers=headers)

    async def bought(self, log: Log) -> list[int]:
        """The cents of every purchase in the log."""
        return sorted(delivery.value.cents for delivery in await committed(log, self.buys))


@asynccontextmanager
async def worker(
    till: Till, log: Log, engine: StoreEngine | None = None, *, clock: Clock = SYSTEM_CLOCK, **settings: Any
) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    """One worker of the till's app, and a client of it without a network in between."""
    async with running(till.app, log=log, engine=engine, clock=clock, **settings) as service:
        async with asking(service.runtime) as http:
            yield service, http


def asking(runtime: Runtime) -> httpx.AsyncClient:
    """A client of this worker."""
    return httpx.AsyncClient(transport=application(runtime), base_url="http://till")


def application(runtime: Runtime) -> httpx.ASGITransport:
    """The way to this worker without a network in between."""
    return httpx.ASGITransport(build_application(runtime))


def post_again(http: httpx.AsyncClient) -> "asyncio.Task[httpx.Response]":
    """The same purchase under the same key, on its way."""
    return asyncio.create_task(http.post("/buys", json=ONE, headers=key()), name="purchase")


def facts(answer: httpx.Response) -> tuple[int, str | None, str | None, str | None, bytes]:
    """All of an answer that a repeat must tell again."""
    named = (answer.headers.get(name) for name in ("location", "headrace-position", "content-type"))
    location, position, kind = named
    return answer.status_code, location, position, kind, answer.content


async def until_settled(runtime: Runtime, desks: int) -> None:
    """Return once the worker serves so many partitions of recorded requests."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            views = runtime.desks()
            if len(views) == desks and all(view.is_settled for view in views):
                return
            changes = [asyncio.create_task(view.changed.wait(), name="change of a desk") for view in views]
            await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
            for change in changes:
                change.cancel()


async def tombstones(log: Log, count: int) -> None:
    """Return once so many recorded requests are deleted in the log."""
    reader = await log.reader({TopicPartition("till.requests", p): 0 for p in range(PARTITIONS)})
    async with asyncio.timeout(PATIENCE_S):
        while count > 0:
            for chunk in await reader.fetch(records_max=100, bytes_max=1_000_000):
                count -= sum(value is None for value in chunk.values)
    await reader.close()
