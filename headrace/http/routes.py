"""The app's own endpoints: what one request sends is one transaction, and the answer follows its commit."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Message, Receive, Scope, Send

from headrace.events.position import Position
from headrace.events.seen import NOTHING_SEEN, Seen
from headrace.events.trace import active_trace, trace_of_request
from headrace.flow.requests.reception import Claim
from headrace.http.consistency import Asked, asked_in_hand, asking_headers, brought_by, carrying
from headrace.http.idempotency import KeyedRequests, recordable
from headrace.http.peers.hop import Hop
from headrace.http.problems import CLOSE, Problem, bad_request, method_not_allowed, problem_of
from headrace.http.reads import token_bytes
from headrace.http.source import ROUTE, Endpoint, ReadSource, UserRoute

_TOO_LARGE = Problem(413, "The body is larger than this server takes.", CLOSE)
_TOO_SLOW = Problem(408, "The body did not arrive in time.", CLOSE)
_BAD_LENGTH = bad_request("The Content-Length is not a number.")
_BAD_PARAMETER = bad_request("A part of the path is not what is expected there.")
_GONE = 499


class UserRoutes:
    """Finds the endpoint of a request and runs it in a scope of its own.

    An endpoint that raises sends nothing. One that returns a response has decided: what it sent is
    committed, whatever the status of that response. The body of a streaming response is produced
    after the commit and cannot send.
    """

    def __init__(self, source: ReadSource, routes: Sequence[UserRoute], hop: Hop) -> None:
        self._source = source
        self._keyed = KeyedRequests(source, hop)
        self._body_bytes_max = source.settings.http_body_bytes_max
        self._body_timeout_s = source.settings.http_body_timeout_s
        self._routes = [
            (Route(route.path, endpoint=route.endpoint, methods=list(route.methods)), route.endpoint)
            for route in routes
        ]

    async def respond(
        self, scope: Scope, receive: Receive, send: Send, length: bytes | None, others: Sequence[str] = ()
    ) -> int | None:
        """Answer by the route of this path; None when there is none.

        `others` are methods that something else answers at this path: they belong into a 405.
        """
        allowed = set(others)
        for route, endpoint in self._routes:
            try:
                match, child_scope = route.matches(scope)
            except ValueError:
                # A converter that its own pattern lets down: Python takes no number of 5,000 digits.
                return await _BAD_PARAMETER.send(send)
            if match is Match.FULL:
                scope.update(child_scope, **{ROUTE: route.path})
                return await self._run(endpoint, scope, receive, send, length)
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
        return await method_not_allowed(allowed).send(send) if allowed else None

    async def _run(
        self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send, length: bytes | None
    ) -> int:
        key = self._keyed.key(scope)
        if isinstance(key, Problem):
            return await key.send(send)
        asked = brought_by(asking_headers(scope["headers"]), self._source.settings)
        if isinstance(asked, Problem):
            return await asked.send(send)
        if asked.sets_cookie:
            send = carrying(asked, send, is_read=False)
        # The body is read before the endpoint runs: a slow client holds no transaction open.
        try:
            async with asyncio.timeout(self._body_timeout_s):
                body = await read_body(receive, length, self._body_bytes_max)
        except TimeoutError:
            return await _TOO_SLOW.send(send)
        if body is None:
            return _GONE
        if isinstance(body, Problem):
            return await body.send(send)
        request = Request(scope, _replaying(body, receive))
        if key is not None:
            handle = partial(self._committed, endpoint, request, asked)
            return await self._keyed.respond(key, handle, scope, body, receive, send)
        try:
            response = await self._committed(endpoint, request, asked)
        except Exception as error:  # noqa: BLE001  (it is mapped to an answer, and logged there)
            return await problem_of(error).send(send)
        await response(scope, receive, send)
        return response.status_code

    async def _committed(
        self, endpoint: Endpoint, request: Request, asked: Asked, claim: Claim | None = None
    ) -> Response:
        if active_trace.get() is None:
            active_trace.set(trace_of_request(request.scope["headers"]))
        # Whatever cannot be believed is refused before the endpoint runs; a stamp must be true.
        asked, vouched = await self._source.waits.vouched(asked)
        brought = NOTHING_SEEN if asked.token is None else asked.token.seen
        in_hand = asked_in_hand.set(asked)
        try:
            async with self._source.sending(claim, vouched) as sent:
                response = await endpoint(request)
                if not isinstance(response, Response):
                    raise TypeError(f"{request.url.path} returned {type(response).__name__}, not a Response")
                if claim is not None:
                    claim.answer = recordable(response, partial(self._token, brought.merge(sent.seen)))
        finally:
            asked_in_hand.reset(in_hand)
        token = self._token(brought.merge(sent.seen), sent.position)
        if token is not None:
            response.headers["Headrace-Position"] = token
        return response

    def _token(self, seen: Seen, position: Position) -> str | None:
        """What was brought, read and sent, as one; None for nothing."""
        return token_bytes(position, self._source.catalog, seen).decode() if position or seen else None


async def read_body(receive: Receive, length: bytes | None, bytes_max: int) -> bytes | Problem | None:
    """The whole body of a request, or the problem with it; None when the client went away."""
    if length is not None:
        if not length.isdigit():
            return _BAD_LENGTH
        if len(length) > 18 or int(length) > bytes_max:
            return _TOO_LARGE
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = cast(bytes, message.get("body", b""))
        size += len(part)
        if size > bytes_max:
            return _TOO_LARGE
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands out the body once, then whatever the connection says."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
