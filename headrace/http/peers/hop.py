"""One hop to the worker that owns what was asked for, and its answer; never two."""

import asyncio
import logging
import re
import secrets
import ssl
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import NamedTuple
from urllib.parse import quote_from_bytes

from starlette.types import Scope, Send

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.errors import PeerError, PeerUnproven, PeerUnreachable
from headrace.flow.members import Peer
from headrace.http.peers.answer import Answer, BadAnswer
from headrace.http.peers.connection import Connection, ConnectionEnded, Dial, dial_with
from headrace.http.peers.figures import HopFigures, HopKind
from headrace.http.peers.gate import GREETING_PATH, target_of
from headrace.http.peers.headers import Rules, answered_of, asked_of, requesting
from headrace.http.peers.place import parse_place
from headrace.http.peers.pool import Pool
from headrace.http.peers.proof import HOP, PROOF, Proofs, name_of
from headrace.http.problems import NOT_OWNED, RETRY_AFTER, Problem, RawHeader, bad_request
from headrace.http.source import ReadSource
from headrace.http.tls import peer_context

logger = logging.getLogger("headrace.http")

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_BODILESS = frozenset({204, 304})
_METHOD = re.compile(r"[A-Z]{1,20}")
_TARGET = re.compile(rb"/[\x21-\x7e]*")
_VISIBLE = bytes(range(0x21, 0x7F)).decode()
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_PASSED_ON = re.compile("2..|304|4..|5..")

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
_UNSENDABLE = bad_request("A header of this request holds what cannot be passed on.")


class Unsendable(ValueError):
    """What is to be sent would not be one request on the wire."""


class Request(NamedTuple):
    """What another worker is asked."""

    method: str
    target: bytes
    """Path and query."""
    headers: Sequence[RawHeader] = ()
    body: bytes = b""
    kind: HopKind = HopKind.REQUEST


