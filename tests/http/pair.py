"""Two workers of one app in this process, each with its own server and half of the partitions."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from headrace.flow.members import Peer
from headrace.http.server import HttpServer
from headrace.http.source import UserRoute
from headrace.settings import Settings
from headrace.tables.view import PartitionView
from tests.http.service import Service, served

PATIENCE_S = 10.0
BALANCES = served("balances", int)
NAMES = served("names", str)


class Member(Service):
    """One worker: its rows, its server, and what it knows of the others."""

    def __init__(self, instance: str, settings: Settings, routes: Sequence[UserRoute] = ()) -> None:
        super().__init__(BALANCES, NAMES, settings=settings, routes=routes)
        self.instance = instance
        self.server = HttpServer(self)

    async def start(self) -> None:
        """Listen, and be reached where it listens."""
        await self.server.start()
        host, port = self.server.address
        self.reached_at = f"{host}:{port}"

    def owns(self, *partitions: int) -> None:
        """Keep only these partitions."""
        self.owned = {number: self.owned[number] for number in partitions}

    def knows(self, other: "Member", *partitions: int) -> None:
        """Learn that another worker owns these partitions."""
        self.peers |= {number: Peer(other.instance, other.reached_at, False) for number in partitions}


class OpenStream:
    """An open answer, event by event."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status_code = answer.status_code
        self.headers = answer.headers
        self._lines = answer.aiter_lines()

    async def event(self) -> tuple[str, Any]:
        """Name and data of the next event."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE_S):
            while line := await anext(self._lines):
                name, _, value = line.partition(": ")
                fields[name] = value
        return fields["event"], json.loads(fields["data"])

    async def is_over(self) -> bool:
        """Whether nothing follows."""
        async with asyncio.timeout(PATIENCE_S):
            return [line async for line in self._lines] == []


class Pair:
    """Two workers that know each other, `w1` with the even partitions and `w2` with the odd ones."""

    def __init__(self, first: Member, second: Member, client: httpx.AsyncClient) -> None:
        self.first, self.second = first, second
        self.client = client

    def put(self, key: int, value: Any, *, offset_next: int = 1) -> PartitionView:
        """Commit a row where it belongs."""
        owner = self.first if self.first.partition(BALANCES, key) % 2 == 0 else self.second
        return owner.put(BALANCES, key, value, offset_next=offset_next)

    def append(self, partition: int, offset_next: int) -> None:
        """Let the input reach up to here, for whoever asks the log."""
        for member in (self.first, self.second):
            member.append(partition, offset_next)

    def key_at(self, member: Member, number: int = 0) -> int:
        """The key of a row that this worker owns."""
        mine = (key for key in range(10_000) if member.partition(BALANCES, key) in member.owned)
        return [next(mine) for _ in range(number + 1)][-1]

    @asynccontextmanager
    async def stream(self, member: Member, target: str) -> AsyncIterator["OpenStream"]:
        """Stream a row from one worker."""
        url, headers = f"http://{member.reached_at}{target}", {"Accept": "text/event-stream"}
        async with self.client.stream("GET", url, headers=headers) as answer:
            yield OpenStream(answer)

    async def until_waiting(self, member: Member) -> None:
        """Return once a request waits for a position at this worker."""
        async with asyncio.timeout(PATIENCE_S):
            while not len(member.waits.room):
                await self.get(member, "/livez")

    async def get(self, member: Member, target: str, **options: Any) -> httpx.Response:
        """Ask one worker."""
        return await self.client.get(f"http://{member.reached_at}{target}", **options)


@asynccontextmanager
async def pair(
    *,
    settings: Settings | None = None,
    second_settings: Settings | None = None,
    routes: Sequence[UserRoute] = (),
) -> AsyncIterator[Pair]:
    """Both workers, listening."""
    of_first = settings or Settings()
    of_second = second_settings or of_first
    first = Member("w1", msgspec.structs.replace(of_first, http="127.0.0.1:0"), routes)
    second = Member("w2", msgspec.structs.replace(of_second, http="127.0.0.1:0"), routes)
    first.owns(0, 2)
    second.owns(1, 3)
    try:
        await first.start()
        await second.start()
        first.knows(second, 1, 3)
        second.knows(first, 0, 2)
        async with httpx.AsyncClient(verify=False, trust_env=False) as client:
            yield Pair(first, second, client)
    finally:
        await first.server.stop(1.0)
        await second.server.stop(1.0)
