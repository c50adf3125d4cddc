"""The application, held against what is answered in front of it."""

from collections.abc import Sequence

from starlette.types import Message, Receive, Scope, Send

from headrace.http.application import Application, build_application
from headrace.http.source import ReadSource


class Judged:
    """The application; whatever is answered in front of it must be what it answers itself."""

    def __init__(self, source: ReadSource, application: Application) -> None:
        self._application = application
        self._direct = None if source.shadows else build_application(source).direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        at_once = None
        if self._direct is not None and scope["method"] == "GET":
            query = scope["query_string"]
            url = scope["raw_path"] + (b"?" + query if query else b"")
            at_once = self._direct.answer(url, scope["headers"], ())
        sent: list[Message] = []

        async def keep(message: Message) -> None:
            sent.append(message)
            await send(message)

        await self._application(scope, receive, keep)
        if at_once is not None:
            assert at_once.partition(b"\r\n")[2] == as_written(sent)
            assert at_once.startswith(b"HTTP/1.1 %d " % sent[0]["status"])


def as_written(sent: Sequence[Message]) -> bytes:
    """The headers and the body of an answer, as they go over the wire."""
    lines = [b"%b: %b\r\n" % header for header in sent[0]["headers"]]
    return b"".join([*lines, b"\r\n", *(message["body"] for message in sent[1:])])