class Hop:
    """The way to the other workers of the app.

    It goes to members of the group only, at the address that they announced, and only after whoever
    answers there has said, and where there is a secret proved, that it is that member.
    """

    def __init__(self, source: ReadSource, *, dial: Dial | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        settings = source.settings
        self.figures = HopFigures()
        self._source = source
        self._settings = settings
        self._clock = clock
        self._proofs = Proofs(settings.peer_secret)
        self._is_proven = self._proofs.are_made or bool(settings.peer_ca_file)
        self._dial = dial or dial_with(peer_context(settings), settings.peer_tls_name)
        self._rules = requesting(settings.peer_request_headers, settings.peer_answer_headers)
        self._pools: dict[str, tuple[str, Pool]] = {}
        self._failing: set[str] = set()
        """Instances of which it was told that they cannot be asked."""

    def close(self) -> None:
        """Let go of every connection that nobody uses."""
        for _, pool in self._pools.values():
            pool.close()
        self._pools.clear()

    async def forward(self, peer: Peer, scope: Scope, body: bytes, send: Send) -> int:
        """Let that worker answer this request; the result is the status.

        A request that came from another worker is not forwarded again. Where there is no answer a
        problem is sent, which says if the request may have been handled all the same.
        """
        headers = self.asked(scope["headers"], self._rules)
        target = quote_from_bytes(target_of(scope), _VISIBLE).encode()
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
            return await _UNSENDABLE.send(send)
        except PeerError as error:
            return await problem_for(error, request.method).send(send)
        headers = answered_of(answer.headers, rules.answered)
        length = b"%d" % len(answer.body)
        if request.method == "HEAD":
            length = answer.first(b"content-length") or b""
        if answer.status not in _BODILESS and length.isdigit():
            headers.append((b"content-length", length))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        return answer.status

    def asked(self, headers: Iterable[RawHeader], rules: Rules) -> list[RawHeader]:
        """What of the headers of a client's request another worker gets."""
        return asked_of(headers, rules.asked, is_proven=self._is_proven)

    async def ask(self, peer: Peer, request: Request, *, wait_s: float = 0.0) -> Answer:
        """The whole answer of another worker.

        Cancel: the request may have been handled. Raises: PeerUnreachable, PeerUnproven; Unsendable.
        """
        began, sent = perf_counter(), _Sent()
        try:
            async with asyncio.timeout(self._settings.peer_timeout_s + wait_s):
                answer = await self._asked(peer, request, sent)
        except (OSError, TimeoutError, ConnectionEnded, BadAnswer) as error:
            raise self._unreachable(peer, request.kind, error, was_sent=sent.was_sent) from error
        except PeerError as error:
            raise self.noted(peer, request.kind, error) from error.__cause__
        self.figures.answered(request.kind, perf_counter() - began)
        self._failing.discard(peer.instance)
        return answer

    async def begin(self, peer: Peer, request: Request) -> tuple[Connection, Answer]:
        """A connection of its own, on which that worker has begun to answer; the caller closes it.

        Raises: as `ask`.
        """
        began = perf_counter()
        try:
            async with asyncio.timeout(self._settings.peer_timeout_s):
                connection = await self._pool(peer).open_apart()
                try:
                    raw = self._raw(peer, request)
                    answer = await connection.begin(raw, body_bytes_max=2**62)
                except BaseException:
                    connection.close()
                    raise
        except (OSError, TimeoutError, ConnectionEnded, BadAnswer) as error:
            raise self._unreachable(peer, request.kind, error) from error
        except PeerError as error:
            raise self.noted(peer, request.kind, error) from error.__cause__
        self.figures.answered(request.kind, perf_counter() - began)
        return connection, answer

    async def _asked(self, peer: Peer, request: Request, sent: "_Sent") -> Answer:
        pool = self._pool(peer)
        is_retry = False
        while True:
            connection = await pool.take(is_fresh=is_retry)
            try:
                raw = self._raw(peer, request)
                sent.was_sent = True
                answer = await connection.ask(
                    raw,
                    is_head=request.method == "HEAD",
                    body_bytes_max=self._settings.peer_answer_bytes_max,
                )
            except ConnectionEnded as error:
                sent.was_sent = error.was_sent
                # A kept connection may end just as it is used. What was not sent is sent once more, and
                # a read to which nothing was answered; whether a write may be repeated others know.
                may_repeat = not error.was_sent or request.method in _SAFE_METHODS
                if is_retry or not error.is_stale or not may_repeat:
                    raise
                is_retry = True
            else:
                if not _PASSED_ON.fullmatch(str(answer.status)) or answer.status == 421:
                    raise BadAnswer(f"{answer.status} is no answer to a client")
                return answer
            finally:
                pool.give_back(connection)

    def _pool(self, peer: Peer) -> Pool:
        if self._settings.tokens and not self._is_proven:
            raise PeerUnproven(f"the token of a client is not shown to {peer.instance}")
        known = self._pools.get(peer.instance)
        if known is not None and known[0] == peer.address:
            return known[1]
        if peer.address is None:
            raise PeerUnreachable(f"the address of {peer.instance} is not known yet")
        if parse_place(peer.address) is None:
            raise PeerUnreachable(f"{peer.instance} announces {peer.address[:80]!r}, which is no address")
        if known is not None:
            known[1].close()
        # Somebody is new or has moved, so somebody else may have left. Who has not is connected again.
        for name in [name for name, (_, pool) in self._pools.items() if not pool.is_used]:
            self._pools.pop(name)[1].close()
        instance, address = peer.instance, peer.address
        pool = Pool(
            lambda: self._open(instance, address), connections_max=self._settings.peer_connections_max
        )
        self._pools[instance] = address, pool
        return pool

    async def _open(self, instance: str, address: str) -> Connection:
        """A connection to whoever has said that it is this worker. Raises: PeerUnproven, OSError."""
        place = parse_place(address)
        assert place is not None
        async with asyncio.timeout(self._settings.peer_connect_timeout_s):
            try:
                connection = await self._dial(place)
            except ssl.SSLCertVerificationError as error:
                raise PeerUnproven(
                    f"the certificate at {address} is not that of a worker: {error}"
                ) from error
            try:
                await self._greet(connection, instance, address)
            except BaseException:
                connection.close()
                raise
        return connection

    async def _greet(self, connection: Connection, instance: str, address: str) -> None:
        to = name_of(self._source.app_id, instance)
        target = GREETING_PATH + b"?once=" + secrets.token_hex(16).encode()
        head = _request_head("GET", target, address, self._hop_header(to, "GET", target))
        answer = await connection.ask(head, is_head=False, body_bytes_max=4096)
        if answer.status == 403:
            raise PeerUnproven(
                f"{instance} at {address} does not take this worker's proof",
                hint="Compare HEADRACE_PEER_SECRET at both, and their clocks.",
            )
        proof = answer.first(PROOF)
        if answer.status != 204 or proof is None:
            raise PeerUnreachable(f"who answers at {address} is not {instance}")
        if not self._proofs.is_identity(proof, to, target, address.encode()):
            raise PeerUnproven(f"who answers at {address} does not prove to be {instance}")

    def _raw(self, peer: Peer, request: Request) -> bytes:
        """The request on the wire. Raises: Unsendable."""
        to = name_of(self._source.app_id, peer.instance)
        headers = [*request.headers, *self._hop_header(to, request.method, request.target)]
        if request.body or request.method not in _SAFE_METHODS:
            headers.append((b"content-length", b"%d" % len(request.body)))
        return _request_head(request.method, request.target, peer.address or "", headers) + request.body

    def _hop_header(self, to: bytes, method: str, target: bytes) -> list[RawHeader]:
        return [(HOP, self._proofs.hop(to, int(self._clock.time() * 1000), method, target))]

    def _unreachable(
        self, peer: Peer, kind: HopKind, error: Exception, *, was_sent: bool = False
    ) -> PeerUnreachable:
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        what = f"{peer.instance} at {peer.address} cannot be asked: {why}"
        self.figures.failed(kind, type(error).__name__)
        self._tell(peer, what)
        return PeerUnreachable(what, was_sent=was_sent)

    def noted(self, peer: Peer, kind: HopKind, error: PeerError) -> PeerError:
        """The same error, counted, and told of once."""
        self.figures.failed(kind, type(error).__name__)
        self._tell(peer, str(error))
        return error

    def _tell(self, peer: Peer, what: str) -> None:
        if peer.instance not in self._failing:
            self._failing.add(peer.instance)
            logger.warning("Requests for other workers fail: %s", what)


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
    return _UNKNOWN if error.was_sent and method not in _SAFE_METHODS else _UNREACHABLE


def _request_head(method: str, target: bytes, host: str, headers: Iterable[RawHeader]) -> bytes:
    """The head of one request, and of no more than one. Raises: Unsendable."""
    if not _METHOD.fullmatch(method) or not _TARGET.fullmatch(target):
        raise Unsendable("method or target")
    lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method.encode(), target, host.encode())]
    for name, value in headers:
        if not _VALUE.fullmatch(value):
            raise Unsendable(name.decode("latin-1"))
        lines.append(b"%b: %b\r\n" % (name, value))
    lines.append(b"\r\n")
    return b"".join(lines)
