"""Clients that do not send what they owe, or do not read what they asked for: none is waited for long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headrace.http.server import HttpServer
from headrace.http.source import UserRoute
from headrace.settings import Settings
from tests.http.service import Service, served
from tests.process.workers import breath

TEXTS = served("texts", str)
PATIENCE_S = 30.0
LARGE = "x" * 8_000_000
HASTY = Settings(
    http="127.0.0.1:0", http_head_timeout_s=0.2, http_body_timeout_s=0.2, http_send_timeout_s=0.1
)
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=["httptools", "h11"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both parsers that may serve."""
    if request.param == "h11":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return str(request.param)


async def length(request: Request) -> Response:
    return JSONResponse(len(await request.body()))


async def trailed(request: Request) -> Response:
    return JSONResponse(sorted(name for name in request.headers if name.startswith("x-")))


def is_refused(said: bytes) -> bool:
    """Whether a connection ended without an answer, or with a refusal.

    What was said last may be lost: a connection that is closed in front of unread bytes is reset.
    """
    return not said or said.startswith(b"HTTP/1.1 4")


@asynccontextmanager
async def running(settings: Settings = HASTY) -> AsyncIterator[HttpServer]:
    service = Service(
        TEXTS,
        routes=(
            UserRoute(path="/length", endpoint=length, methods=("POST",)),
            UserRoute(path="/trailed", endpoint=trailed, methods=("POST",)),
        ),
        settings=settings,
    )
    service.put(TEXTS, "large", LARGE)
    server = HttpServer(service)
    await server.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield server
    finally:
        await server.stop(timeout_s=1.0)


class Client:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: bytes) -> int:
        """Send a request and take its whole answer; the status."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        size = next(
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        await self._reader.readexactly(size)
        return int(head.split()[1])

    def send(self, part: bytes) -> None:
        """Send these bytes."""
        self._writer.write(part)

    async def until(self, end: bytes) -> bytes:
        """What comes, up to this."""
        return await self._reader.readuntil(end)

    async def drips(self, piece: bytes) -> bytes:
        """Send this again and again, a little at a time, until the server ends it; what it said meanwhile."""
        ended = asyncio.create_task(self.rest(), name="what the server says")
        while not ended.done():
            self.send(piece)
            await asyncio.wait({ended}, timeout=0.01)
        return await ended

    def end(self) -> None:
        """Close it."""
        self._writer.transport.abort()

    async def rest(self) -> bytes:
        """All that comes until the server ends it."""
        try:
            return await self._reader.read()
        except ConnectionError:
            return b""

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end()


async def connect(server: HttpServer, limit: int = 2**24) -> Client:
    return Client(*await asyncio.open_connection(*server.address, limit=limit))


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "second"])
@pytest.mark.parametrize(
    ("begun", "piece"),
    [
        (b"\r\n", b"\r\n"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"x"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"A: b\r\n"),
        (b"GET /", b"x"),
    ],
    ids=["blank lines", "a header", "headers", "a target"],
)
async def test_who_sends_a_request_and_never_all_of_it_is_cut_off(
    begun: bytes, piece: bytes, is_first: bool
) -> None:
    async with running() as server, await connect(server) as client:
        if not is_first:
            assert await client.ask(LIVEZ) == 200
        client.send(begun)
        assert is_refused(await client.drips(piece))


async def test_who_sends_nothing_at_all_is_cut_off() -> None:
    async with running() as server, await connect(server) as client:
        assert await client.rest() == b""


async def test_a_body_that_drips_is_refused_and_one_that_nobody_wants_is_cut_off() -> None:
    async with running() as server:
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
        async with await connect(server) as client:
            client.send(head % b"/length")
            assert is_refused(await client.drips(b"x"))
        async with await connect(server) as client:
            assert await client.ask(head % b"/livez") == 405
            assert await client.drips(b"x") == b""


async def test_who_does_not_read_the_answer_is_cut_off_and_who_reads_it_gets_it_all() -> None:
    row = b"GET /texts/large HTTP/1.1\r\nHost: x\r\n"
    async with running() as server:
        for last in (b"\r\n", b"Connection: close\r\n\r\n"):
            # A reader takes nothing more from its socket at twice its limit.
            async with await connect(server, limit=1024) as client:
                client.send(row + last)
                await breath(10 * HASTY.http_send_timeout_s)
                assert len(await client.rest()) < len(LARGE)
        async with await connect(server) as client:
            assert await client.ask(row + b"\r\n") == 200


async def test_the_connection_that_is_idle_for_longest_gives_way_to_a_new_one() -> None:
    few = Settings(http="127.0.0.1:0", http_concurrency_max=5)
    async with running(few) as server:
        async with await connect(server) as busy:
            busy.send(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx")
            idle = [await connect(server) for _ in range(20)]
            async with await connect(server) as good:
                assert await good.ask(LIVEZ) == 200
            busy.send(b"x")
            assert (await busy.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert await idle[0].rest() == b""
            for client in idle:
                client.end()


async def test_a_trailer_is_no_header() -> None:
    async with running() as server, await connect(server) as client:
        request = b"POST /trailed HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(request + b"1\r\nx\r\n0\r\nX-B: 1\r\nAuthorization: Bearer x\r\n\r\n")
        assert (await client.until(b"]")).endswith(b'["x-a"]')
        assert await client.ask(LIVEZ) == 200
