"""Bounds on connections whose client does not send what it owes, or does not take what it asked for."""

import asyncio
from typing import Any, ClassVar, NamedTuple

from headrace.http.joining import JoiningTransport
from headrace.http.peers.gate import CERTIFIED

READ_BYTES_MIN = 64 * 1024
"""What a client reads of an answer in `http_send_timeout_s` at least: some 2 kB/s."""


class Bounds(NamedTuple):
    """What a client may take of a server."""

    head_bytes_max: int
    head_timeout_s: float
    """How long the head of a request may take; and what is left of a body whose request is answered."""
    send_timeout_s: float
    """How long an answer may wait for a client that does not read, or reads less than `READ_BYTES_MIN`."""
    connections_max: int
    """With so many open connections, the one that has been without a request for longest gives way."""


class BoundedConnection(asyncio.Protocol):
    """One connection, in front of uvicorn's protocol for a parser.

    uvicorn closes a connection that is silent between two requests. It waits for ever for a first
    request, for the rest of one that has begun, for the body of one that is answered already, and for
    a client that does not read its answer.
    """

    bounds: ClassVar[Bounds]
    idle: ClassVar["dict[BoundedConnection, None]"]
    """The connections of this server that have no request in hand, since longest first."""

    # What uvicorn's protocols have.
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    app_state: dict[str, Any]
    connections: set[Any]
    cycle: Any
    timeout_keep_alive: int
    server_state: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request_timeout: asyncio.TimerHandle | None = None
        self._send_timeout: asyncio.TimerHandle | None = None
        self._rest_timeout: asyncio.TimerHandle | None = None
        self._rests_since_s: float | None = None
        """When the last answer was given by `answer_whole`, if nothing has come since."""
        self._unsent_bytes = 0

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open: another one may have to give way, and a request is waited for."""
        assert isinstance(transport, asyncio.Transport)
        self._joining = JoiningTransport(transport, self.loop)
        super().connection_made(self._joining)
        self.app_state = state_of(self.transport, self.app_state)
        if len(self.connections) >= self.bounds.connections_max and self.idle:
            longest = next(iter(self.idle))
            del self.idle[longest]
            longest.transport.abort()
        self.idle[self] = None
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._request_is_there()
        for timeout in (self._send_timeout, self._rest_timeout):
            if timeout is not None:
                timeout.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something has come; whatever it is, a request has to come of it in time."""
        self._rests_since_s = None
        super().data_received(data)
        if self.is_busy:
            self._request_is_there()
        elif self.transport.is_closing():
            self._await_reader()
        elif self._request_timeout is None and self._rests_since_s is None:
            self._await_request()

    def answer_whole(self, answer: bytes) -> None:
        """Send an answer that has no cycle of uvicorn's; the next request may be taken."""
        self._request_is_there()
        self._joining.write_whole(answer)
        self.server_state.total_requests += 1
        self.idle[self] = None
        # uvicorn sets a timer behind each answer and cancels it with the next request; this one looks when
        # it is over whether it has to go on.
        self._rests_since_s = self.loop.time()
        if self._rest_timeout is None:
            self._rest_timeout = self.loop.call_later(self.timeout_keep_alive, self._judge_rest)

    def on_response_complete(self) -> None:
        """An answer is on its way, and the next request may be taken."""
        super().on_response_complete()  # type: ignore[misc]
        if self.transport.is_closing():
            self._await_reader()
        elif not self.is_busy:
            self.idle[self] = None

    def timeout_keep_alive_handler(self) -> None:
        """Nothing has come for too long."""
        self.transport.abort()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        self._unsent_bytes = 0

    def _judge_rest(self) -> None:
        self._rest_timeout = None
        if self._rests_since_s is None:
            return  # something has come, and another time-out is set for what is to come of it
        left_s = self._rests_since_s + self.timeout_keep_alive - self.loop.time()
        if left_s <= 0:
            self.timeout_keep_alive_handler()
        else:
            self._rest_timeout = self.loop.call_later(left_s, self._judge_rest)

    def _await_reader(self) -> None:
        self._unsent_bytes = self.transport.get_write_buffer_size()
        if self._send_timeout is None and self._unsent_bytes:
            self._send_timeout = self.loop.call_later(self.bounds.send_timeout_s, self._judge_reader)

    def _judge_reader(self) -> None:
        before, self._send_timeout = self._unsent_bytes, None
        unsent_bytes = self.transport.get_write_buffer_size()
        if before and unsent_bytes > before - READ_BYTES_MIN and unsent_bytes:
            self.transport.abort()
        else:
            self._await_reader()

    def _await_request(self) -> None:
        # What is not read by then is nothing anybody waits for: a `close` would wait for the client.
        self._request_timeout = self.loop.call_later(self.bounds.head_timeout_s, self.transport.abort)

    def _request_is_there(self) -> None:
        self.idle.pop(self, None)
        if self._request_timeout is not None:
            self._request_timeout.cancel()
            self._request_timeout = None


def state_of(transport: asyncio.Transport, state: dict[str, Any]) -> dict[str, Any]:
    """The state of the requests of a connection: whether its client has shown a certificate.

    The handshake has held it to who signs the workers' certificates, and nobody else's.
    """
    tls = transport.get_extra_info("ssl_object")
    return state if tls is None or not tls.getpeercert() else {**state, CERTIFIED: True}
