"""Workers of a service as a client reaches them: real ones behind names, which can be out of reach."""

from collections.abc import Callable, Mapping

import httpx

Answering = Callable[[httpx.Request], httpx.Response]


class Plant(httpx.AsyncBaseTransport):
    """The network between a client and workers; each host is a transport of its own."""

    def __init__(self, workers: Mapping[str, httpx.AsyncBaseTransport]) -> None:
        self.workers = dict(workers)
        self.silent: set[str] = set()
        """Hosts that nobody reaches."""
        self.swallowing: set[str] = set()
        """Hosts that handle a request, and whose answer is lost."""
        self.asked: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Let the worker answer that the request names."""
        self.asked.append(request)
        host = request.url.host
        if host in self.silent:
            raise httpx.ConnectError(f"{host} does not answer", request=request)
        response = await self.workers[host].handle_async_request(request)
        if host in self.swallowing:
            raise httpx.ReadError(f"{host} was killed", request=request)
        return response

    @property
    def hosts(self) -> list[str]:
        """Who was asked, in order."""
        return [request.url.host for request in self.asked]


def scripted(*answers: httpx.Response | Exception) -> httpx.MockTransport:
    """A worker that gives these answers one after the other, and the last one for ever."""
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        said = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(said, Exception):
            raise said
        return httpx.Response(said.status_code, headers=said.headers, content=said.content)

    return httpx.MockTransport(answer)
