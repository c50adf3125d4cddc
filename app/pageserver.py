"""A page of the reference system, served in a thread of its own."""

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Protocol, Self

import uvicorn
from starlette.types import Receive, Scope, Send

from headrace.http.sse import Streams

_START_TIMEOUT_S = 10.0


class Page(Protocol):
    """An ASGI application with streams that end when the server does."""

    @property
    def streams(self) -> Streams: ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class PageServer:
    """Serves a page from entry to exit; `build` makes it, in the loop that it then lives in."""

    def __init__(self, build: Callable[[], Page], port: int) -> None:
        self._build = build
        self._listener = socket.create_server(("127.0.0.1", port))
        self._server: uvicorn.Server | None = None
        self._page: Page | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)

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
        self._page = self._build()
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
