"""`headrace.Client`: an httpx client that reads what it wrote, and never writes twice."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

import httpx

from headrace.client.errand import Errand, is_read_here, refusal, whole
from headrace.client.session import Session
from headrace.client.workers import Workers

PATIENCE_S = 30.0
"""How long a request is tried, unless the client is told otherwise."""
OF_TRANSPORT = ("verify", "cert", "http1", "http2", "limits", "proxy", "local_address", "uds")
"""What httpx hands on to its transport."""


class Client(httpx.AsyncClient):
    """All that `httpx.AsyncClient` does, at any worker of one service, for one user.

    It sends what its user has seen along with every request (Headrace-Position) and adds what the
    answer says, so that a read contains what was written before, here or in another service: give
    their clients one `session`. Each write gets an Idempotency-Key, the same on every attempt.
    Connection errors and 503 with Retry-After are tried again at another worker, for `patience_s`.

    Raises: ForeignToken, UntrueToken, MalformedToken where a service refuses the position; the last
    httpx.TransportError, or the last 503 as an answer, when the patience is over.
    """

    def __init__(
        self,
        *base_urls: str,
        session: Session | None = None,
        position: str | None = None,
        patience_s: float = PATIENCE_S,
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Any,
    ) -> None:
        self.session = own_session(session, position)
        workers = Workers(base_urls)
        if transport is None:
            transport = httpx.AsyncHTTPTransport(**of_transport(options))
        own = _Transport(transport, self.session, workers, patience_s)
        super().__init__(base_url=workers.urls[0], transport=own, **options)

    @property
    def position(self) -> str | None:
        """What the user has seen, as text to be kept; None at the beginning. Give it back as `position=`."""
        return self.session.position


class _Transport(httpx.AsyncBaseTransport):
    def __init__(
        self, inner: httpx.AsyncBaseTransport, session: Session, workers: Workers, patience_s: float
    ) -> None:
        self._inner = inner
        self._session = session
        self._workers = workers
        self._patience_s = patience_s

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self._workers.has(request.url):
            return await self._inner.handle_async_request(request)
        await request.aread()
        errand = Errand(request, self._session, self._workers, now_s=monotonic(), patience_s=self._patience_s)
        while True:
            try:
                response = await self._sent(errand.next_request())
            except httpx.TransportError as error:
                wait_s: float | None = errand.failed(error, monotonic())
            else:
                wait_s = await _closed_unless_last(response, errand.answered)
                if wait_s is None:
                    return response
            if wait_s:
                await asyncio.sleep(wait_s)

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        """The answer to one attempt. Raises: TransportError, PositionError."""
        response = await self._inner.handle_async_request(request)
        if not is_read_here(response):
            return response
        assert isinstance(response.stream, httpx.AsyncByteStream)
        try:
            raw = b"".join([part async for part in response.stream])
        finally:
            await response.aclose()
        response = whole(response, raw)
        if (refused := refusal(response)) is not None:
            raise refused
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _closed_unless_last(
    response: httpx.Response, answered: Callable[[httpx.Response, float], float | None]
) -> float | None:
    """How long to wait before the next attempt; the answer is closed unless it is the last."""
    try:
        wait_s = answered(response, monotonic())
    except BaseException:
        await response.aclose()
        raise
    if wait_s is not None:
        await response.aclose()
    return wait_s


def own_session(session: Session | None, position: str | None) -> Session:
    """The session of a client. Raises: MalformedToken."""
    if session is None:
        return Session(position)
    if position is not None:
        session.saw(position)
    return session


def of_transport(options: dict[str, Any]) -> dict[str, Any]:
    """Take out of the options of a client what its transport is to have."""
    return {name: options.pop(name) for name in OF_TRANSPORT if name in options}
