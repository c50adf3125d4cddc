"""The server itself: its address, its stop, and requests that only a socket can make."""

import asyncio
import signal
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headrace.errors import HeadraceError, SettingsError
from headrace.http.application import build_application
from headrace.http.server import HttpServer
from headrace.http.source import UserRoute
from headrace.settings import Settings
from tests.http.service import Service, served

balances = served("balances", int)
TOKEN_DIGEST = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of `secret`


@asynccontextmanager
async def running(service: Service, **options: Any) -> AsyncIterator[HttpServer]:
    server = HttpServer(service, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(timeout_s=1.0)


def url(server: HttpServer, path: str) -> str:
    host, port = server.address
    return f"http://{host}:{port}{path}"


async def exchange(server: HttpServer, sent: bytes) -> bytes:
    """Send these bytes and read until the server closes."""
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        writer.write(sent)
        return await reader.read()
    finally:
        writer.close()


async def test_port_0_takes_a_free_port_and_says_which() -> None:
    service = Service(balances)
    service.put(balances, 1, {"points": 7})
    async with running(service) as server, httpx.AsyncClient() as http:
        answer = await http.get(url(server, "/balances/1"))
    assert answer.json() == {"points": 7}
    assert "server" not in answer.headers


async def test_a_taken_port_is_a_settings_error() -> None:
    async with running(Service()) as server:
        host, port = server.address
        with pytest.raises(SettingsError, match=f"{host}:{port}"):
            await HttpServer(Service(settings=Settings(http=f"{host}:{port}"))).start()


async def test_signal_handlers_stay_as_they_were() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with running(Service()):
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("http", ["0.0.0.0:0", "[::]:0"])
async def test_an_address_that_others_reach_needs_a_token(http: str) -> None:
    with pytest.raises(SettingsError, match="no token protects it"):
        await HttpServer(Service(settings=Settings(http=http))).start()
    async with running(Service(settings=Settings(http="0.0.0.0:0", insecure=True))):
        pass
    async with running(Service(settings=Settings(http="0.0.0.0:0", tokens=(TOKEN_DIGEST,)))) as server:
        _, port = server.address
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 401


@pytest.mark.parametrize(
    "http", ["", "localhost", ":6066", "localhost:", "localhost:x", "localhost:70000", "::1:6066", "h:1:2"]
)
async def test_a_malformed_address_is_a_settings_error(http: str) -> None:
    with pytest.raises(SettingsError, match="http is"):
        await HttpServer(Service(settings=Settings(http=http))).start()


class Till:
    """An endpoint that stays in a request for as long as a test wants."""

    def __init__(self) -> None:
        self.is_entered, self.may_leave = asyncio.Event(), asyncio.Event()
        self.was_cancelled = False
        self.route = UserRoute(path="/purchase", endpoint=self.purchase, methods=("POST",))

    async def purchase(self, request: Request) -> Response:
        self.is_entered.set()
        try:
            await self.may_leave.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return JSONResponse("done")


async def test_a_stop_lets_requests_in_flight_end() -> None:
    till = Till()
    server = HttpServer(Service(routes=[till.route]))
    await server.start()
    idle, writer = await asyncio.open_connection(*server.address)
    async with httpx.AsyncClient() as client, asyncio.TaskGroup() as tasks:
        answer = tasks.create_task(client.post(url(server, "/purchase")), name="purchase")
        await till.is_entered.wait()
        stopping = tasks.create_task(server.stop(timeout_s=10), name="stop")
        assert await idle.read() == b"", "an idle connection is closed first"
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*server.address)
        till.may_leave.set()
        await stopping
    assert answer.result().json() == "done"
    writer.close()


async def test_a_stop_drops_what_takes_too_long(caplog: pytest.LogCaptureFixture) -> None:
    till = Till()
    server = HttpServer(Service(routes=[till.route]))
    await server.start()
    async with httpx.AsyncClient() as client, asyncio.TaskGroup() as tasks:
        answer = tasks.create_task(failing(client, url(server, "/purchase")), name="purchase")
        await till.is_entered.wait()
        await server.stop(timeout_s=0.05)
        assert till.was_cancelled
    assert isinstance(answer.result(), httpx.HTTPError)


async def failing(client: httpx.AsyncClient, where: str) -> httpx.HTTPError | None:
    try:
        await client.post(where)
    except httpx.HTTPError as error:
        return error
    return None


