"""One page for all services of the demo, in a thread of its own: the picture that the talk began with."""

import asyncio
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Self

import httpx
import msgspec
import uvicorn
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send

from headrace.http.problems import NOT_FOUND
from headrace.http.sse import Streams, event
from headrace.http.whiteboard.board import Board
from headrace.http.whiteboard.feed import Feed
from headrace.http.whiteboard.system import page_of, shape_of
from headrace.http.whiteboard.whiteboard import BOARD, FEED, HTML_HEADERS, send_document

_STREAMS_MAX = 50
_ENDING = event("ended", b'{"error":"DemoStopping"}')
_START_TIMEOUT_S = 10.0


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


class SystemServer:
    """Serves the page from entry to exit."""

    def __init__(self, addresses: Mapping[str, str], port: int) -> None:
        self._addresses = addresses
        self._listener = socket.create_server(("127.0.0.1", port))
        self._server: uvicorn.Server | None = None
        self._page: SystemPage | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="whiteboard", daemon=True)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_up.wait(_START_TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()
        self._listener.close()

    def _stop(self) -> None:
        assert self._page is not None
        assert self._server is not None
        self._page.streams.end()
        self._server.should_exit = True

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._page = SystemPage(self._addresses)
        config = uvicorn.Config(
            self._page,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._is_up.set()
        await self._server.serve([self._listener])
