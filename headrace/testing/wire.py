"""The way between workers in one process: a request of one is answered by the application of the other."""

from collections.abc import Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from headrace.http.application import Application
from headrace.http.peers.answer import Answer
from headrace.http.peers.connection import Connection, ConnectionEnded

Door = Callable[[], Application | None]
"""The application of a worker as it lives now; None while it does not."""


class Wire(Connection):
    """A connection without a socket: it breaks when the worker at its end is gone."""

    def __init__(self, door: Door) -> None:
        super().__init__()
        self.is_open = True
        self._door = door
        self._application = door()

    async def ask(self, request: bytes, *, is_head: bool, body_bytes_max: int) -> Answer:
        """Let the other worker answer."""
        application = self._door()
        if application is None or application is not self._application:
            self.close()
            raise ConnectionEnded("the worker is gone", is_stale=True, was_sent=False)
        sent: list[MutableMapping[str, Any]] = []
        scope, body = _parsed(request)

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await application(scope, receive, send)
        self.exchanges += 1
        content = b"" if is_head else b"".join(message.get("body", b"") for message in sent[1:])
        return Answer(sent[0]["status"], tuple(sent[0]["headers"]), content)

    async def begin(self, request: bytes, *, body_bytes_max: int) -> Answer:
        """Streams stay with the worker that is asked."""
        raise ConnectionEnded("a harness carries no streams from one worker to another")


def _parsed(request: bytes) -> tuple[dict[str, Any], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    method, target, _ = line.split(b" ")
    path, _, query = target.partition(b"?")
    headers = [tuple(field.split(b": ", 1)) for field in fields]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method.decode(),
        "scheme": "http",
        "path": unquote_to_bytes(path).decode(errors="replace"),
        "raw_path": path,
        "query_string": query,
        "headers": headers,
        "client": None,
        "server": None,
    }, body
