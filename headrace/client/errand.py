"""One request of a client until it has its answer: what is sent next, where to, and after how long.

Nothing here waits or sends, so that the client with a loop and the one without share it.
"""

import random
import uuid
from email.utils import parsedate_to_datetime

import httpx
import msgspec

from headrace.client.session import Session
from headrace.client.workers import Workers
from headrace.errors import ForeignToken, MalformedToken, PositionError, UntrueToken

KEY = "Idempotency-Key"
POSITION = "Headrace-Position"
READ_BYTES_MAX = 4 * 1024 * 1024
"""Answers of up to this size are read before they are handed on, so that a cut one is asked for again."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_BACKOFF_S = 0.05
_BACKOFF_MAX_S = 1.0
_SPREAD = 1.2
"""A wait takes up to this much longer, so that not everybody is back in the same moment."""
_AGAIN = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)
_REFUSALS: dict[str, type[PositionError]] = {
    cls.__name__: cls for cls in (ForeignToken, UntrueToken, MalformedToken)
}


class _Problem(msgspec.Struct):
    """What of an RFC 9457 document is read."""

    error: str = ""
    detail: str = ""


class Errand:
    """One request. `next_request` says what is sent; `failed` and `answered` whether it is sent again."""

    def __init__(
        self, request: httpx.Request, session: Session, workers: Workers, *, now_s: float, patience_s: float
    ) -> None:
        self._request = request
        self._session = session
        self._workers = workers
        self._until_s = now_s + patience_s
        self._turn = list(workers.in_turn(now_s))
        self._worker = self._turn[0]
        self._rounds = 0
        given = request.headers.get(POSITION)
        if given:
            session.saw(given)
        self._key = request.headers.get(KEY)
        if self._key is None and request.method not in _SAFE_METHODS:
            # The same on every attempt: whichever of them arrives, it is handled once.
            self._key = f'"{uuid.uuid4()}"'

    def next_request(self) -> httpx.Request:
        """The request as it is sent now; its body must have been read."""
        self._worker = self._turn.pop(0)
        headers = self._request.headers.copy()
        position = self._session.position
        if position is not None:
            headers[POSITION] = position
        if self._key is not None:
            headers[KEY] = self._key
        url = self._workers.at(self._worker, self._request.url)
        if headers.get("Host") == self._request.url.netloc.decode("ascii"):
            headers["Host"] = url.netloc.decode("ascii")
        return httpx.Request(
            self._request.method,
            url,
            headers=headers,
            stream=self._request.stream,
            extensions=self._request.extensions,
        )

    def failed(self, error: httpx.TransportError, now_s: float) -> float:
        """How long to wait before the next attempt. Raises: the error, when there is to be none."""
        if not isinstance(error, _AGAIN):
            raise error
        self._workers.note_silence(self._worker, now_s)
        wait_s = self._wait_s(now_s, min(_BACKOFF_S * 2 ** min(self._rounds, 10), _BACKOFF_MAX_S))
        if wait_s is None:
            raise error
        return wait_s

    def answered(self, response: httpx.Response, now_s: float) -> float | None:
        """How long to wait before the next attempt; None: this is the answer.

        What the answer says of its position is noted. Raises: MalformedToken, ForeignToken.
        """
        self._workers.note_answer(self._worker)
        position = response.headers.get(POSITION)
        if position:
            self._session.saw(position)
        after_s = _retry_after_s(response) if response.status_code == 503 else None
        return None if after_s is None else self._wait_s(now_s, after_s)

    def _wait_s(self, now_s: float, round_s: float) -> float | None:
        """Nothing while there is a worker that was not asked in this round; None beyond the patience."""
        if self._turn:
            return 0.0 if now_s < self._until_s else None
        wait_s = random.uniform(1.0, _SPREAD) * round_s
        if now_s + wait_s >= self._until_s:
            return None
        self._turn, self._rounds = list(self._workers.in_turn(now_s + wait_s)), self._rounds + 1
        return wait_s


def refusal(response: httpx.Response) -> PositionError | None:
    """The named error behind an answer that does not take the position; None for any other answer.

    Shape: the body must have been read.
    """
    if response.status_code not in (400, 409):
        return None
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return None
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.MsgspecError:
        return None
    known = _REFUSALS.get(problem.error)
    return known(problem.detail or f"the position is refused with {response.status_code}") if known else None


def is_read_here(response: httpx.Response) -> bool:
    """Whether the body is read before the answer is handed on; streams are not."""
    length = response.headers.get("content-length", "")
    return length.isascii() and length.isdigit() and int(length) <= READ_BYTES_MAX


def whole(response: httpx.Response, raw: bytes) -> httpx.Response:
    """The same answer with its body, which was read."""
    return httpx.Response(
        response.status_code, headers=response.headers, content=raw, extensions=response.extensions
    )


def _retry_after_s(response: httpx.Response) -> float | None:
    """What Retry-After says, in seconds; None without one: trying again is of no use."""
    value = response.headers.get("retry-after")
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at, now = parsedate_to_datetime(value), parsedate_to_datetime(response.headers["date"])
    except (KeyError, ValueError):
        return _BACKOFF_MAX_S
    return max(0.0, (at - now).total_seconds())
