"""Every path of a worker times every kind of credential: who is let in where, and nobody else."""

import time
from collections.abc import MutableMapping
from enum import Enum
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from headrace.http.application import Application, build_application
from headrace.http.peers.gate import GREETING_PATH
from headrace.http.peers.proof import HOP, VALID_S, Proofs, name_of
from headrace.http.source import UserRoute
from headrace.settings import Settings
from tests.http.service import Service, served

TOKEN, NEXT_TOKEN, OLD_TOKEN = "the token of today", "the token of tomorrow", "the token of yesterday"
SECRET, OLD_SECRET = "a secret of the workers", "their secret of yesterday"
BALANCES = served("balances", int)
Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, dict[bytes, bytes], bytes]


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


GUARDED = Settings(tokens=(digest(TOKEN), digest(NEXT_TOKEN)), peer_secret=(SECRET,))
OPEN = Settings()


async def greet(request: Request) -> Response:
    return JSONResponse("hello")


class Kind(Enum):
    """Who may come to a path."""

    ANYBODY = "the probes: anybody, but nobody who says that he is a worker and does not prove it"
    TOKENS = "whoever has a token"
    WORKERS = "workers of the app only, who prove it"


class Path(NamedTuple):
    """A path of the worker, and how it is asked."""

    kind: Kind
    target: str
    method: str = "GET"
    accept: bytes = b"*/*"


PATHS = {
    "/": Path(Kind.TOKENS, "/"),
    "/livez": Path(Kind.ANYBODY, "/livez"),
    "/readyz": Path(Kind.ANYBODY, "/readyz"),
    "/metrics": Path(Kind.TOKENS, "/metrics"),
    "/openapi.json": Path(Kind.TOKENS, "/openapi.json"),
    "/whiteboard/board": Path(Kind.TOKENS, "/whiteboard/board"),
    "/whiteboard/feed": Path(Kind.TOKENS, "/whiteboard/feed"),
    "/whiteboard/history": Path(Kind.TOKENS, "/whiteboard/history?table=balances&key=1"),
    "/whiteboard/row": Path(Kind.TOKENS, "/whiteboard/row?table=balances&key=1"),
    "/whiteboard/shadows": Path(Kind.TOKENS, "/whiteboard/shadows"),
    "/whiteboard/why": Path(Kind.TOKENS, "/whiteboard/why?table=balances&key=1"),
    "/balances": Path(Kind.TOKENS, "/balances?limit=1"),
    "/balances/{key}": Path(Kind.TOKENS, "/balances/1"),
    "/orders/{number:int}": Path(Kind.TOKENS, "/orders/7"),
    "/purchases": Path(Kind.TOKENS, "/purchases", "POST"),
    GREETING_PATH.decode(): Path(Kind.WORKERS, GREETING_PATH.decode()),
}
"""Every path that the application names, by its template; one more is a test that fails."""
MORE = {
    "a page for people": Path(Kind.TOKENS, "/", accept=b"text/html"),
    "a row as a stream": Path(Kind.TOKENS, "/balances/1", accept=b"text/event-stream"),
    "the head of a row": Path(Kind.TOKENS, "/balances/1", "HEAD"),
    "no path at all": Path(Kind.TOKENS, "/nowhere"),
    "another method": Path(Kind.TOKENS, "/balances/1", "PUT"),
    "an escaped probe": Path(Kind.TOKENS, "/%6civez"),
    "a path below a probe": Path(Kind.TOKENS, "/livez/"),
}


class Credential(NamedTuple):
    """Something that a request shows."""

    headers: Headers
    is_token: bool
    """Whether it makes its bearer a user."""
    hop: str = ""
    """Which Headrace-Hop goes with it; see `hop_of`."""
    query: str = ""


def bearer(token: str, scheme: str = "Bearer ") -> Headers:
    return [(b"authorization", (scheme + token).encode())]