async def test_idle_connections_do_not_hold_up_a_stop() -> None:
    server = HttpServer(Service())
    await server.start()
    async with httpx.AsyncClient() as client:
        assert (await client.get(url(server, "/livez"))).status_code == 200
        _, silent = await asyncio.open_connection(*server.address)
        async with asyncio.timeout(5):
            await server.stop(timeout_s=30)
        silent.close()


async def test_a_second_stop_does_nothing() -> None:
    server = HttpServer(Service())
    await server.stop(timeout_s=1)
    await server.start()
    await server.stop(timeout_s=1)
    await server.stop(timeout_s=1)


async def test_a_server_that_fails_says_so_and_lets_go_of_its_port(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(self: object, counter: int) -> bool:
        raise OSError("out of file descriptors")

    monkeypatch.setattr("headrace.http.server._DATE_EVERY_S", 0.0)
    server = HttpServer(Service())
    await server.start()
    monkeypatch.setattr("uvicorn.Server.on_tick", fail)
    with pytest.raises(HeadraceError, match="out of file descriptors"):
        await server.wait_failed()
    assert "out of file descriptors" in caplog.text
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*server.address)
    await server.stop(timeout_s=1)


async def test_waiting_for_a_failure_ends_with_a_stop() -> None:
    server = HttpServer(Service())
    await server.start()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.wait_failed(), name="watch")
        await server.stop(timeout_s=1)


async def test_two_messages_in_one_are_refused() -> None:
    hostile = [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\n\r\n",
        b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Bad Header: x\r\n\r\n",
    ]
    async with running(Service()) as server:
        for head in hostile:
            answer = await exchange(server, b"POST /livez HTTP/1.1\r\nHost: x\r\n" + head)
            assert answer.startswith(b"HTTP/1.1 400 "), head
            assert answer.count(b"HTTP/1.1") == 1


async def test_a_head_without_end_is_cut_off() -> None:
    small = Settings(http="127.0.0.1:0", http_header_bytes_max=1_000, http_url_bytes_max=1_000)
    async with running(Service(settings=small)) as server:
        assert await taken(server, b"GET / HTTP/1.1\r\nX-Long: ") < 50_000_000
        assert await taken(server, b"GET /") < 50_000_000


async def taken(server: HttpServer, begun: bytes) -> int:
    """How many bytes behind these the server takes before it closes the connection."""
    _, writer = await asyncio.open_connection(*server.address)
    writer.write(begun)
    size = 0
    try:
        while size < 50_000_000:
            writer.write(b"x" * 65_536)
            await writer.drain()
            size += 65_536
    except ConnectionError:
        return size
    finally:
        writer.close()
    return size


async def test_a_head_of_the_right_size_is_judged_to_the_byte() -> None:
    async with running(Service()) as server:
        large = b"X-Large: " + b"x" * 40_000
        answer = await exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\n" + large + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 431 ")
        answer = await exchange(server, b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 414 ")


async def test_a_head_that_does_not_arrive_is_not_waited_for() -> None:
    hasty = Settings(http="127.0.0.1:0", http_head_timeout_s=0.01)
    async with running(Service(settings=hasty)) as server:
        for begun in (b"", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "):
            assert await exchange(server, begun) == b""


async def test_a_body_that_does_not_arrive_is_not_waited_for_and_opens_no_transaction() -> None:
    till = Till()
    service = Service(routes=[till.route], settings=Settings(http_body_timeout_s=0.01))
    application = build_application(service)

    async def never() -> dict[str, object]:
        await asyncio.Event().wait()
        return {}

    statuses: list[int] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        statuses.append(message.get("status", 0))

    scope = {"type": "http", "method": "POST", "path": "/purchase", "raw_path": b"/purchase"}
    await application({**scope, "query_string": b"", "headers": []}, never, send)
    assert statuses[0] == 408
    assert not till.is_entered.is_set()


async def test_without_httptools_another_parser_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    service = Service(balances)
    service.put(balances, 1, 5)
    async with running(service) as server, httpx.AsyncClient() as client:
        answer = await client.get(url(server, "/balances/1"))
        head = await client.head(url(server, "/balances/1"))
    assert (answer.content, head.content) == (b"5", b"")
    assert head.headers["content-length"] == "1"


async def test_pipelined_and_repeated_requests_of_one_connection_are_all_answered() -> None:
    service = Service(balances)
    service.put(balances, 1, 5)
    async with running(service) as server:
        one = b"GET /balances/1 HTTP/1.1\r\nHost: x\r\n\r\n"
        last = b"GET /balances/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await exchange(server, one * 9 + last)).count(b"HTTP/1.1 200 ") == 10
