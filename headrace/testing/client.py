"""HTTP to a worker without a socket."""

from collections.abc import Awaitable, Callable

import httpx

from headrace.http.application import build_application
from headrace.runtime import Runtime


class WorkerClient:
    """An httpx client of one worker, whichever of its lives it is in."""

    def __init__(self, runtime: Callable[[], Runtime], quiet: Callable[[], Awaitable[None]]) -> None:
        transport = _Transport(runtime, quiet)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://worker")


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, runtime: Callable[[], Runtime], quiet: Callable[[], Awaitable[None]]) -> None:
        self._runtime = runtime
        self._quiet = quiet
        self._built: tuple[Runtime, httpx.ASGITransport] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        runtime = self._runtime()
        if self._built is None or self._built[0] is not runtime:
            self._built = runtime, httpx.ASGITransport(build_application(runtime))
        response = await self._built[1].handle_async_request(request)
        await self._quiet()
        return response
