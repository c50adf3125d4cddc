"""httptools' parser as uvicorn drives it, with bounds on what it leaves unbounded."""

from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from headrace.http.bounded import BoundedConnection, Bounds
from headrace.http.direct import DirectReads

_SPOKEN = frozenset({"1.0", "1.1"})


class _BoundedHttpTools(BoundedConnection, HttpToolsProtocol):
    """One connection that httptools parses.

    httptools itself takes a head of any size. What arrived whole is judged by the application, to the
    byte; this only keeps the rest from piling up.
    """

    direct: ClassVar[DirectReads | None] = None
    """Answers what it can in front of the application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_in_head = True
        self._head_bytes = 0
        self._may_be_direct = self.direct is not None

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        # One of what comes together: what is behind it waits for its turn, as pipelined requests do.
        self._may_be_direct = self.direct is not None
        super().data_received(data)
        if self._is_in_head and self._head_bytes > self.bounds.head_bytes_max:
            self.transport.close()

    def on_message_begin(self) -> None:
        # The chunk in which a head begins may hold the end of another request: it does not count.
        self._is_in_head, self._head_bytes = True, 0
        self._rests_since_s = None
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_header(self, name: bytes, value: bytes) -> None:
        # The trailer of a chunked body comes this way, too, and is no part of the head (RFC 9110, 6.5.1).
        if self._is_in_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        version = self.parser.get_http_version()
        if version not in _SPOKEN:
            raise ValueError("this is another version of HTTP")  # the parser's caller answers with 400
        if not self._may_be_direct or version == "1.0" or not self._answer_at_once():
            self._enter_application()

    def _enter_application(self) -> None:
        # What uvicorn makes for each request is made now, for those that need it.
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self.cycle is not None:  # a request that was answered at once has none
            super().on_message_complete()

    def _answer_at_once(self) -> bool:
        """Whether a whole answer is on its way, and the connection as it is behind any other answer."""
        assert self.direct is not None
        self._may_be_direct = False
        is_plain = self.parser.get_method() == b"GET" and not self.expect_100_continue
        if not is_plain or not self.parser.should_keep_alive() or self.parser.should_upgrade():
            return False
        if self.is_busy or self.transport.is_closing() or self.flow.write_paused or self._is_crowded():
            return False
        answer = self.direct.answer(self.url, self.headers, self.server_state.default_headers)
        if answer is None:
            return False
        self.answer_whole(answer)
        return True

    def _is_crowded(self) -> bool:
        # Then uvicorn refuses the request.
        limit = self.limit_concurrency
        return limit is not None and max(len(self.connections), len(self.tasks)) >= limit


def bounded_httptools(of_server: Bounds, reads: DirectReads | None = None) -> type[HttpToolsProtocol]:
    """A protocol class for the connections of one server; these `reads` are asked before the application."""

    class BoundedHttpTools(_BoundedHttpTools):
        bounds, idle, direct = of_server, {}, reads

    return BoundedHttpTools
