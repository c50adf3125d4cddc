"""httptools' parser as uvicorn drives it, with bounds on what it leaves unbounded."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.http.bounded import BoundedConnection, Bounds

_SPOKEN = frozenset({"1.0", "1.1"})


def bounded_httptools(of_server: Bounds) -> type[HttpToolsProtocol]:
    """A protocol class for the connections of one server.

    httptools itself takes a head of any size. What arrived whole is judged by the application, to the
    byte; this only keeps the rest from piling up.
    """

    class BoundedHttpTools(BoundedConnection, HttpToolsProtocol):
        bounds, idle = of_server, {}

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._is_in_head = True
            self._head_bytes = 0

        def data_received(self, data: bytes) -> None:
            self._head_bytes += len(data)
            super().data_received(data)
            if self._is_in_head and self._head_bytes > self.bounds.head_bytes_max:
                self.transport.close()

        def on_message_begin(self) -> None:
            # The chunk in which a head begins may hold the end of another request: it does not count.
            self._is_in_head, self._head_bytes = True, 0
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            # The trailer of a chunked body comes this way, too, and is no part of the head (RFC 9110, 6.5.1).
            if self._is_in_head:
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._is_in_head = False
            if self.parser.get_http_version() not in _SPOKEN:
                raise ValueError("this is another version of HTTP")  # the parser's caller answers with 400
            super().on_headers_complete()

    return BoundedHttpTools
