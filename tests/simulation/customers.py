"""Outsiders who go from service to service over HTTP, and carry each answer's token to the next request."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import httpx
import msgspec

from headrace.events.token import Token
from headrace.tables.view import ViewState
from headrace.testing.client import Doors, WorkerClient
from headrace.testing.virtual_clock import VirtualClock
from headrace.testing.worker import Worker
from tests.simulation.causes import Chronicle, Events, read, written
from tests.simulation.watched import KEYS, Group, Known, Order, Watch

_PACE_S = 0.6
_PATIENCE_S = 3.0
_ORDERED = 0.5
_CARRIED = 0.7
"""How many reads are asked to contain what the customer knows."""
_HOPS = (1, 3)

WorkersOf = Callable[[str], Sequence[Worker]]
"""The workers of a service."""


class Customer:
    """One of them: what it knows, by its own account and by its token."""

    def __init__(
        self,
        name: str,
        workers_of: WorkersOf,
        *,
        watch: Watch,
        chronicle: Chronicle,
        clock: VirtualClock,
        visits: Counter[Worker],
        rng: Random,
    ) -> None:
        self.orders = self.reads = self.waits = 0
        """What it was answered: orders, reads, and those of them that were to contain what it knew."""
        self.stale: list[str] = []
        """Reads that did not contain it, as sentences."""
        self._name = name
        self._workers_of = workers_of
        self._watch = watch
        self._chronicle = chronicle
        self._clock = clock
        self._visits = visits
        """Workers that answer somebody now."""
        self._rng = rng
        self._clients: dict[Worker, WorkerClient] = {}
        self._past: Events = 0
        self._token: Token | None = None

    async def shop_until(self, end_s: float) -> None:
        """Order and read here and there until this moment."""
        while True:
            await self._clock.sleep(self._rng.expovariate(1 / _PACE_S))
            if self._clock.monotonic() > end_s:
                return
            group = self._rng.choice(self._watch.groups)
            partition = self._rng.randrange(len(group.keys))
            if (worker := self._owner(group, partition)) is None:
                continue
            self._visits[worker] += 1
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    if self._rng.random() < _ORDERED:
                        await self._order(worker, group, partition)
                    else:
                        await self._look(worker, group, partition, carries=self._rng.random() < _CARRIED)
            except TimeoutError:
                self._watch.tell(f"{self._name} gets no answer")
            finally:
                self._visits[worker] -= 1

    async def look_at_everything(self) -> None:
        """Read every row, now that all is quiet: none may lack what the customer knows."""
        for group in self._watch.groups:
            for partition in range(len(group.keys)):
                worker = self._owner(group, partition)
                assert worker is not None, f"nobody serves {group.service} {group.name}/{partition}"
                if not await self._look(worker, group, partition, carries=True):
                    self.stale.append(
                        f"{self._name} is told nothing by {group.service} {group.name}/{partition}"
                    )

    def _owner(self, group: Group, partition: int) -> Worker | None:
        """Who serves a partition now and reaches the log: what a worker cannot verify it leaves out."""
        for worker in self._workers_of(group.service):
            if worker.fate.calls_left is None and not worker.is_standing and worker.is_running:
                for view in worker.views():
                    if (view.group, view.partition, view.state) == (group.name, partition, ViewState.SERVING):
                        return worker
        return None

    # --- requests

    async def _order(self, worker: Worker, group: Group, partition: int) -> None:
        sends = [name for reader in group.readers for name in reader.sends] or [group.readers[0].topic]
        order = Order(
            f"{self._name}-{self.orders}-{len(self._watch.story)}",
            written(self._past),
            partition,
            self._rng.choice(sends),
            self._rng.randrange(KEYS),
            self._rng.randint(*_HOPS),
        )
        self._watch.tell(f"{self._name} orders {order.id} to {order.topic} from {worker.instance}")
        answer = await self._ask(worker, "POST", f"/{group.name}/orders", msgspec.json.encode(order))
        if answer.status_code == 200:
            self.orders += 1
            self._past |= read(answer.json()["past"])
            self._learn(answer)

    async def _look(self, worker: Worker, group: Group, partition: int, *, carries: bool) -> bool:
        """Read the row of a task; whether it was told."""
        known, path = self._past, f"/{group.known.name}/{group.keys[partition]}"
        answer = await self._ask(worker, "GET", path, carries=carries)
        if answer.status_code not in (200, 404):
            return False
        row = msgspec.json.decode(answer.content, type=Known) if answer.status_code == 200 else Known()
        self.reads += 1
        if carries:
            self.waits += 1
            if missing := self._watch.missing(known, group, partition, row):
                self.stale.append(
                    f"{self._name} read {group.service} {group.name}/{partition}, which lacked "
                    f"{self._chronicle.names(missing)}"
                )
        self._past |= read(row.past)
        self._learn(answer)
        return True

    async def _ask(
        self, worker: Worker, method: str, path: str, body: bytes = b"", *, carries: bool = True
    ) -> httpx.Response:
        headers = {"Headrace-Position": self._token.text()} if carries and self._token else {}
        if worker not in self._clients:
            # Customers ask who owns the row: the workers' ways to each other are not looked for.
            self._clients[worker] = WorkerClient(worker, Doors(lambda: [worker]), _at_once)
        client = self._clients[worker].client
        return await client.request(method, path, content=body, headers=headers)

    async def go(self) -> None:
        """Close the connections."""
        for each in self._clients.values():
            await each.client.aclose()

    def _learn(self, answer: httpx.Response) -> None:
        if text := answer.headers.get("Headrace-Position"):
            token = Token.parse(text)
            self._token = token if self._token is None else self._token.merge(token)


async def _at_once() -> None:
    """The answer is not waited for until all is quiet."""
