"""A service whose time stands still, and requests that are under way to it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from headrace.events.position import Position, TopicPartition
from headrace.events.token import Token
from headrace.settings import Settings
from headrace.testing.virtual_clock import VirtualClock
from tests.http.service import INPUT, Service, client, served

balances = served("balances", int)
KEY = 1029
PATH = f"/balances/{KEY}"


class Waiting:
    """A service whose time stands still, and one row of it."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.clock = VirtualClock()
        self.service = Service(balances, settings=settings, clock=self.clock)
        self.view = self.service.put(balances, KEY, {"points": 0}, offset_next=1)
        self.place = TopicPartition(INPUT, self.view.partition)

    def token(self, offset_next: int, *, topic: str = INPUT, partition: int | None = None) -> str:
        """The token of who has seen one topic up to here."""
        place = TopicPartition(topic, self.view.partition if partition is None else partition)
        return Token.of(Position({place: offset_next}), self.service.catalog).text()

    def put(self, points: int, offset_next: int) -> None:
        self.service.put(balances, KEY, {"points": points}, offset_next=offset_next)

    @asynccontextmanager
    async def asking(
        self, headers: Mapping[str, str], path: str = PATH, method: str = "GET"
    ) -> AsyncIterator["asyncio.Task[httpx.Response]"]:
        """A request that is under way, as far as it gets before anything happens."""
        async with client(self.service) as http:
            request = http.request(method, path, headers=dict(headers))
            task = asyncio.create_task(request, name="request")
            await settled()
            try:
                yield task
            finally:
                task.cancel()
                await asyncio.wait({task})


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


def at_least(token: str, **more: str) -> dict[str, str]:
    return {"Headrace-Position": token, **more}


LATEST = {"Headrace-Consistency": "latest"}
