"""The HTTP server of a worker: uvicorn inside the worker's own loop, with its socket, stop and failure."""

import asyncio
import importlib.util
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp

from headrace.errors import HeadraceError
from headrace.http.address import listening_socket
from headrace.http.application import Application, build_application
from headrace.http.bounded import Bounds
from headrace.http.direct import DirectReads
from headrace.http.source import ReadSource
from headrace.http.tls import server_context

if TYPE_CHECKING:
    from headrace.flow.spans import Spans

logger = logging.getLogger("headrace.http")

_DATE_EVERY_S = 1.0
_KEEP_ALIVE_S = 30
_DROP_TIMEOUT_S = 1.0
_START_AGAIN = "Start the worker again; what its log says in front of this tells why."


class HttpServer:
    """Serves one worker from `start` to `stop`."""

    def __init__(self, source: ReadSource, *, spans: "Spans | None" = None) -> None:
        self._source = source
        self._spans = spans
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._application: Application | None = None
        self._address = ("", 0)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens at, once started."""
        return self._address

    async def start(self) -> None:
        """Listen and answer.

        Raises: SettingsError when the address cannot or may not be used; DeclarationError when paths
        collide.
        """
        settings = self._source.settings
        self._application = build_application(self._source)
        application: ASGIApp = self._application
        if self._spans is not None:
            from headrace.http.tracing import TracedApplication

            application = TracedApplication(application, self._spans, self._source.served_tables)
        tls = server_context(settings)
        listener = await listening_socket(settings)
        host, port = listener.getsockname()[:2]
        self._address = (host, port)
        bounds = Bounds(
            head_bytes_max=settings.http_url_bytes_max + settings.http_header_bytes_max,
            head_timeout_s=settings.http_head_timeout_s,
            send_timeout_s=settings.http_send_timeout_s,
            connections_max=settings.http_concurrency_max,
        )
        config = uvicorn.Config(
            application,
            http=_protocol(bounds, self._application.direct if self._spans is None else None),
            h11_max_incomplete_event_size=bounds.head_bytes_max,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            # It warns of each request that is none: a stranger could fill the disk.
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=settings.http_concurrency_max,
            timeout_keep_alive=_KEEP_ALIVE_S,
            ssl_context_factory=(lambda *_: tls) if tls is not None else None,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve([listener]), name="headrace-http")
        await self._wait_started(listener)

    async def _wait_started(self, listener: socket.socket) -> None:
        assert self._server is not None
        assert self._task is not None
        answering = asyncio.create_task(self._server.answering.wait(), name="headrace-http-start")
        try:
            await asyncio.wait({answering, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                await self.wait_failed()
        except BaseException:
            self._task.cancel()
            listener.close()
            raise
        finally:
            answering.cancel()

    async def wait_failed(self) -> None:
        """Wait until the server ends: returns after `stop`, raises whatever else ended it.

        Cancel: nothing changes, it may be called again.
        """
        if self._task is None or self._server is None:
            return
        await asyncio.wait({self._task})
        if self._task.cancelled():
            raise HeadraceError("the HTTP server was cancelled", hint=_START_AGAIN)
        if (error := self._task.exception()) is not None:
            raise HeadraceError(f"the HTTP server failed: {error!r}", hint=_START_AGAIN) from error
        if not self._server.should_exit:
            raise HeadraceError("the HTTP server ended by itself", hint=_START_AGAIN)

    async def stop(self, timeout_s: float) -> None:
        """Accept nothing more, let requests in flight end, and drop those that take longer than this.

        After a failure there is nothing left to stop: `wait_failed` tells of it, and the log.
        Cancel: the server goes on stopping without a bound; call it again.
        """
        if self._server is None or self._task is None or self._task.done():
            return
        if self._application is not None:
            self._application.end_streams()
        self._server.ask_to_exit()
        _, running = await asyncio.wait({self._task}, timeout=timeout_s)
        if running:
            await self._server.drop_requests()
        if self._application is not None:
            self._application.close()
        await self.wait_failed()


class _Server(uvicorn.Server):
    """uvicorn's server without signal handlers, which are the worker's, and without its polling."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answering = asyncio.Event()
        self._exit = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().serve(sockets)
        except Exception:
            logger.exception("the HTTP server failed")
            raise
        finally:
            # After a failure uvicorn leaves everything open.
            for server in getattr(self, "servers", ()):
                server.close()
            for listener in sockets or ():
                listener.close()
            self._abort_connections()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answering.set()

    async def main_loop(self) -> None:
        # Tick 0 renews the Date header.
        while not await self.on_tick(0):
            try:
                async with asyncio.timeout(_DATE_EVERY_S):
                    await self._exit.wait()
            except TimeoutError:
                continue

    def ask_to_exit(self) -> None:
        self.should_exit = True
        self._exit.set()

    async def drop_requests(self) -> None:
        self.force_exit = True
        dropped = list(self.server_state.tasks)
        for task in dropped:
            task.cancel("the HTTP server stops")
        self._abort_connections()
        if dropped:
            # What a request had open is given back before whoever stops goes on.
            await asyncio.wait(dropped, timeout=_DROP_TIMEOUT_S)

    def _abort_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def _protocol(bounds: Bounds, direct: DirectReads | None) -> type[asyncio.Protocol]:
    """httptools' parser where it is installed (extra `speed`), else h11's."""
    if importlib.util.find_spec("httptools") is None:
        from headrace.http.h11 import bounded_h11

        return bounded_h11(bounds)
    from headrace.http.httptools import bounded_httptools

    return bounded_httptools(bounds, direct)
