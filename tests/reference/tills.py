"""Many tills at once in one process: what they ring up, and services that stand still at random."""

import asyncio
import random
from collections.abc import Iterator, Sequence

import msgspec
from starlette.types import Message, Scope

import headrace
from app.checkout import app as checkout
from app.grocery import GroceryYear, HouseholdDay
from app.promotions import app as promotions
from headrace.http.application import build_application
from headrace.testing import Harness
from headrace.testing.worker import Worker

TILLS = 32
_STANDING_TURNS = (50, 1_000)
_GOING_TURNS = (5, 60)
"""How long a service stands still, and how long it goes on in between, in turns of the event loop."""


class Tills:
    """Ring up household-days without sockets: baskets at checkout, then redemptions at promotions."""

    def __init__(self, h: Harness, year: GroceryYear) -> None:
        self._year = year
        self._doors = {app: build_application(h[app].workers[0].runtime) for app in (checkout, promotions)}

    async def ring_up(self, days: Sequence[HouseholdDay]) -> None:
        """Ring up these days, many at once; each till takes the next that is left."""
        left = iter(days)
        async with asyncio.TaskGroup() as tills:
            for number in range(TILLS):
                tills.create_task(self._man_till(left), name=f"till {number}")

    async def _man_till(self, left: Iterator[HouseholdDay]) -> None:
        for day in left:
            paid = await self._post(checkout, "/baskets", [self._year.baskets[at] for at in day.baskets])
            await self._post(promotions, "/redemptions", day.redemptions, (b"headrace-position", paid))

    async def _post(
        self,
        app: headrace.App,
        path: str,
        events: Sequence[headrace.Event],
        *headers: tuple[bytes, bytes],
    ) -> bytes:
        """Post events; the token of the answer."""
        body = msgspec.json.encode(events)
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._doors[app](_scope(path, body, headers), receive, send)
        assert sent[0]["status"] == 202, sent
        token: bytes = dict(sent[0]["headers"])[b"headrace-position"]
        return token


def _scope(path: str, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Scope:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"till"), (b"content-length", b"%d" % len(body)), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }


class Stalls:
    """Let services stand still at random, each by itself: any of them falls far behind the others."""

    def __init__(self, h: Harness, fate: random.Random) -> None:
        self._workers = [worker for app in h.apps for worker in h[app].workers]
        self._fate = fate
        self.count = 0

    async def run(self) -> None:
        """Disturb until cancelled. Cancel: everybody goes on."""
        try:
            async with asyncio.TaskGroup() as fates:
                for worker in self._workers:
                    fates.create_task(self._disturb(worker), name=f"stalls of {worker.instance}")
        finally:
            for worker in self._workers:
                worker.go_on()

    async def _disturb(self, worker: Worker) -> None:
        while True:
            await self._turns(_GOING_TURNS)
            worker.stand_still()
            self.count += 1
            await self._turns(_STANDING_TURNS)
            worker.go_on()

    async def _turns(self, bounds: tuple[int, int]) -> None:
        for _ in range(self._fate.randint(*bounds)):
            await asyncio.sleep(0)
