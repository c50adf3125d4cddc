"""`/` and what the page there asks for: the board as HTML, as JSON, as a feed, and one row by key."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.types import Receive, Send

from headrace.errors import StillRecovering
from headrace.http.access import UNAUTHORIZED
from headrace.http.problems import NOT_OWNED, RECOVERING, Problem, RawHeader, bad_request, problem_of
from headrace.http.query import query_fields
from headrace.http.reads import PointReads, token_bytes
from headrace.http.source import ReadSource, ServedTable
from headrace.http.sse import Streams, event
from headrace.http.whiteboard import page
from headrace.http.whiteboard.board import Board
from headrace.http.whiteboard.census import Census
from headrace.http.whiteboard.feed import Feed

FEED, ROW, BOARD = b"/whiteboard/feed", b"/whiteboard/row", b"/whiteboard/board"
PATHS = frozenset({FEED, ROW, BOARD})

HTML_HEADERS: tuple[RawHeader, ...] = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", page.SECURITY_POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
"""Of every page: nothing is stored, and nothing comes from elsewhere."""
_DOOR = page.door()
_LOOKUP = bad_request("A look-up names a table that is served and a key: ?table=...&key=...")
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
        if path == ROW:
            return await self._respond_row(query, send)
        (board,), readings = await self._feed.now()
        if path == BOARD:
            return await send_document(
                send, msgspec.json.encode(board), (b"content-type", b"application/json")
            )
        return await send_document(send, page.page(board, readings), *HTML_HEADERS)

    async def _respond_row(self, query: bytes, send: Send) -> int:
        fields = query_fields(query, frozenset({"table", "key"}))
        if isinstance(fields, Problem):
            return await _LOOKUP.send(send)
        known = self._reads.get(fields.get("table", ""))
        if known is None or "key" not in fields:
            return await _LOOKUP.send(send)
        table, reads = known
        place = reads.locate_text(fields["key"])
        if isinstance(place, Problem):
            return await place.send(send)
        partition, store_key = place
        view = self._source.view(table.group, partition)
        if view is None:
            return await NOT_OWNED.send(send)
        try:
            row, position = view.get(store_key), view.position
            token = token_bytes(position, self._source.catalog)
        except StillRecovering:
            return await RECOVERING.send(send)
        except Exception as error:  # noqa: BLE001  (it is mapped to an answer, and logged there)
            return await problem_of(error).send(send)
        found: dict[str, Any] = {
            "href": f"{table.path}/{page.quoted(fields['key'])}",
            "partition": partition,
            "position": {f"{place.topic}/{place.partition}": at for place, at in position.items()},
            "token": token.decode(),
            # As text: a browser would round long numbers.
            "row": None if row is None else msgspec.json.format(row, indent=2).decode(),
        }
        return await send_document(send, msgspec.json.encode(found), (b"content-type", b"application/json"))


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
