"""The server itself: its address, its stop, and requests that only a socket can make."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from headrace.errors import SettingsError
from headrace.http.server import HttpServer
from headrace.settings import Settings
from tests.http.service import Service, served

balances = served("balances", int)
TOKEN_DIGEST = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of `secret`


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[HttpServer]:
    server = HttpServer(service)
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
