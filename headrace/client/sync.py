"""`headrace.SyncClient`: the client for code without an event loop."""

import time
from typing import Any

import httpx

from headrace.client.client import PATIENCE_S, of_transport, own_session
from headrace.client.errand import Errand, is_read_here, refusal, whole
from headrace.client.session import Session
from headrace.client.workers import Workers


class SyncClient(httpx.Client):
    """What `headrace.Client` is, over `httpx.Client`; several threads may share it as one user."""

    def __init__(
        self,
        *base_urls: str,
        session: Session | None = None,
        position: str | None = None,
        patience_s: float = PATIENCE_S,
        transport: httpx.BaseTransport | None = None,
        **options: Any,
    ) -> None:
        self.session = own_session(session, position)
        workers = Workers(base_urls)
        if transport is None:
            transport = httpx.HTTPTransport(**of_transport(options))
        own = _Transport(transport, self.session, workers, patience_s)
        super().__init__(base_url=workers.urls[0], transport=own, **options)

    @property
    def position(self) -> str | None:
        """What the user has seen, as text to be kept; None at the beginning. Give it back as `position=`."""
        return self.session.position


class _Transport(httpx.BaseTransport):
    def __init__(
        self, inner: httpx.BaseTransport, session: Session, workers: Workers, patience_s: float
    ) -> None:
        self._inner = inner
        self._session = session
        self._workers = workers
        self._patience_s = patience_s

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not self._workers.has(request.url):
            return self._inner.handle_request(request)
        request.read()
        now_s = time.monotonic
        errand = Errand(request, self._session, self._workers, now_s=now_s(), patience_s=self._patience_s)
        while True:
            try:
                response = self._sent(errand.next_request())
            except httpx.TransportError as error:
                wait_s: float | None = errand.failed(error, now_s())
            else:
                wait_s = self._closed_unless_last(response, errand)
                if wait_s is None:
                    return response
            if wait_s:
                time.sleep(wait_s)

    def _sent(self, request: httpx.Request) -> httpx.Response:
        """The answer to one attempt. Raises: TransportError, PositionError."""
        response = self._inner.handle_request(request)
        if not is_read_here(response):
            return response
        assert isinstance(response.stream, httpx.SyncByteStream)
        try:
            raw = b"".join(response.stream)
        finally:
            response.close()
        response = whole(response, raw)
        if (refused := refusal(response)) is not None:
            raise refused
        return response

    @staticmethod
    def _closed_unless_last(response: httpx.Response, errand: Errand) -> float | None:
        try:
            wait_s = errand.answered(response, time.monotonic())
        except BaseException:
            response.close()
            raise
        if wait_s is not None:
            response.close()
        return wait_s

    def close(self) -> None:
        self._inner.close()
