"""HTTP to workers without sockets, and between them."""

from collections.abc import Awaitable, Callable, Sequence

import httpx

from headrace.http.application import Application, build_application
from headrace.http.peers.connection import Connection
from headrace.http.peers.place import Place
from headrace.runtime import Runtime
from headrace.testing.wire import Wire
from headrace.testing.worker import PORT_OF_FIRST, Worker


class Doors:
    """The applications of an app's workers, each made once for each life of its worker."""

    def __init__(self, workers: Callable[[], Sequence[Worker]]) -> None:
        self._workers = workers
        self._built: dict[Worker, tuple[Runtime, Application]] = {}

    def application(self, worker: Worker) -> Application:
        """What answers for a worker in the life that it is in."""
        built = self._built.get(worker)
        if built is None or built[0] is not worker.runtime:
            built = self._built[worker] = (
                worker.runtime,
                build_application(worker.runtime, dial=self._dial),
            )
        return built[1]

    async def _dial(self, place: Place) -> Connection:
        number = place.port - PORT_OF_FIRST

        def door() -> Application | None:
            alive = (w for w in self._workers() if w.number == number and w.is_listening)
            found = next(alive, None)
            return None if found is None else self.application(found)

        if door() is None:
            raise ConnectionRefusedError(f"no worker has the number {number}")
        return Wire(door)


class WorkerClient:
    """An httpx client of one worker, whichever of its lives it is in."""

    def __init__(self, worker: Worker, doors: Doors, quiet: Callable[[], Awaitable[None]]) -> None:
        transport = _Transport(worker, doors, quiet)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://worker")


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, worker: Worker, doors: Doors, quiet: Callable[[], Awaitable[None]]) -> None:
        self._worker = worker
        self._doors = doors
        self._quiet = quiet

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        application = self._doors.application(self._worker)
        response = await httpx.ASGITransport(application).handle_async_request(request)
        await self._quiet()
        return response