CREDENTIALS = {
    "none": Credential([], False),
    "an empty header": Credential([(b"authorization", b"")], False),
    "a scheme without a token": Credential(bearer("", "Bearer"), False),
    "an empty token": Credential(bearer(""), False),
    "another scheme": Credential(bearer(TOKEN, "Basic "), False),
    "no scheme": Credential(bearer(TOKEN, ""), False),
    "a scheme without its space": Credential(bearer(TOKEN, "Bearer"), False),
    "another token": Credential(bearer("a guess"), False),
    "a longer token": Credential(bearer(TOKEN + "x"), False),
    "a shorter token": Credential(bearer(TOKEN[:-1]), False),
    "the token in capitals": Credential(bearer(TOKEN.upper()), False),
    "the digest of the token": Credential(bearer(digest(TOKEN)), False),
    "a token that was replaced": Credential(bearer(OLD_TOKEN), False),
    "the token twice in one": Credential(bearer(f"{TOKEN}, Bearer {TOKEN}"), False),
    "the token in two headers": Credential(bearer(TOKEN) * 2, False),
    "a token and a guess": Credential(bearer(TOKEN) + bearer("a guess"), False),
    "a guess and the token": Credential(bearer("a guess") + bearer(TOKEN), False),
    "the token in a cookie": Credential([(b"cookie", b"authorization=Bearer " + TOKEN.encode())], False),
    "the token for a proxy": Credential([(b"proxy-authorization", b"Bearer " + TOKEN.encode())], False),
    "the token as a key": Credential([(b"x-api-key", TOKEN.encode())], False),
    "the token forwarded": Credential([(b"x-forwarded-authorization", b"Bearer " + TOKEN.encode())], False),
    "the token in the query": Credential([], False, query="access_token=the%20token%20of%20today"),
    "the secret of the workers": Credential(bearer(SECRET), False),
    "the proof of a worker as a token": Credential(bearer("1 x 1 -"), False),
    "the token": Credential(bearer(TOKEN), True),
    "the token that replaces it": Credential(bearer(NEXT_TOKEN), True),
    "a scheme in small letters": Credential(bearer(TOKEN, "bearer "), True),
    "spaces around": Credential(bearer(f" {TOKEN} "), True),
    "a proof": Credential([], False, hop="proven"),
    "a proof and the token": Credential(bearer(TOKEN), True, hop="proven"),
    "a proof and a guess": Credential(bearer("a guess"), False, hop="proven"),
    "the token as a proof": Credential([], False, hop="token"),
    "the token as a proof, and the token": Credential(bearer(TOKEN), True, hop="token"),
    "no proof": Credential(bearer(TOKEN), True, hop="unproven"),
    "an empty proof": Credential(bearer(TOKEN), True, hop="empty"),
    "a proof that has expired": Credential(bearer(TOKEN), True, hop="expired"),
    "a proof from the future": Credential(bearer(TOKEN), True, hop="early"),
    "a proof by a secret that was replaced": Credential(bearer(TOKEN), True, hop="replaced"),
    "a proof for another request": Credential(bearer(TOKEN), True, hop="other target"),
    "a proof for another method": Credential(bearer(TOKEN), True, hop="other method"),
    "a proof for another worker": Credential(bearer(TOKEN), True, hop="other worker"),
    "two proofs": Credential(bearer(TOKEN), True, hop="two"),
}


def hop_of(kind: str, method: str, target: str) -> Headers:
    """The Headrace-Hop of a request, as its sender makes it."""
    if not kind:
        return []
    to, now_ms = name_of("loyalty", "worker-1"), int(time.time() * 1000)
    secret = {"token": TOKEN, "replaced": OLD_SECRET}.get(kind, SECRET)
    late_ms = {"expired": -VALID_S * 2_000, "early": VALID_S * 2_000}.get(kind, 0)
    proofs = Proofs(() if kind == "unproven" else (secret,))
    about = {"other target": (method, "/else"), "other method": ("PATCH", target)}.get(kind, (method, target))
    if kind == "other worker":
        to = name_of("loyalty", "worker-2")
    value = b"" if kind == "empty" else proofs.hop(to, now_ms + late_ms, about[0], about[1].encode())
    return [(HOP, value)] * (2 if kind == "two" else 1)


def expected(path: Path, shown: Credential, settings: Settings) -> frozenset[int]:
    """The statuses by which a request is turned away; empty: it is let in."""
    if shown.hop == "other worker":
        return frozenset({421})
    if settings.peer_secret and (
        shown.hop not in ("", "proven") or (path.kind is Kind.WORKERS and not shown.hop)
    ):
        return frozenset({403})
    if path.kind is Kind.TOKENS and settings.tokens and not shown.is_token:
        return frozenset({401})
    return frozenset()


async def asked(application: Application, path: Path, shown: Credential) -> Answer:
    """Status, headers and body of one request, whose client goes away once it is sent."""
    target = path.target
    if shown.query:
        target += ("&" if "?" in target else "?") + shown.query
    raw, _, query = target.partition("?")
    messages: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    hop = hop_of(shown.hop, path.method, target)
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": path.method,
        "path": unquote_to_bytes(raw).decode(),
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"x"), (b"accept", path.accept), *shown.headers, *hop],
    }
    await application(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), body


def service(settings: Settings) -> Service:
    found = Service(
        BALANCES,
        routes=(
            UserRoute(path="/orders/{number:int}", endpoint=greet, methods=("GET",)),
            UserRoute(path="/purchases", endpoint=greet, methods=("POST",)),
        ),
        settings=settings,
    )
    found.put(BALANCES, 1, "a row that nobody else may see")
    return found


def test_every_path_of_the_application_is_in_the_table() -> None:
    assert set(build_application(service(GUARDED)).paths()) == set(PATHS)


@pytest.mark.parametrize("settings", [GUARDED, OPEN], ids=["guarded", "open"])
@pytest.mark.parametrize("path", [*PATHS.values(), *MORE.values()], ids=[*PATHS, *MORE])
async def test_who_is_let_in(path: Path, settings: Settings) -> None:
    application = build_application(service(settings))
    wrong = []
    for name, shown in CREDENTIALS.items():
        status, headers, body = await asked(application, path, shown)
        turned_away = expected(path, shown, settings)
        is_right = status in turned_away if turned_away else status not in (401, 403, 421)
        if turned_away == {401}:
            is_right &= headers.get(b"www-authenticate", b"").startswith(b"Bearer ")
        is_told = b"nobody else" in body or b"checkout.events" in body or b"balances" in body
        if not is_right or (turned_away and is_told):
            wrong.append((name, status, body[:80]))
    assert not wrong, wrong


async def test_who_has_no_token_learns_of_a_probe_only_that_it_is_ready() -> None:
    application = build_application(service(GUARDED))
    for name, shown in CREDENTIALS.items():
        status, _, body = await asked(application, PATHS["/readyz"], shown)
        assert (b"position" in body) == (status == 200 and shown.is_token), name
