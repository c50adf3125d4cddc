"""One page for all services of the demo: the picture that the talk began with."""

import asyncio
from collections.abc import Mapping, Sequence

import httpx
import msgspec
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send

from app.pageserver import PageServer
from headrace.http.problems import NOT_FOUND
from headrace.http.sse import Streams, event
from headrace.http.whiteboard.board import Board
from headrace.http.whiteboard.feed import Feed
from headrace.http.whiteboard.system import page_of, shape_of
from headrace.http.whiteboard.whiteboard import BOARD, FEED, HTML_HEADERS, send_document

_STREAMS_MAX = 50
_ENDING = event("ended", b'{"error":"DemoStopping"}')


class SystemPage:
    """The ASGI application: the page and its feed, made from the boards that the services tell."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._pages = {name: f"http://{address}/" for name, address in addresses.items()}
        self._known = {name: Board(app=name, instance="", state="silent") for name in addresses}
        self._http = httpx.AsyncClient(timeout=2.0)
        self._feed = Feed(self._look, shape_of)
        self.streams = Streams(_STREAMS_MAX, count=lambda _: None)

    async def _look(self) -> Sequence[Board]:
        return await asyncio.gather(*(self._board(name) for name in self._pages))

    async def _board(self, name: str) -> Board:
        """What the service tells; one that does not answer stays as it was last, and is called silent."""
        try:
            answer = await self._http.get(self._pages[name] + BOARD.decode().lstrip("/"))
            answer.raise_for_status()
            self._known[name] = msgspec.json.decode(answer.content, type=Board)
        except (httpx.HTTPError, msgspec.MsgspecError):
            self._known[name] = replace(self._known[name], state="silent")
        return self._known[name]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["path"].encode():
            case b"/":
                boards, readings = await self._feed.now()
                await send_document(send, page_of(boards, readings, self._pages), *HTML_HEADERS)
            case path if path == FEED:
                async with self._feed.following() as follower:
                    await self.streams.respond(follower, _ENDING, receive, send)
            case _:
                await NOT_FOUND.send(send)


class SystemServer(PageServer):
    """Serves the page from entry to exit."""

    def __init__(self, addresses: Mapping[str, str], port: int) -> None:
        super().__init__(lambda: SystemPage(addresses), port)
