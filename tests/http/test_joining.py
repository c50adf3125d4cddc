"""What goes over the wire as one write, and that nothing waits for what does not come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from headrace.http import server
from headrace.http.bounded import Bounds
from headrace.http.h11 import bounded_h11
from headrace.http.httptools import bounded_httptools
from headrace.http.joining import JoiningTransport
from tests.http.service import Service, served
from tests.http.wire import Wire

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


@asynccontextmanager
async def joined() -> AsyncIterator[tuple[Wire, JoiningTransport]]:
    wire = Wire()
    yield wire, JoiningTransport(wire, asyncio.get_running_loop())


async def test_a_head_and_its_body_are_one_write() -> None:
    async with joined() as (wire, transport):
        transport.write(HEAD)
        transport.write(b"ok")
        await asyncio.sleep(0)
        assert wire.writes == [HEAD + b"ok"]


async def test_a_head_whose_body_comes_later_is_not_kept_from_its_reader() -> None:
    async with joined() as (wire, transport):
        transport.write(HEAD)
        assert wire.writes == []
        await asyncio.sleep(0)
        assert wire.writes == [HEAD]
        transport.write(b"ok")
        assert wire.writes == [HEAD, b"ok"]


async def test_two_answers_keep_their_order() -> None:
    async with joined() as (wire, transport):
        transport.write(HEAD)
        transport.write(b"ok")
        transport.write(HEAD)
        transport.write(b"no")
        assert wire.writes == [HEAD + b"ok", HEAD + b"no"]


async def test_an_interim_answer_is_written_at_once() -> None:
    async with joined() as (wire, transport):
        transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert wire.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]


async def test_what_is_closed_has_been_written_and_what_is_aborted_has_not() -> None:
    async with joined() as (wire, transport):
        transport.write(HEAD)
        transport.close()
        assert (wire.writes, wire.has_ended) == ([HEAD], True)
    async with joined() as (wire, transport):
        transport.write(HEAD)
        transport.abort()
        await asyncio.sleep(0)
        assert (wire.writes, wire.has_ended) == ([], True)


class Recorder(JoiningTransport):
    """A socket's transport that notes what is written, and writes it."""

    writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))
        self._transport.write(data)


@pytest.mark.parametrize("parser", ["httptools", "h11"])
async def test_a_worker_answers_a_read_in_one_write(parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = Bounds(head_bytes_max=65_536, head_timeout_s=10.0, send_timeout_s=10.0, connections_max=100)
    chosen = bounded_httptools(bounds) if parser == "httptools" else bounded_h11(bounds)

    class Recorded(chosen):  # type: ignore[misc, valid-type]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(Recorder(transport, asyncio.get_running_loop()))

    monkeypatch.setattr(Recorder, "writes", [])
    monkeypatch.setattr(server, "_protocol", lambda *_: Recorded)
    balances = served("balances", int)
    service = Service(balances)
    service.put(balances, 1, {"points": 7})
    worker = server.HttpServer(service)
    await worker.start()
    try:
        host, port = worker.address
        async with httpx.AsyncClient() as http:
            for _ in range(2):
                assert (await http.get(f"http://{host}:{port}/balances/1")).json() == {"points": 7}
        assert len(Recorder.writes) == 2
    finally:
        await worker.stop(timeout_s=1.0)
