"""10,000 hostile requests: what is a key comes back as it was stored, all else is a 4xx; nothing hangs."""

import asyncio
import random
import uuid
from collections.abc import Iterator, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from headrace.http.application import Application, build_application
from headrace.http.server import HttpServer
from headrace.http.source import UserRoute
from tests.http.service import Service, served

SEED = 20261123
IN_PROCESS = 9_400
OVER_A_SOCKET = 600
PATIENCE_S = 10.0

TEXTS = served("texts", str)
TABLES = (
    TEXTS,
    served("numbers", int),
    served("blobs", bytes),
    served("people", uuid.UUID),
    served("places", tuple[int, str]),
    served("nested", tuple[str, tuple[bytes, int]]),
)

PIECES = (
    "", "/", "//", "..", "../..", ".", ";", ";a=b", "?", "#", "%", "&", "=", "+", " ", "\t", "\n", "\r\n",
    "\0", "\u0001", "\u007f", "\u0080", "\u00ad", "\u200b", "\u202e", "\ufeff", "\uffff", "\U0010ffff",
    "\u00e9", "e\u0301", "\U0001f4a9", "null", "NaN", "-0", "1e9", "0x10", "'", '"', "\\", "<script>", "{}",
    "[]", "*", "|", "^", "~", "@", ":", ",", "a" * 300, "livez", "metrics", "whiteboard", "texts", "1",
    "-1", "9" * 400, "true",
)  # fmt: skip
RAW_PIECES = (
    b"%00", b"%2f", b"%2F", b"%5c", b"%2e%2e", b"%2e", b"%3b", b"%3f", b"%23", b"%25", b"%2500", b"%",
    b"%%", b"%g1", b"%1", b"%c0%af", b"%c0%80", b"%e0%80%af", b"%f0%80%80%af", b"%ed%a0%80", b"%ed%bf%bf",
    b"%f4%90%80%80", b"%ff", b"%fe%ff", b"%80", b"%c3", b"%e2%82", b"%u002e", b"\xff", b"\xc3\xa9", b"\x80",
    b"..", b"/", b"//", b";", b"+", b"[", b"]", b"[1,%22a%22]", b"%5B1%2C%22a%22%5D", b"%5B" * 2_000,
    b"[" * 3_000, b"1", b"-", b"7" * 5_000, b"00000000-0000-0000-0000-000000000000", b"AA", b"A===", b"==",
    b"a" * 1_048_576,
)  # fmt: skip
QUERIES = (
    b"", b"limit=0", b"limit=-1", b"limit=99999999999999999999", b"limit=1e3", b"limit=%31",
    b"limit=1&limit=2", b"=", b"&&&&", b"start=%00", b"start=%ff", b"end=%ed%a0%80", b"prefix=%c0%80",
    b"cursor=AA", b"cursor=%00", b"cursor=AQ", b"cursor=" + b"A" * 4_000, b"start=" + b"[" * 5_000,
    b"limit", b"%6cimit=1", b"start=+&end=+", b"limit=\xb2", b"table=texts&key=%00",
    b"table=texts&key=a%2Fb", b"table=none&key=a", b"table=texts", b"table=numbers&key=1_0",
    b"table=places&key=%5B%5B", b"table=texts&key=" + b"a" * 9_000,
)  # fmt: skip
HEADERS = (
    (b"if-none-match", b"*"), (b"if-none-match", b'"' * 999), (b"if-none-match", b"\xff\x00,,,"),
    (b"headrace-position", b"\xff"), (b"headrace-position", b"A" * 5_000),
    (b"headrace-consistency", b"latest"), (b"headrace-consistency", b"\x00"), (b"content-length", b"-1"),
    (b"content-length", b"9" * 40), (b"content-length", b"1,1"),
    (b"transfer-encoding", b"chunked, chunked"), (b"authorization", b"Bearer "),
    (b"authorization", b"\xff" * 99), (b"accept", b"text/event-stream"), (b"accept", b"text/html" * 500),
    (b"accept", b"\xff"), (b"x-big", b"x" * 40_000), (b"host", b"\x00"), (b"traceparent", b"00-zz-\xff-01"),
    (b"traceparent", b"00-" + b"f" * 5_000), (b"prefer", b"wait=1e999"), (b"cookie", b"=" * 2_000),
)  # fmt: skip
METHODS = ("GET",) * 12 + ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW", "get", "")
PATHS = (b"/", b"/livez", b"/readyz", b"/metrics", b"/openapi.json", b"/whiteboard", b"/whiteboard/row",
         b"/whiteboard/board", b"/whiteboard/feed", b"/echo", b"/orders", b"")  # fmt: skip


class Ask(NamedTuple):
    """One request as raw as ASGI takes it."""

    method: str
    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]


async def echo(request: Request) -> Response:
    return PlainTextResponse(request.path_params["rest"].encode("utf-8", "replace"))


async def order(request: Request) -> Response:
    return PlainTextResponse(str(request.path_params["number"]))


