"""The HTTP/1.1 parser of uvicorn, with bounds on a request head that never ends."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.http.certified import state_of
from headrace.http.joining import JoiningTransport


def bounded_protocol(head_bytes_max: int, head_timeout_s: float) -> type[HttpToolsProtocol]:
    """A protocol class that drops a connection whose request head is too long or too slow.

    httptools itself takes a head of any size, and uvicorn waits for it for ever. What arrived whole
    is judged by the application, to the byte; this only keeps the rest from piling up.
    """

    class BoundedProtocol(HttpToolsProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._is_in_head = True
            self._head_bytes = 0
            self._head_timeout: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(JoiningTransport(transport, self.loop))
            self.app_state = state_of(transport, self.app_state)
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_arrived()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            self._head_bytes += len(data)
            super().data_received(data)
            if not self._is_in_head or self.transport.is_closing():
                return
            if self._head_bytes > head_bytes_max:
                self.transport.close()
            else:
                self._await_head()

        def on_message_begin(self) -> None:
            # The chunk in which a head begins may hold the end of another request: it does not count.
            self._is_in_head, self._head_bytes = True, 0
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._is_in_head = False
            if self._head_timeout is not None:
                self._head_arrived()
            super().on_headers_complete()

        def _await_head(self) -> None:
            if self._head_timeout is None:
                self._head_timeout = self.loop.call_later(head_timeout_s, self.transport.close)

        def _head_arrived(self) -> None:
            if self._head_timeout is not None:
                self._head_timeout.cancel()
                self._head_timeout = None

    return BoundedProtocol
