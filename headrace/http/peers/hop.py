"""One hop to the worker that owns what was asked for, and its answer; never two."""

import asyncio
import logging
from collections.abc import Iterable
from time import perf_counter
from urllib.parse import quote_from_bytes

from starlette.types import Scope, Send

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.errors import PeerError, PeerUnproven, PeerUnreachable
from headrace.flow.members import Peer
from headrace.http.peers.answer import Answer, BadAnswer
from headrace.http.peers.connection import Connection, ConnectionEnded, Dial
from headrace.http.peers.figures import HopFigures, HopKind
from headrace.http.peers.gate import target_of
from headrace.http.peers.headers import READING, Rules, answered_of, asked_of, requesting
from headrace.http.peers.lines import Lines
from headrace.http.peers.proof import HOP
from headrace.http.peers.request import SAFE_METHODS, Request, Unsendable
from headrace.http.problems import NOT_OWNED, RETRY_AFTER, Problem, RawHeader, bad_request
from headrace.http.source import ReadSource

logger = logging.getLogger("headrace.http")

_BODILESS = frozenset({204, 304})
VISIBLE = bytes(range(0x21, 0x7F)).decode()
"""Characters that a target may hold as they are."""

_UNREACHABLE = Problem(
    503, "The worker that owns this does not answer.", RETRY_AFTER, error=PeerUnreachable.__name__
)
_UNPROVEN = Problem(
    503,
    "Another worker owns this, and nothing proves the workers of this app to each other: "
    "HEADRACE_PEER_SECRET is to be set.",
    RETRY_AFTER,
    error=PeerUnproven.__name__,
)
_UNKNOWN = Problem(
    503,
    "The worker that owns this did not answer; what the request asks for may have been done or not.",
    RETRY_AFTER,
    error=PeerUnreachable.__name__,
)
UNSENDABLE = bad_request("A header of this request holds what cannot be passed on.")


