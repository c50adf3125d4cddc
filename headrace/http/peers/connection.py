"""One kept connection to another worker: one request and its answer at a time."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Protocol

from headrace.http.peers.answer import Answer, AnswerParser, BadAnswer
from headrace.http.peers.place import Place

_UNREAD_BYTES_MAX = 64 * 1024


class ConnectionEnded(Exception):
    """The connection broke before the answer was complete.

    `is_stale`: it had been used before, and broke before anything came back; a worker that closed it
    while it was idle looks like that. `was_sent`: whether the request was on its way by then.
    """

    def __init__(self, why: str, *, is_stale: bool = False, was_sent: bool = True) -> None:
        super().__init__(why)
        self.is_stale = is_stale
        self.was_sent = was_sent


class Connection(asyncio.Protocol):
    """Asks and takes the answer; whatever does not go as it should closes it for good."""

    def __init__(self) -> None:
        self.is_open = False
        self.exchanges = 0
        """How many requests were answered in full over it."""
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser: AnswerParser | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._is_streaming = False
        self._unread_bytes = 0

    async def ask(self, request: bytes, *, is_head: bool, body_bytes_max: int) -> Answer:
        """Send a request, and take its whole answer.

        Cancel: closes the connection; the request may have been handled. Raises: ConnectionEnded,
        BadAnswer.
        """
        parser = self._begin(request, is_head, body_bytes_max)
        try:
            while not parser.is_done:
                await self._more()
        except BaseException:
            self.close()
            raise
        return Answer(parser.status, parser.headers, self._end(parser))

    async def begin(self, request: bytes, *, body_bytes_max: int) -> Answer:
        """Send a request, and take the head of its answer; `rest` gives the body. Raises: as `ask`."""
        parser = self._begin(request, False, body_bytes_max)
        self._is_streaming = True
        try:
            while not parser.status:
                await self._more()
        except BaseException:
            self.close()
            raise
        return Answer(parser.status, parser.headers, b"")

    async def rest(self) -> AsyncIterator[bytes]:
        """The body of the answer, part by part, as fast as it is taken. Raises: as `ask`."""
        parser = self._parser
        assert parser is not None
        try:
            while True:
                part, parser.parts = b"".join(parser.parts), []
                if part:
                    self._unread_bytes = 0
                    if self._transport is not None:
                        self._transport.resume_reading()
                    yield part
                elif parser.is_done:
                    break
                else:
                    await self._more()
        except BaseException:
            self.close()
            raise
        self._end(parser)

    def close(self) -> None:
        """Close it, whatever it is doing."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def _begin(self, request: bytes, is_head: bool, body_bytes_max: int) -> AnswerParser:
        if not self.is_open or self._transport is None:
            raise ConnectionEnded("the connection is closed", is_stale=True, was_sent=False)
        self._parser = AnswerParser(is_head=is_head, body_bytes_max=body_bytes_max)
        self._transport.write(request)
        return self._parser

    async def _more(self) -> None:
        if not self.is_open:
            raise ConnectionEnded("the connection was closed")
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _end(self, parser: AnswerParser) -> bytes:
        self._parser, self._is_streaming, self._unread_bytes = None, False, 0
        self.exchanges += 1
        if parser.is_last:
            self.close()
        return parser.parts[0] if len(parser.parts) == 1 else b"".join(parser.parts)

    def _wake(self, error: Exception | None = None) -> None:
        if self._waiting is None or self._waiting.done():
            return
        if error is None:
            self._waiting.set_result(None)
        else:
            self._waiting.set_exception(error)

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport, self.is_open = transport, True

    def data_received(self, data: bytes) -> None:
        """Something has come."""
        parser = self._parser
        if parser is None:
            # Nobody has asked: whatever this is, it is no answer to what will be asked next.
            self.close()
            return
        try:
            parser.feed(data)
        except BadAnswer as error:
            self.close()
            self._wake(error)
            return
        if self._is_streaming:
            self._unread_bytes += len(data)
            if self._unread_bytes > _UNREAD_BYTES_MAX and self._transport is not None:
                self._transport.pause_reading()
        if self._is_streaming or parser.is_done:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, by whomever."""
        self.is_open, self._transport = False, None
        is_stale = self.exchanges > 0 and self._parser is not None and not self._parser.status
        self._wake(ConnectionEnded(str(exc) if exc else "the connection was closed", is_stale=is_stale))


class Dial(Protocol):
    """Opens a connection to a place."""

    async def __call__(self, place: Place) -> Connection:
        """Raises: OSError."""


def dial_with(context: ssl.SSLContext | None, server_name: str) -> Dial:
    """Opens connections over TCP, encrypted where there is a context."""

    async def dial(place: Place) -> Connection:
        name = (server_name or place.host) if context is not None else None
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection, place.host, place.port, ssl=context, server_hostname=name
        )
        return connection

    return dial
