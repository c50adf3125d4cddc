"""Rows as streams that another worker sends: passed on event by event, never half of one."""

import asyncio

from starlette.types import Receive, Scope, Send

from headrace.errors import PeerError
from headrace.http.consistency import Asked
from headrace.http.peers.answer import Answer, BadAnswer
from headrace.http.peers.connection import Connection, ConnectionEnded
from headrace.http.peers.figures import HopKind
from headrace.http.peers.headers import OF_ROWS, answered_of
from headrace.http.peers.hop import UNSENDABLE, Hop, is_hopped, problem_for
from headrace.http.peers.request import Unsendable
from headrace.http.peers.routed import RoutedReads
from headrace.http.problems import NOT_OWNED, Problem
from headrace.http.rowstream import STOPPING, ended
from headrace.http.sse import TOO_MANY, StreamEnded, Streams

_EVENT_END = b"\n\n"
_STREAM = b"text/event-stream"
_OF_STREAMS = OF_ROWS - {b"content-type", b"cache-control"}
_UNREAD_BYTES_MAX = 256 * 1024
_BROKEN = ended("PeerUnreachable", "The worker that owns this row does not go on; ask again.")


class RoutedStreams:
    """`GET {path}/{key}` as a stream, for the partitions of one table that are not here."""

    def __init__(self, hop: Hop, reads: RoutedReads, streams: Streams) -> None:
        self._hop = hop
        self._reads = reads
        self._streams = streams

    async def respond(
        self, segment: bytes, scope: Scope, receive: Receive, send: Send, asked: Asked | None = None
    ) -> int:
        """Stream what the owner streams; the result is the status."""
        if scope["method"] == "HEAD":
            return await self._reads.respond(segment, scope, send, asked)
        peer = self._reads.owner(segment)
        if isinstance(peer, Problem):
            return await peer.send(send)
        if is_hopped(scope):
            return await NOT_OWNED.send(send)
        if not self._streams.has_room:
            return await TOO_MANY.send(send)
        request, wait_s, send = self._reads.request(segment, scope, send, asked, HopKind.STREAM)
        try:
            connection, head = await self._hop.begin(peer, request, wait_s=wait_s)
        except Unsendable:
            return await UNSENDABLE.send(send)
        except PeerError as error:
            return await problem_for(error, "GET").send(send)
        try:
            if head.status == 200 and head.first(b"content-type") == _STREAM:
                return await self._pass_on(connection, head, receive, send)
            return await self._hop.finish(peer, connection, head, send)
        finally:
            connection.close()

    async def _pass_on(self, connection: Connection, head: Answer, receive: Receive, send: Send) -> int:
        row = _RemoteRow(self._hop.answer_bytes_max)
        pump = asyncio.create_task(row.read(connection), name="stream of another worker")
        try:
            more = answered_of(head.headers, _OF_STREAMS)
            return await self._streams.respond(row, STOPPING, receive, send, *more)
        finally:
            pump.cancel()
            await asyncio.wait({pump})


class _RemoteRow:
    """What has come of a stream and is to be sent: whole events only."""

    def __init__(self, event_bytes_max: int) -> None:
        self.changed = asyncio.Event()
        self._event_bytes_max = event_bytes_max
        self._whole = b""
        self._begun = b""
        self._has_ended = False
        self._ending = b""
        self._taken = asyncio.Event()

    async def read(self, connection: Connection) -> None:
        """Take what comes, until the stream ends, no faster than it is sent on."""
        try:
            async for part in connection.rest():
                whole, end, begun = (self._begun + part).rpartition(_EVENT_END)
                self._whole, self._begun = self._whole + whole + end, begun
                if len(begun) > self._event_bytes_max:
                    raise BadAnswer("an event is too large")
                self._wake()
                while len(self._whole) > _UNREAD_BYTES_MAX:
                    self._taken.clear()
                    await self._taken.wait()
        except (ConnectionEnded, BadAnswer):
            self._ending = _BROKEN
        self._has_ended = True
        self._wake()

    def next(self) -> bytes | None:
        """The events that have come. Raises: StreamEnded."""
        if self._whole:
            whole, self._whole = self._whole, b""
            self._taken.set()
            return whole
        if self._has_ended:
            raise StreamEnded(self._ending)
        return None

    def _wake(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
