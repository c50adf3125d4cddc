"""A request that can be read in two ways is read in none, and what is hidden in it is never answered."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headrace.http.server import HttpServer
from headrace.http.source import UserRoute
from headrace.settings import Settings
from tests.http.service import Service
from tests.http.smuggled import ANSWERED_BY_H11, Verdict, corpus, hidden

PATIENCE_S = 60.0
LAST = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SHORT = Settings(http="127.0.0.1:0", http_head_timeout_s=0.2, http_body_timeout_s=0.2)


class Hidden:
    """The routes that are attacked."""

    def __init__(self) -> None:
        self.reached: list[int] = []
        self.routes = (
            UserRoute(path="/length", endpoint=self._length, methods=("POST",)),
            UserRoute(path="/smuggled/{number:int}", endpoint=self._reach, methods=("GET", "POST")),
        )

    async def _length(self, request: Request) -> Response:
        return JSONResponse(len(await request.body()))

    async def _reach(self, request: Request) -> Response:
        self.reached.append(request.path_params["number"])
        return JSONResponse("reached")


@asynccontextmanager
async def attacked() -> AsyncIterator[tuple[HttpServer, Hidden]]:
    routes = Hidden()
    server = HttpServer(Service(routes=routes.routes, settings=SHORT))
    await server.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield server, routes
    finally:
        await server.stop(timeout_s=1.0)


async def answers(address: tuple[str, int], wire: bytes) -> list[int]:
    """The statuses of all that comes back for these bytes, in order."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(wire)
        said = await reader.read()
    except ConnectionError:
        return []
    finally:
        writer.transport.abort()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said) if status != b"100"]


@pytest.mark.parametrize("parser", ["httptools", "h11"])
async def test_nothing_that_is_hidden_in_a_request_is_answered(
    parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if parser == "h11":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    taken = ANSWERED_BY_H11 if parser == "h11" else frozenset()
    attempts = [attempt for attempt in corpus() if attempt.name not in taken]
    assert len(attempts) >= 190, "half a corpus finds nothing"
    failed = []
    async with attacked() as (server, routes):
        for attempt in attempts:
            statuses = await answers(server.address, attempt.wire + LAST)
            is_refused = len(statuses) <= 1 and all(400 <= status < 500 for status in statuses)
            is_one = len(statuses) <= 2 and all(status < 500 for status in statuses)
            is_kept = is_refused if attempt.verdict is Verdict.REFUSED else is_refused or is_one
            if routes.reached or not is_kept:
                failed.append((attempt.name, statuses, "reached" if routes.reached else "answered"))
            routes.reached.clear()
        assert not failed, failed
        assert await answers(server.address, hidden(1) + LAST) == [200, 200], "what is not hidden is reached"
        assert routes.reached == [1]
