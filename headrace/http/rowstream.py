"""`GET {path}/{key}` as text/event-stream: the row at each commit that changed it, woken by that commit."""

import asyncio

import msgspec
from starlette.types import Receive, Send

from headrace.errors import HeadraceError, StillRecovering
from headrace.http.consistency import POSITION, Asked
from headrace.http.problems import RECOVERING, Problem, problem_of
from headrace.http.reads import ELSEWHERE, PointReads, token_bytes
from headrace.http.source import ReadSource
from headrace.http.sse import StreamEnded, Streams, event
from headrace.tables.view import PartitionView, ViewState

_UNKNOWN = object()


class RowStreams:
    """Streams the rows of one table.

    Shape: `row` with the row as data, or `deleted` while there is none; the event id is the position
    token. The first event is the row as of now; `ended` with the error's name is the last.
    """

    def __init__(self, source: ReadSource, reads: PointReads, group: str, streams: Streams) -> None:
        self._source = source
        self._reads = reads
        self._group = group
        self._streams = streams

    async def respond(
        self, segment: bytes, is_head: bool, receive: Receive, send: Send, asked: Asked | None = None
    ) -> int:
        """Answer for the key in this percent-encoded path segment; what is asked for, its first row has.

        The result is the status, or ELSEWHERE.
        """
        place = self._reads.locate(segment)
        if isinstance(place, Problem):
            return await place.send(send)
        partition, store_key = place
        view = self._source.view(self._group, partition)
        if view is None:
            return ELSEWHERE
        waits = self._source.waits
        if asked is not None:
            try:
                asked = await waits.reach(asked, (view,))
            except Exception as error:  # noqa: BLE001  (it is mapped to an answer, and logged there)
                return await waits.problem(error, (view,)).send(send)
        try:
            self._reads.row(view, store_key)
            token = token_bytes(view.position, self._source.catalog, view.seen)
        except StillRecovering:
            return await RECOVERING.send(send)
        except Exception as error:  # noqa: BLE001  (it is mapped to an answer, and logged there)
            return await problem_of(error).send(send)
        more = [(POSITION, token), *(waits.headers(asked, (view,)) if asked is not None else ())]
        if is_head:
            head = [(b"content-type", b"text/event-stream"), *more]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": b""})
            return 200
        rows = _Rows(self._source, view, self._reads, store_key)
        return await self._streams.respond(rows, STOPPING, receive, send, *more)


class _Rows:
    """One row as one stream sees it; what it sent last is all it remembers."""

    def __init__(self, source: ReadSource, view: PartitionView, reads: PointReads, store_key: bytes) -> None:
        self._source = source
        self._view = view
        self._reads = reads
        self._store_key = store_key
        self._sent: object = _UNKNOWN

    @property
    def changed(self) -> asyncio.Event:
        """The partition's own signal, set by each commit."""
        return self._view.changed

    def next(self) -> bytes | None:
        """The row if it is another one than before."""
        view = self._view
        if view.state is ViewState.RESTORING:
            # Taken over again by this worker: the row follows when the partition is served.
            return None
        try:
            row = self._reads.row(view, self._store_key)
        except HeadraceError as error:
            problem = problem_of(error)
            raise StreamEnded(event("ended", problem.body)) from error
        if row == self._sent:
            return None
        self._sent = row
        token = token_bytes(view.position, self._source.catalog, view.seen)
        return event("deleted", b"null", token) if row is None else event("row", row, token)


def ended(error: str, detail: str) -> bytes:
    """The last event of a stream, in the shape of a problem document."""
    body = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": detail}
    return event("ended", msgspec.json.encode({**body, "error": error}))


STOPPING = ended("WorkerStopping", "This worker stops; ask again, and another one may answer.")
"""The last event of the streams of a worker that stops."""
