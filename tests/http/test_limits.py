"""Limits and hostile input: a bad request costs little and never becomes a 5xx."""

from collections.abc import AsyncIterator
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headrace.errors import UnencodableValue
from headrace.http.source import ServedTable, UserRoute
from headrace.settings import Settings
from tests.http.service import Service, ask, client, served

KINDS = {
    "int": served("ints", int),
    "str": served("strs", str),
    "bytes": served("blobs", bytes),
    "tuple": served("pairs", tuple[int, str]),
}
SMALL = Settings(http_body_bytes_max=100, http_url_bytes_max=200, http_header_bytes_max=400)


async def echo(request: Request) -> Response:
    return JSONResponse(len(await request.body()))


ECHO = UserRoute(path="/echo", endpoint=echo, methods=("POST",))


async def chunks(number: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(number):
        yield b"x" * size


async def test_a_url_that_is_too_long_is_414() -> None:
    service = Service(KINDS["str"], settings=SMALL)
    async with client(service) as http:
        assert (await http.get("/strs/" + "x" * 194)).status_code == 404
        assert (await http.get("/strs/" + "x" * 195)).status_code == 414
        assert (await http.get("/strs?start=" + "x" * 200)).status_code == 414


async def test_headers_that_are_too_large_are_431() -> None:
    service = Service(KINDS["str"], settings=SMALL)
    async with client(service) as http:
        assert (await http.get("/strs/x", headers={"X-Large": "x" * 10})).status_code == 404
        assert (await http.get("/strs/x", headers={"X-Large": "x" * 400})).status_code == 431


async def test_a_body_that_is_too_large_is_413_whether_its_length_is_declared_or_not() -> None:
    service = Service(routes=[ECHO], settings=SMALL)
    async with client(service) as http:
        assert (await http.post("/echo", content=b"x" * 100)).json() == 100
        assert (await http.post("/echo", content=chunks(10, 10))).json() == 100
        for content in (b"x" * 101, chunks(11, 10)):
            answer = await http.post("/echo", content=content)
            assert answer.status_code == 413
            assert answer.headers["connection"] == "close"
        for length in ("-1", "1e2", "9" * 5000, "5, 5"):
            answer = await http.post("/echo", content=b"x", headers={"Content-Length": length})
            assert answer.status_code in {400, 413, 431}


async def test_a_read_takes_no_body() -> None:
    service = Service(KINDS["int"])
    async with client(service) as http:
        assert (await http.request("GET", "/ints/1", content=b"x")).status_code == 413
        assert (await http.request("GET", "/ints", content=chunks(1, 1))).status_code == 413
        assert (await http.get("/ints/1", headers={"Content-Length": "0"})).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
async def test_another_method_is_405_with_what_is_allowed(method: str) -> None:
    service = Service(KINDS["int"])
    async with client(service) as http:
        for path in ("/ints", "/ints/1", "/livez", "/"):
            answer = await http.request(method, path)
            assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_a_route_may_take_the_methods_that_a_table_leaves() -> None:
    service = Service(KINDS["int"], routes=[UserRoute(path="/ints", endpoint=echo, methods=("POST",))])
    async with client(service) as http:
        assert (await http.post("/ints", content=b"xx")).json() == 2
        assert (await http.get("/ints")).json() == {"rows": [], "cursor": None}
        assert (await http.put("/ints")).headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("table", KINDS.values(), ids=KINDS)
async def test_a_deeply_nested_key_is_400(table: ServedTable) -> None:
    answer = await ask(Service(table), table.path.encode() + b"/" + b"[" * 8000)
    assert answer.status in {400, 404}


@pytest.mark.parametrize("table", KINDS.values(), ids=KINDS)
@settings(max_examples=300, deadline=None)
@given(segment=st.binary(max_size=60), is_encoded=st.booleans())
async def test_no_path_segment_is_a_5xx(table: ServedTable, segment: bytes, is_encoded: bool) -> None:
    raw = quote_from_bytes(segment, safe="").encode() if is_encoded else segment.replace(b"?", b"")
    answer = await ask(Service(table), table.path.encode() + b"/" + raw)
    assert answer.status in {400, 404}


@pytest.mark.parametrize("table", KINDS.values(), ids=KINDS)
@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from([b"start", b"end", b"prefix", b"limit", b"cursor", b"x"]),
    value=st.binary(max_size=40),
)
async def test_no_query_is_a_5xx(table: ServedTable, name: bytes, value: bytes) -> None:
    for raw in (value, quote_from_bytes(value, safe="").encode()):
        answer = await ask(Service(table), table.path.encode() + b"?" + name + b"=" + raw)
        assert answer.status in {200, 400}


@settings(max_examples=300, deadline=None)
@given(key=st.text(min_size=1, max_size=40))
async def test_every_text_key_reads_back_or_is_refused(key: str) -> None:
    table = KINDS["str"]
    service = Service(table)
    try:
        service.put(table, key, "found")
    except UnencodableValue:
        return
    answer = await ask(service, b"/strs/" + quote_from_bytes(key.encode(), safe="").encode())
    assert (answer.status, answer.body) == ((400, answer.body) if "\0" in key else (200, b'"found"'))
