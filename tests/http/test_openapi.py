"""The description of the API: valid by the letter, and true of what is served."""

import hashlib
import uuid
from dataclasses import replace
from datetime import date
from typing import Any

import msgspec
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from headrace.events.key import key_codec
from headrace.http.source import UserRoute
from headrace.settings import Settings
from tests.http.service import Service, client, served


class Line(msgspec.Struct):
    product: str
    cents: int


class Balance(msgspec.Struct):
    """What a household has."""

    points: int = 0
    lines: list[Line] = []


class Own:
    """A class that msgspec knows nothing of."""


async def greet(request: Request) -> Response:
    """Greet somebody.

    By name.
    """
    return PlainTextResponse(request.path_params["name"])


ROUTES = (
    UserRoute(path="/greet/{name}", endpoint=greet, methods=("GET", "POST")),
    UserRoute(path="/orders/{number:int}", endpoint=greet, methods=("DELETE",)),
)


def table(name: str, key_type: Any, value_type: Any) -> Any:
    plain = served(name, str)
    return replace(
        plain, keys=key_codec(key_type), key_type=key_type, value_type=value_type, about="About it."
    )


async def described(service: Service) -> dict[str, Any]:
    async with client(service) as http:
        answer = await http.get("/openapi.json")
        assert answer.status_code == 200
        document: dict[str, Any] = answer.json()
        return document


def rich_service(settings: Settings | None = None) -> Service:
    return Service(
        table("balances", int, Balance),
        table("tags", str, dict[str, int]),
        table("places", tuple[int, str], Line | None),
        table("files", bytes, bytes),
        table("people", uuid.UUID, list[Line]),
        table("anything", str, msgspec.Raw),
        table("own", str, Own),
        table("days", str, dict[date, int]),
        routes=ROUTES,
        settings=settings,
    )


async def test_it_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(await described(rich_service())).validate()


async def test_a_service_without_anything_is_described_too() -> None:
    document = await described(Service())
    OpenAPIV31SpecValidator(document).validate()
    assert document["paths"] == {}


async def test_rows_and_keys_have_their_schemas() -> None:
    document = await described(rich_service())
    read = document["paths"]["/balances/{key}"]["get"]
    assert read["responses"]["200"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Balance"
    }
    assert set(document["components"]["schemas"]) == {"Balance", "Line", "Problem"}
    assert read["parameters"][0]["schema"] == {"type": "integer"}
    assert read["description"] == "About it."
    page = document["paths"]["/places"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    key = page["properties"]["rows"]["items"]["properties"]["key"]
    assert key["prefixItems"] == [{"type": "integer"}, {"type": "string"}]


async def test_streams_problems_and_headers_are_described() -> None:
    document = await described(rich_service())
    read = document["paths"]["/balances/{key}"]["get"]
    assert "text/event-stream" in read["responses"]["200"]["content"]
    told = {"Headrace-Position", "Headrace-Unproven", "Preference-Applied"}
    assert set(read["responses"]["200"]["headers"]) == {*told, "ETag"}
    assert {"304", "400", "401", "404", "409", "503", "default"} <= set(read["responses"])
    assert {parameter["name"] for parameter in document["paths"]["/tags"]["get"]["parameters"]} == {
        "start",
        "end",
        "limit",
        "cursor",
        "prefix",
        "Headrace-Position",
        "Headrace-Consistency",
        "Prefer",
    }


async def test_routes_are_described_by_their_docstrings() -> None:
    document = await described(rich_service())
    greeting = document["paths"]["/greet/{name}"]
    assert set(greeting) == {"get", "post"}
    assert (greeting["get"]["summary"], greeting["get"]["description"]) == ("Greet somebody.", "By name.")
    number, *asking, key = document["paths"]["/orders/{number}"]["delete"]["parameters"]
    assert number["schema"] == {"type": "integer"}
    assert [each["name"] for each in asking] == ["Headrace-Position", "Headrace-Consistency", "Prefer"]
    assert (key["name"], key["in"]) == ("Idempotency-Key", "header")


async def test_it_follows_the_authentication_setting() -> None:
    token = hashlib.sha256(b"secret").hexdigest()
    service = rich_service(Settings(tokens=(token,)))
    async with client(service) as http:
        assert (await http.get("/openapi.json")).status_code == 401
        answer = await http.get("/openapi.json", headers={"Authorization": "Bearer secret"})
    document = answer.json()
    OpenAPIV31SpecValidator(document).validate()
    assert document["security"] == [{"token": []}]
