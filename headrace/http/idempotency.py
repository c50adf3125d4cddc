"""Requests that name themselves by an Idempotency-Key, so that a repeat is answered and not handled.

The header is that of the IETF's draft (httpapi-idempotency-key-header): a structured string. A bare
word is taken, too, because most clients send one.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from hashlib import blake2b
from urllib.parse import quote_from_bytes

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headrace.errors import MalformedKey, UnrecordableAnswer
from headrace.events.position import Position
from headrace.flow.requests.answer import NAME, Answer
from headrace.flow.requests.desk import AnswerOf
from headrace.flow.requests.reception import Claim, Reception
from headrace.http.peers.gate import target_of
from headrace.http.peers.hop import Hop
from headrace.http.problems import NOT_OWNED, RETRY_AFTER, Problem, RawHeader, problem_of
from headrace.http.source import SAFE_METHODS, ReadSource

KEY_BYTES_MAX = 255
ANSWER_BYTES_MAX = 64 * 1024
"""Largest answer that is recorded: body and headers."""

_HEADER = b"idempotency-key"
_QUOTED = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\])+)"')
_BARE = re.compile(rb"[!#-+./0-:<-\[\]-~-]+")
_ESCAPE = re.compile(rb'\\(["\\])')
_OF_THE_TRANSFER = frozenset({b"transfer-encoding", b"connection", b"date"})
_POSITION = b"headrace-position"
_NOT_YET = Problem(503, "This worker takes no requests with a key yet.", RETRY_AFTER, error="Unavailable")
_VISIBLE = bytes(range(0x21, 0x7F)).decode()
_REPEATED: RawHeader = (b"idempotent-replayed", b"true")

Handle = Callable[[Claim], Awaitable[Response]]
"""Runs the endpoint in a scope that sends through this claim; the answer follows the commit."""
TokenOf = Callable[[Position], str | None]
"""What Headrace-Position says once it is known where the events of the request lie; None: nothing."""


def key_of(method: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key that a request names itself by; None without one, and for reads. Raises: MalformedKey."""
    if method in SAFE_METHODS:
        return None
    values = [value for name, value in headers if name == _HEADER]
    if not values:
        return None
    if len(values) > 1:
        raise MalformedKey("the request has more than one Idempotency-Key")
    value = values[0].strip(b" \t")
    if quoted := _QUOTED.fullmatch(value):
        key = _ESCAPE.sub(rb"\1", quoted[1])
    elif _BARE.fullmatch(value):
        key = value
    else:
        raise MalformedKey("the Idempotency-Key is neither a quoted string nor a word")
    if len(key) > KEY_BYTES_MAX:
        raise MalformedKey(f"the Idempotency-Key is longer than {KEY_BYTES_MAX} characters")
    return key


def fingerprint(method: str, target: bytes, body: bytes) -> bytes:
    """What tells two requests under one key apart: method, path with query, and body."""
    digest = blake2b(digest_size=16)
    for part in (method.encode(), target, body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def recordable(response: Response, token_of: TokenOf) -> AnswerOf | None:
    """Makes of an endpoint's response what is recorded; None for a failure, of which nothing is.

    Raises: UnrecordableAnswer for a stream or a file, and for more than `ANSWER_BYTES_MAX`.
    """
    status = response.status_code
    if status >= 500:
        return None
    body = getattr(response, "body", None)
    if not isinstance(body, bytes | memoryview):
        raise UnrecordableAnswer("the answer is a stream, which cannot be recorded; nothing was sent")
    headers = tuple(
        (name, value)
        for name, value in response.raw_headers
        if name not in _OF_THE_TRANSFER and name != _POSITION
    )
    size = len(body) + sum(len(name) + len(value) for name, value in headers)
    if size > ANSWER_BYTES_MAX:
        raise UnrecordableAnswer(
            f"the answer has {size} bytes, and {ANSWER_BYTES_MAX} can be recorded; nothing was sent"
        )

    def answer(position: Position) -> Answer:
        token = token_of(position)
        named = headers if token is None else (*headers, (_POSITION, token.encode()))
        return Answer(status, named, bytes(body))

    return answer


class KeyedRequests:
    """Answers requests with a key: by the endpoint, by the record, or by the worker that owns the key."""

    def __init__(self, source: ReadSource, hop: Hop) -> None:
        self._source = source
        self._hop = hop

    def key(self, scope: Scope) -> bytes | Problem | None:
        """The key of a request; a problem where the header holds none."""
        try:
            return key_of(scope["method"], scope["headers"])
        except MalformedKey as error:
            if self._source.reception is not None:
                self._source.reception.note_refusal()
            return problem_of(error)

    async def respond(
        self, key: bytes, handle: Handle, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> int:
        """Answer a request with this key, whose body has arrived; the result is the status."""
        reception = self._source.reception
        if reception is None:
            return await _NOT_YET.send(send)
        peer = self._source.peer(NAME, reception.partition(key))
        if peer is None:
            return await NOT_OWNED.send(send)
        if not peer.is_self:
            return await self._hop.forward(peer, scope, body, send)
        try:
            return await self._answer(reception, key, handle, scope, body, receive, send)
        except Exception as error:  # noqa: BLE001  (it is mapped to an answer, and logged there)
            return await problem_of(error).send(send)

    async def _answer(
        self,
        reception: Reception,
        key: bytes,
        handle: Handle,
        scope: Scope,
        body: bytes,
        receive: Receive,
        send: Send,
    ) -> int:
        # Written as it is for the hop, so that a repeat is known whichever way it comes.
        target = quote_from_bytes(target_of(scope), _VISIBLE).encode()
        async with reception.claimed(key, fingerprint(scope["method"], target, body)) as claim:
            if claim.recorded is not None:
                return await _repeat(claim.recorded, send)
            response = await handle(claim)
        await response(scope, receive, send)
        return response.status_code


async def _repeat(answer: Answer, send: Send) -> int:
    headers = [*answer.headers, _REPEATED]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
    return answer.status