def service() -> Service:
    return Service(
        *TABLES,
        routes=(
            UserRoute(path="/echo/{rest:path}", endpoint=echo, methods=("GET", "POST")),
            UserRoute(path="/orders/{number:int}", endpoint=order, methods=("GET", "DELETE")),
        ),
    )


def hostile(chance: random.Random, count: int) -> Iterator[Ask]:
    """Requests of parts that have broken servers before, and of random bytes."""
    roots = [table.path.encode() for table in TABLES] + [*PATHS]
    for _ in range(count):
        pieces = [chance.choice(RAW_PIECES) for _ in range(chance.choice((0, 1, 1, 2, 3)))]
        if chance.random() < 0.3:
            pieces.append(bytes(chance.randrange(256) for _ in range(chance.randrange(12))))
        path = chance.choice(roots) + chance.choice((b"/", b"/", b"/", b"", b"//")) + b"".join(pieces)
        query = chance.choice(QUERIES) if chance.random() < 0.4 else b""
        headers = chance.sample(HEADERS, chance.choice((0, 0, 1, 2, 4)))
        yield Ask(chance.choice(METHODS), path, query, headers)


async def status_of(application: Application, ask: Ask) -> tuple[int, bytes]:
    """Ask the application, as a client that goes away once it has sent its request."""
    messages: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": ask.method,
        "path": unquote_to_bytes(ask.path).decode(errors="replace"),
        "raw_path": ask.path,
        "query_string": ask.query,
        "headers": ask.headers,
        "server": ("service", 80),
    }
    async with asyncio.timeout(PATIENCE_S):
        await application(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def test_no_request_makes_the_application_fail_or_hang() -> None:
    application = build_application(service())
    failed = []
    statuses = set()
    for ask in hostile(random.Random(SEED), IN_PROCESS):
        status, _ = await status_of(application, ask)
        statuses.add(status)
        if not 200 <= status < 500:
            failed.append((status, ask.method, ask.path[:80], ask.query[:80], ask.headers))
    assert failed == [], f"seed={SEED}"
    assert {200, 400, 404, 405, 413, 414, 431} <= statuses, "the requests are not hostile enough"


async def test_every_text_key_comes_back_as_it_was_stored() -> None:
    running = service()
    application = build_application(running)
    chance = random.Random(SEED)
    keys = {"".join(chance.choice(PIECES) for _ in range(chance.randrange(1, 4))) for _ in range(1_500)}
    keys |= {
        "".join(chr(chance.randrange(1, 0xD800)) for _ in range(chance.randrange(1, 9))) for _ in range(500)
    }
    for at, key in enumerate(sorted(keys)):
        raw = quote(key, safe="").encode()
        status, body = await status_of(application, Ask("GET", b"/texts/" + raw, b"", []))
        if "\0" in key:
            assert status == 400
            continue
        running.put(TEXTS, key, at)
        status, body = await status_of(application, Ask("GET", b"/texts/" + raw, b"", []))
        assert (status, body) == (200, b"%d" % at), key
        query = b"table=texts&key=" + quote(key, safe="").encode()
        status, body = await status_of(application, Ask("GET", b"/whiteboard/row", query, []))
        assert status == 200, key
        assert b'"row":"%d"' % at in body, key


def wire(ask: Ask) -> bytes:
    """The request as it goes over a socket."""
    target = ask.path + (b"?" + ask.query if ask.query else b"")
    lines = [ask.method.encode() + b" " + target + b" HTTP/1.1", b"Host: service", b"Connection: close"]
    lines += [name + b": " + value for name, value in ask.headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


MANGLED = (
    b"\x00" * 64,
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /texts/a HTTP/1.1\nHost: x\n\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
    b"POST /echo/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /texts/a HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)


async def answer_of(address: tuple[str, int], request: bytes) -> int:
    """The status of the answer; 0 when the server closed the connection instead."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request)
        writer.write_eof()
        head = await reader.readline()
        return int(head.split()[1]) if head.startswith(b"HTTP/") else 0
    except ConnectionError:
        return 0
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("batch", range(3))
async def test_over_a_socket_each_is_answered_or_cut_off_and_the_server_lives(batch: int) -> None:
    server = HttpServer(service())
    await server.start()
    try:
        chance = random.Random(SEED + batch)
        asks = list(hostile(chance, OVER_A_SOCKET // 3))
        requests = [(wire(ask), ask) for ask in asks]
        requests += [(mangled, Ask("", mangled[:40], b"", [])) for mangled in MANGLED]
        cut_off = 0
        for request, ask in requests:
            async with asyncio.timeout(PATIENCE_S):
                status = await answer_of(server.address, request)
            cut_off += status == 0
            assert status == 0 or 200 <= status < 500, (status, ask.method, ask.path[:80], ask.headers)
        assert cut_off < len(requests) / 2, "too few of these reached the application"
        alive = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert await answer_of(server.address, alive) == 200
    finally:
        await server.stop(timeout_s=5.0)
