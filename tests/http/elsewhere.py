"""A worker whose loop runs in a thread of its own, asked by tools that bring a loop or none."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp, Message, Scope

from headrace import Settings
from headrace.http.application import build_application
from tests.http.bazaar import Bazaar
from tests.http.judged import Judged
from tests.service import PATIENCE_S, Service, running


class Elsewhere:
    """The worker, as seen from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, service: Service) -> None:
        self._loop = loop
        self._application: ASGIApp = Judged(service.runtime, build_application(service.runtime))

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer as a client sees it that goes away once it has sent its request: a stream ends by that."""
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} here")
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        exchange = self._exchange(scope, body)
        for sent in await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(exchange, self._loop)):
            await send(dict(sent))

    async def _exchange(self, scope: Scope, body: bytes) -> list[Message]:
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        async with asyncio.timeout(PATIENCE_S):
            await self._application(scope, receive, send)
        return sent


@contextmanager
def bazaar_elsewhere(settings: Settings) -> Iterator[Elsewhere]:
    """The bazaar, filled and served in a thread; what ends it by itself is raised at the end."""
    started: list[Elsewhere] = []
    stops: list[Callable[[], object]] = []
    failed: list[BaseException] = []
    may_begin = threading.Event()

    async def serve() -> None:
        bazaar, over = Bazaar(), asyncio.Event()
        async with running(bazaar.app, settings=settings) as service:
            await bazaar.fill(service)
            loop = asyncio.get_running_loop()
            stops.append(lambda: loop.call_soon_threadsafe(over.set))
            started.append(Elsewhere(loop, service))
            may_begin.set()
            await over.wait()

    thread = threading.Thread(target=_noting, args=(serve, failed, may_begin), name="a worker elsewhere")
    thread.start()
    try:
        assert may_begin.wait(PATIENCE_S), "the worker does not begin"
        if started:
            yield started[0]
    finally:
        for stop in stops:
            stop()
        thread.join(PATIENCE_S)
    if failed:
        raise failed[0]


def _noting(
    run: Callable[[], Coroutine[Any, Any, None]], failed: list[BaseException], over: threading.Event
) -> None:
    try:
        asyncio.run(run())
    except BaseException as error:
        failed.append(error)
        raise
    finally:
        over.set()
