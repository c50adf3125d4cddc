"""The app's own endpoints: the answer follows the commit, and a failure sends nothing."""

from collections.abc import Sequence

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headrace.errors import (
    CommitUnknown,
    DecodeError,
    ForeignToken,
    HeadraceError,
    NotOwner,
    OutsideAgent,
    RecordTooLarge,
    Unavailable,
    WorkerStopping,
)
from headrace.events.position import Position, TopicPartition
from headrace.events.token import Token
from headrace.http.source import Endpoint, UserRoute
from tests.http.service import Service, client


def service_with(endpoint: Endpoint, path: str = "/do", methods: Sequence[str] = ("POST",)) -> Service:
    return Service(routes=[UserRoute(path=path, endpoint=endpoint, methods=tuple(methods))])


async def test_the_answer_carries_the_position_of_what_was_sent() -> None:
    async def purchase(request: Request) -> Response:
        service.send(f"purchase {await request.json()} at {request.path_params['till']}")
        assert service.log == [], "nothing is committed before the endpoint returns"
        return JSONResponse({"ok": True}, status_code=201)

    service = service_with(purchase, "/tills/{till:int}/baskets")
    async with client(service) as http:
        answer = await http.post("/tills/4/baskets", json=7)
    assert (answer.status_code, answer.json()) == (201, {"ok": True})
    assert service.log == ["purchase 7 at 4"]
    token = Token.parse(answer.headers["Headrace-Position"])
    assert token.located(service.catalog) == Position({TopicPartition("out", 0): 1})


async def test_an_endpoint_that_sends_nothing_names_no_position() -> None:
    async def look(request: Request) -> Response:
        return JSONResponse(request.query_params["q"])

    async with client(service_with(look, methods=["GET"])) as http:
        answer = await http.get("/do?q=1")
    assert answer.json() == "1"
    assert "Headrace-Position" not in answer.headers


async def test_the_response_is_sent_only_after_the_commit() -> None:
    class Watching(Response):
        async def __call__(self, *asgi: object) -> None:
            service.log.append("answered")
            await super().__call__(*asgi)  # type: ignore[arg-type]

    async def purchase(request: Request) -> Response:
        service.send("purchase")
        return Watching()

    service = service_with(purchase)
    async with client(service) as http:
        await http.post("/do")
    assert service.log == ["purchase", "answered"]


async def test_an_error_response_is_a_decision_and_commits() -> None:
    async def refuse(request: Request) -> Response:
        service.send("refused")
        return JSONResponse("no", status_code=422)

    service = service_with(refuse)
    async with client(service) as http:
        assert (await http.post("/do")).status_code == 422
    assert service.log == ["refused"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (HTTPException(409, "sold out", headers={"X-Reason": "stock"}), 409),
        (DecodeError("not a basket"), 400),
        (ForeignToken("of another cluster"), 409),
        (RecordTooLarge("17 MB"), 413),
        (NotOwner("not here"), 503),
        (Unavailable("no broker"), 503),
        (OutsideAgent("table secret written"), 500),
        (ValueError("secret"), 500),
    ],
)
async def test_an_endpoint_that_raises_sends_nothing(error: Exception, status: int) -> None:
    async def fail(request: Request) -> Response:
        service.send("half of it")
        raise error

    service = service_with(fail)
    async with client(service) as http:
        answer = await http.post("/do")
    assert service.log == []
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert "secret" not in answer.text
    if isinstance(error, HTTPException):
        assert (answer.json()["detail"], answer.headers["X-Reason"]) == ("sold out", "stock")


async def test_something_else_than_a_response_sends_nothing() -> None:
    async def wrong(request: Request) -> Response:
        service.send("half of it")
        return {"ok": True}  # type: ignore[return-value]

    service = service_with(wrong)
    async with client(service) as http:
        assert (await http.post("/do")).status_code == 500
    assert service.log == []


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (Unavailable("no broker"), "nothing was committed"),
        (WorkerStopping("too late"), "This worker stops; nothing was committed"),
        (CommitUnknown("EndTxn timed out"), "outcome is unknown"),
    ],
)
async def test_a_commit_that_fails_is_never_answered_as_done(failure: HeadraceError, said: str) -> None:
    async def purchase(request: Request) -> Response:
        service.send("purchase")
        return JSONResponse({"ok": True}, status_code=201)

    service = service_with(purchase)
    service.commit_failure = failure
    async with client(service) as http:
        answer = await http.post("/do")
    assert (answer.status_code, answer.json()["error"]) == (503, type(failure).__name__)
    assert said in answer.json()["detail"]
    assert answer.headers["Retry-After"] == "1"
    assert "Headrace-Position" not in answer.headers


async def test_an_unknown_method_of_a_route_is_405() -> None:
    async def look(request: Request) -> Response:
        return Response()

    async with client(service_with(look, methods=["GET", "PUT"])) as http:
        answer = await http.delete("/do")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, PUT")