class Hop:
    """The way to the other workers of the app.

    It goes to members of the group only, at the address that they announced, and only after whoever
    answers there has said, and where there is a secret proved, that it is that member.
    """

    def __init__(self, source: ReadSource, *, dial: Dial | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        settings = source.settings
        self.figures = HopFigures()
        self._settings = settings
        self._lines = Lines(source, clock, dial)
        self._rules = requesting(settings.peer_request_headers, settings.peer_answer_headers)
        self.answer_bytes_max = settings.peer_answer_bytes_max
        """Largest answer that is taken."""
        self._failing: set[str] = set()
        """Instances of which it was told that they cannot be asked."""

    def close(self) -> None:
        """Let go of every connection that nobody uses."""
        self._lines.close()

    async def forward(self, peer: Peer, scope: Scope, body: bytes, send: Send) -> int:
        """Let that worker answer this request; the result is the status.

        A request that came from another worker is not forwarded again. Where there is no answer a
        problem is sent, which says if the request may have been handled all the same.
        """
        headers = self.asked(scope["headers"], self._rules)
        target = quote_from_bytes(target_of(scope), VISIBLE).encode()
        request = Request(scope["method"], target, headers, body)
        return await self.relay(peer, scope, request, self._rules, send)

    async def relay(
        self, peer: Peer, scope: Scope, request: Request, rules: Rules, send: Send, wait_s: float = 0.0
    ) -> int:
        """Ask that worker, and send on what the rules let through of its answer."""
        if is_hopped(scope):
            return await NOT_OWNED.send(send)
        try:
            answer = await self.ask(peer, request, wait_s=wait_s)
        except Unsendable:
            return await UNSENDABLE.send(send)
        except PeerError as error:
            return await problem_for(error, request.method).send(send)
        return await pass_on(answer, rules, request.method, send)

    async def finish(self, peer: Peer, connection: Connection, head: Answer, send: Send) -> int:
        """Send on an answer that was begun, and is no stream; the result is the status."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._settings.peer_timeout_s):
                async for part in connection.rest():
                    parts.append(part)
                    size += len(part)
                    if size > self.answer_bytes_max:
                        raise BadAnswer(f"it is larger than {self.answer_bytes_max} bytes")
        except (TimeoutError, ConnectionEnded, BadAnswer) as error:
            return await problem_for(self.unreachable(peer, HopKind.STREAM, error), "GET").send(send)
        return await pass_on(head._replace(body=b"".join(parts)), READING, "GET", send)

    def asked(self, headers: Iterable[RawHeader], rules: Rules) -> list[RawHeader]:
        """What of the headers of a client's request another worker gets."""
        return asked_of(headers, rules.asked, is_proven=self._lines.are_proven)

    async def ask(self, peer: Peer, request: Request, *, wait_s: float = 0.0) -> Answer:
        """The whole answer of another worker.

        Cancel: the request may have been handled. Raises: PeerUnreachable, PeerUnproven; Unsendable.
        """
        began, sent = perf_counter(), _Sent()
        try:
            async with asyncio.timeout(self._settings.peer_timeout_s + wait_s):
                answer = await self._asked(peer, request, sent, wait_s > 0)
        except (OSError, TimeoutError, ConnectionEnded, BadAnswer) as error:
            raise self.unreachable(peer, request.kind, error, was_sent=sent.was_sent) from error
        except PeerError as error:
            raise self._noted(peer, request.kind, error) from error.__cause__
        self.figures.answered(request.kind, perf_counter() - began)
        self._failing.discard(peer.instance)
        return answer

    async def begin(self, peer: Peer, request: Request, *, wait_s: float = 0.0) -> tuple[Connection, Answer]:
        """A connection of its own, on which that worker has begun to answer; the caller closes it.

        Raises: as `ask`.
        """
        began = perf_counter()
        try:
            async with asyncio.timeout(self._settings.peer_timeout_s + wait_s):
                connection = await self._lines.pool(peer).open_apart()
                try:
                    raw = self._lines.raw(peer, request)
                    answer = await connection.begin(raw, body_bytes_max=2**62)
                    _passable(answer, request.kind, connection)
                except BaseException:
                    connection.close()
                    raise
        except (OSError, TimeoutError, ConnectionEnded, BadAnswer) as error:
            raise self.unreachable(peer, request.kind, error) from error
        except PeerError as error:
            raise self._noted(peer, request.kind, error) from error.__cause__
        self.figures.answered(request.kind, perf_counter() - began)
        return connection, answer

    async def _asked(self, peer: Peer, request: Request, sent: "_Sent", may_wait: bool) -> Answer:
        pool = self._lines.pool(peer, may_wait=may_wait)
        is_retry = False
        while True:
            connection = await pool.take(is_fresh=is_retry)
            try:
                raw = self._lines.raw(peer, request)
                sent.was_sent = True
                answer = await connection.ask(
                    raw,
                    is_head=request.method == "HEAD",
                    body_bytes_max=self.answer_bytes_max,
                )
            except ConnectionEnded as error:
                sent.was_sent = error.was_sent
                # A kept connection may end just as it is used. What was not sent is sent once more, and
                # a read to which nothing was answered; whether a write may be repeated others know.
                may_repeat = not error.was_sent or request.method in SAFE_METHODS
                if is_retry or not error.is_stale or not may_repeat:
                    raise
                is_retry = True
            else:
                return _passable(answer, request.kind, connection)
            finally:
                pool.give_back(connection)

    def unreachable(
        self, peer: Peer, kind: HopKind, error: Exception, *, was_sent: bool = False
    ) -> PeerUnreachable:
        """What is to be raised where a worker gave no answer that can be used; counted, and told of once."""
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        what = f"{peer.instance} at {peer.address} cannot be asked: {why}"
        self.figures.failed(kind, type(error).__name__)
        self._tell(peer, what)
        return PeerUnreachable(what, was_sent=was_sent)

    def _noted(self, peer: Peer, kind: HopKind, error: PeerError) -> PeerError:
        """The same error, counted, and told of once."""
        self.figures.failed(kind, type(error).__name__)
        self._tell(peer, str(error))
        return error

    def _tell(self, peer: Peer, what: str) -> None:
        if peer.instance not in self._failing:
            self._failing.add(peer.instance)
            logger.warning("Requests for other workers fail: %s", what)


async def pass_on(answer: Answer, rules: Rules, method: str, send: Send) -> int:
    """Send what the rules let through of another worker's answer; the result is the status."""
    headers = answered_of(answer.headers, rules.answered)
    length = b"%d" % len(answer.body)
    if method == "HEAD":
        length = answer.first(b"content-length") or b""
    if answer.status not in _BODILESS and length.isdigit():
        headers.append((b"content-length", length))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
    return answer.status


def _passable(answer: Answer, kind: HopKind, connection: Connection) -> Answer:
    is_redirect = 300 <= answer.status < 400 and answer.status != 304
    # Only a route of the app may send its client elsewhere. 421 is for this worker, not for its client.
    if (is_redirect and kind is not HopKind.REQUEST) or answer.status == 421:
        connection.close()
        raise BadAnswer(f"{answer.status} is no answer to a client")
    return answer


class _Sent:
    """Whether a request may have reached the other side."""

    was_sent = False


def is_hopped(scope: Scope) -> bool:
    """Whether a request comes from another worker, or says so: it is not forwarded again."""
    return any(name == HOP for name, _ in scope["headers"])


def problem_for(error: PeerError, method: str) -> Problem:
    """What a client is told when another worker could not be asked."""
    if isinstance(error, PeerUnproven):
        return _UNPROVEN
    return _UNKNOWN if error.was_sent and method not in SAFE_METHODS else _UNREACHABLE
