"""Private by default: what strangers get, and what a token opens."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headrace.errors import DeclarationError, SettingsError
from headrace.http.access import Guard
from headrace.http.application import build_application
from headrace.http.source import UserRoute
from headrace.settings import Settings
from tests.http.service import Service, client, served

balances = served("balances", int)
GUARDED = Settings(tokens=(sha256(b"secret").hexdigest(), sha256(b"other").hexdigest().upper()))


async def greet(request: Request) -> Response:
    return JSONResponse("hello")


GREET = UserRoute(path="/greet", endpoint=greet, methods=("GET",))


async def test_an_app_that_serves_nothing_answers_only_about_itself() -> None:
    service = Service()
    async with client(service) as http:
        for path in ("/livez", "/readyz", "/metrics", "/"):
            assert (await http.get(path)).status_code == 200
        for path in (
            "/balances",
            "/balances/1",
            "/table/balances",
            "/router",
            "/graph",
            "/openapi",
            "/livez/",
        ):
            answer = await http.get(path)
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/", "/metrics", "/balances", "/balances/1", "/greet", "/nowhere"])
async def test_with_tokens_everything_but_the_probes_needs_one(path: str) -> None:
    service = Service(balances, routes=[GREET], settings=GUARDED)
    service.put(balances, 1, 5)
    async with client(service) as http:
        assert (await http.get("/livez")).status_code == 200
        assert (await http.get("/readyz")).status_code == 200
        for header in (
            "",
            "Bearer",
            "Bearer ",
            "Bearer wrong",
            "Basic secret",
            "secret",
            "Bearer secret, Bearer secret",
        ):
            answer = await http.get(path, headers={"Authorization": header})
            assert answer.status_code == 401, header
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        twice = [("Authorization", "Bearer secret"), ("Authorization", "Bearer secret")]
        assert (await http.get(path, headers=twice)).status_code == 401
        for token in ("Bearer secret", "bearer other"):
            answer = await http.get(path, headers={"Authorization": token})
            assert answer.status_code == (404 if path == "/nowhere" else 200)


async def test_positions_are_not_shown_to_strangers() -> None:
    service = Service(balances, settings=GUARDED)
    async with client(service) as http:
        stranger = (await http.get("/readyz")).json()
        known = (await http.get("/readyz", headers={"Authorization": "Bearer secret"})).json()
    assert stranger["partitions"]["main/0"] == {"state": "serving"}
    assert known["partitions"]["main/0"] == {"state": "serving", "position": {"checkout.events/0": 0}}


@pytest.mark.parametrize("token", ["secret", "", "ab" * 31, "zz" * 32])
async def test_a_token_that_is_no_digest_is_refused_at_the_start(token: str) -> None:
    with pytest.raises(SettingsError, match="SHA-256"):
        build_application(Service(settings=Settings(tokens=(token,))))


@given(st.binary(max_size=64))
def test_no_other_header_is_a_token(header: bytes) -> None:
    guard = Guard(GUARDED.tokens)
    assert guard.admits(header) == (
        header[:7].lower() == b"bearer " and header[7:].strip() in {b"secret", b"other"}
    )


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/readyz"])
def test_a_table_or_route_cannot_hide_headraces_own_paths(path: str) -> None:
    route = UserRoute(path=path, endpoint=greet, methods=("POST",))
    with pytest.raises(DeclarationError):
        build_application(Service(routes=[route]))
    with pytest.raises(DeclarationError):
        build_application(Service(served(path[1:], int)))


@pytest.mark.parametrize("path", ["/balances", "/balances/{key}", "/balances/top"])
def test_a_route_that_a_table_would_hide_is_refused(path: str) -> None:
    route = UserRoute(path=path, endpoint=greet, methods=("GET",))
    with pytest.raises(DeclarationError, match="hidden"):
        build_application(Service(balances, routes=[route]))


def test_two_tables_cannot_have_one_path() -> None:
    with pytest.raises(DeclarationError, match="taken"):
        build_application(Service(balances, served("balances", str)))
