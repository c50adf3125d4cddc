"""`/` and what the page there asks for: the board as HTML, as JSON, as a feed, and one row by key."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.types import Receive, Send

from headrace.http.access import UNAUTHORIZED
from headrace.http.problems import NOT_OWNED, RETRY_AFTER, Problem, RawHeader, bad_request
from headrace.http.query import query_fields
from headrace.http.reads import PointReads, token_bytes
from headrace.http.source import ReadSource, ServedTable
from headrace.http.sse import Streams, event
from headrace.http.whiteboard import page
from headrace.http.whiteboard.board import Board
from headrace.http.whiteboard.census import Census
from headrace.http.whiteboard.feed import Feed
from headrace.http.whiteboard.story import history_html, origin_html
from headrace.tables.view import PartitionView

FEED, ROW, BOARD = b"/whiteboard/feed", b"/whiteboard/row", b"/whiteboard/board"
WHY, HISTORY = b"/whiteboard/why", b"/whiteboard/history"
SHADOWS = b"/whiteboard/shadows"
PATHS = frozenset({FEED, ROW, BOARD, WHY, HISTORY, SHADOWS})

HTML_HEADERS: tuple[RawHeader, ...] = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", page.SECURITY_POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
"""Of every page: nothing is stored, and nothing comes from elsewhere."""
_JSON: RawHeader = (b"content-type", b"application/json")
_DIFFERENCES_MAX = 1_000
_DOOR = page.door()
_LOOKUP = bad_request("A look-up names a table that is served and a key: ?table=...&key=...")
_BUSY = Problem(503, "The events of another key are being read at the moment; try again.", RETRY_AFTER)
_STOPPING = event("ended", b'{"error":"WorkerStopping"}')


class Whiteboard:
    """Answers for the page of one worker."""

    def __init__(
        self,
        source: ReadSource,
        reads: Mapping[str, tuple[ServedTable, PointReads]],
        streams: Streams,
        *,
        interval_s: float = 1.0,
    ) -> None:
        self._source = source
        self._reads = reads
        self._streams = streams
        self._census = Census(source.view)
        self._feed = Feed(self._look, lambda boards: boards[0].shape, interval_s=interval_s)

    async def _look(self) -> tuple[Board]:
        board = self._source.board()
        await self._census.step(board)
        return (self._census.filled(board),)

    async def respond(self, path: bytes, query: bytes, receive: Receive, send: Send) -> int:
        """Answer for `/` or one of PATHS; the result is the status."""
        if path == FEED:
            async with self._feed.following() as follower:
                return await self._streams.respond(follower, _STOPPING, receive, send)
        if path in (ROW, WHY, HISTORY):
            found = self._find(query)
            if isinstance(found, Problem):
                return await found.send(send)
            return await self._respond_key(path, *found, send)
        if path == SHADOWS:
            cards = [shadow.card(_DIFFERENCES_MAX) for shadow in self._source.shadows.values()]
            return await send_document(send, msgspec.json.encode(cards), _JSON)
        (board,), readings = await self._feed.now()
        if path == BOARD:
            return await send_document(send, msgspec.json.encode(board), _JSON)
        return await send_document(send, page.page(board, readings), *HTML_HEADERS)

    def _find(self, query: bytes) -> tuple[ServedTable, str, PartitionView, bytes] | Problem:
        """The table, the key as it was typed, and where its row is here."""
        fields = query_fields(query, frozenset({"table", "key"}))
        if isinstance(fields, Problem):
            return _LOOKUP
        known = self._reads.get(fields.get("table", ""))
        if known is None or "key" not in fields:
            return _LOOKUP
        table, reads = known
        place = reads.locate_text(fields["key"])
        if isinstance(place, Problem):
            return place
        view = self._source.view(table.group, place[0])
        return NOT_OWNED if view is None else (table, fields["key"], view, place[1])

    async def _respond_key(
        self, path: bytes, table: ServedTable, key: str, view: PartitionView, store_key: bytes, send: Send
    ) -> int:
        if path == ROW:
            return await self._respond_row(table, key, view, store_key, send)
        teller = self._source.teller
        if teller is None or teller.is_busy:
            return await _BUSY.send(send)
        if path == WHY:
            origin = await teller.origin(table.name, key, view)
            story = origin_html(table.name, key, origin.answer, origin.naming)
        else:
            history = await teller.history(key)
            story = history_html(key, history.answer, history.naming)
        return await send_document(send, story, *HTML_HEADERS)

    async def _respond_row(
        self, table: ServedTable, key: str, view: PartitionView, store_key: bytes, send: Send
    ) -> int:
        row, position = view.get(store_key), view.position
        token = token_bytes(position, self._source.catalog)
        found: dict[str, Any] = {
            "href": f"{table.path}/{page.quoted(key)}",
            "partition": view.partition,
            "position": {f"{place.topic}/{place.partition}": at for place, at in position.items()},
            "token": token.decode(),
            # As text: a browser would round long numbers.
            "row": None if row is None else msgspec.json.format(row, indent=2).decode(),
        }
        return await send_document(send, msgspec.json.encode(found), _JSON)


async def send_door(send: Send) -> int:
    """Ask a person for a token; the answer stays a 401."""
    challenge = UNAUTHORIZED.headers[-1]
    return await send_document(send, _DOOR, *HTML_HEADERS, challenge, status=401)


async def send_document(send: Send, body: bytes, *headers: RawHeader, status: int = 200) -> int:
    """Send a document that is never to be cached; the result is the status."""
    head = [*headers, (b"content-length", b"%d" % len(body))]
    if not any(name == b"cache-control" for name, _ in headers):
        head.append((b"cache-control", b"no-store"))
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
    return status
