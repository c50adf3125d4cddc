"""Where chaos takes place: a real Kafka, three workers, a load, somebody who reads, and the books."""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from headrace.log.connect import connect
from headrace.log.port import Log
from headrace.settings import Settings
from headrace.testing.kafka_broker import KafkaBroker
from headrace.testing.kafka_cluster import KafkaCluster
from tests.chaos.books import Books
from tests.chaos.load import Load
from tests.chaos.readers import Readers
from tests.chaos.storm import PARTITIONS, Line, Sight
from tests.kafka_fixture import kafka_lib
from tests.process.load import shares_told
from tests.process.workers import Worker, breath, until_covered

APP = "tests.chaos.storm"
_WORKERS = 3
_KEYS_PER_PARTITION = 8
_SETTLE_TIMEOUT_S = 90.0
_LOCKED = re.compile(r"StoreInUse|\bLOCK\b")
Broker = KafkaBroker | KafkaCluster
Row = TypeVar("Row", Line, Sight)


class World:
    """Runs stretches: cycles under load, then a check of everything that can be compared."""

    def __init__(
        self,
        broker: Broker,
        log: Log,
        load: Load,
        crew: Sequence[Worker],
        *,
        client: httpx.AsyncClient,
        dice: random.Random,
    ) -> None:
        self.broker = broker
        self.crew = crew
        self.client = client
        self.load = load
        self.readers = Readers(crew, self.load, dice)
        self._log = log
        self._books = Books(log)

    async def stretch(self, cycles: Sequence[Callable[["World"], Awaitable[None]]]) -> None:
        """Live through these cycles under load, one after the other, then compare.

        Raises: AssertionError, in a group, for whatever is not as it must be.
        """
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.load.run(stopping), name="load")
            tasks.create_task(self.readers.run(stopping), name="readers")
            for cycle in cycles:
                await cycle(self)
            stopping.set()
        await self.check()

    # --- what a cycle asks

    async def until_covered(self, crew: Sequence[Worker], timeout_s: float = _SETTLE_TIMEOUT_S) -> None:
        """Return once these workers have handled what is acknowledged by now."""
        wanted = {f"{topic}/{partition}": end for (topic, partition), end in self.load.ends.items()}
        await until_covered(self.client, crew, wanted, timeout_s)

    async def until_acknowledged(self, after_s: float, timeout_s: float = _SETTLE_TIMEOUT_S) -> None:
        """Return once the load has had an answer after this instant."""
        async with asyncio.timeout(timeout_s):
            while self.load.acknowledged_at <= after_s:
                await breath()

    async def until_settled(self) -> None:
        """Return once every partition is served by one of the running workers, in one generation.

        Asks again and again: other processes have no way to wake this one.
        """
        crew = [worker for worker in self.crew if worker.is_running]
        try:
            async with asyncio.timeout(_SETTLE_TIMEOUT_S):
                while not await self._is_settled(crew):
                    await breath(0.05)
        except TimeoutError:
            raise AssertionError("not settled\n" + self.tails()) from None

    async def _is_settled(self, crew: Sequence[Worker]) -> bool:
        served: list[str] = []
        for worker in crew:
            assert worker.is_running, f"{worker.instance} has ended by itself\n{worker.tail()}"
            try:
                answer = await worker.get(self.client, "/readyz")
            except httpx.TransportError:
                return False
            if answer.status_code != 200:
                return False
            partitions = json.loads(answer.content)["partitions"]
            served += [name for name, shown in partitions.items() if shown["state"] == "serving"]
        is_whole = sorted(served) == sorted(f"main/{number}" for number in range(PARTITIONS))
        return is_whole and len({generation(worker) for worker in crew}) == 1

    def tails(self) -> str:
        """The last lines of every worker."""
        return "\n\n".join(f"{worker.instance}:\n{worker.tail()}" for worker in self.crew)

    @property
    def moves(self) -> int:
        """How many partitions came to another worker so far, by what the workers told."""
        told = {worker.instance: shares_told(worker.lines) for worker in self.crew}
        return moved(told)

    # --- what is compared

    async def check(self) -> None:
        """Ledger == rows over HTTP at every worker == changelog == outputs == stores."""
        await self.until_covered(self.crew)
        await self.until_settled()
        await asyncio.gather(*(self._check_reads(worker) for worker in self.crew))
        await self._books.check(self.load)
        await self._check_stores()
        for worker in self.crew:
            locked = [line for line in worker.lines if _LOCKED.search(line)]
            assert not locked, locked

    async def _check_stores(self) -> None:
        """Each store holds what the changelog says (`headrace verify`), and one of each is whole."""
        rows: dict[int, int] = {}
        for stores in await asyncio.gather(*(_verify(worker) for worker in self.crew)):
            for store in stores:
                assert store["verdict"] == "equal", store
                if store["offset_next"] >= self._books.changelog_ends[store["partition"]]:
                    rows[store["partition"]] = store["rows"]
        assert len(rows) == PARTITIONS, (
            f"no store of these is at the end of its changelog, the others are: {rows}"
        )
        assert sum(rows.values()) == len(self.load.lines) + len(self.load.sights)

    async def _check_reads(self, worker: Worker) -> None:
        for key, line in self.load.lines.items():
            assert await self._row(worker, f"/lines/{key}", Line) == line, (worker.instance, key)
        for key, sight in self.load.sights.items():
            assert await self._row(worker, f"/sights/{key}", Sight) == sight, (worker.instance, key)

    async def _row(self, worker: Worker, path: str, kind: type[Row]) -> Row:
        """The row as this worker answers it; one that is busy may say 503 first."""
        async with asyncio.timeout(_SETTLE_TIMEOUT_S):
            while (answer := await self._answer(worker, path)) is None:
                await breath()
        assert answer.status_code == 200, (worker.instance, path, answer.status_code, answer.text)
        return msgspec.json.decode(answer.content, type=kind)

    async def _answer(self, worker: Worker, path: str) -> httpx.Response | None:
        try:
            answer = await worker.get(self.client, path)
        except httpx.TransportError:
            return None
        return None if answer.status_code == 503 else answer


async def _verify(worker: Worker) -> list[dict[str, Any]]:
    """What `headrace verify` says of each store of a worker; there may be none."""
    status, output = await worker.command("verify", "--json")
    assert status in (0, 3), output
    if status == 3:
        return []
    found: list[dict[str, Any]] = json.loads(output.splitlines()[-1])
    return found


def generation(worker: Worker) -> int:
    """The generation that a worker told of last."""
    told = shares_told(worker.lines)
    return told[-1][0] if told else -1


def moved(told: Mapping[str, Sequence[tuple[int, frozenset[int]]]]) -> int:
    """How often a partition came to another worker.

    Shape: by worker each generation that it told of, and the partitions it owned in it.
    """
    count = 0
    owners: dict[int, str] = {}
    shares = [(number, worker, owned) for worker, each in told.items() for number, owned in each]
    for _, worker, owned in sorted(shares, key=itemgetter(0)):
        count += sum(owners.get(partition, worker) != worker for partition in owned)
        owners.update(dict.fromkeys(owned, worker))
    return count


@asynccontextmanager
async def open_world(
    folder: Path,
    *,
    dice: random.Random,
    is_cluster: bool = False,
    is_static: bool = True,
    workers: int = _WORKERS,
    keys_per_partition: int = _KEYS_PER_PARTITION,
    settings: Mapping[str, str],
) -> AsyncIterator[World]:
    """A world with fresh data. What its workers wrote lies in the folder afterwards."""
    broker: Broker = KafkaCluster(lib=kafka_lib()) if is_cluster else KafkaBroker(lib=kafka_lib())
    try:
        await asyncio.to_thread(broker.start)
        environment = {"HEADRACE_LOG": f"kafka://{broker.address}", **settings}
        crew = [Worker(APP, f"w{at}", folder, environment, is_static=is_static) for at in range(workers)]
        log = connect(Settings(log=f"kafka://{broker.address}"))
        load = Load(log, keys_per_partition=keys_per_partition)
        await log.open()
        try:
            async with httpx.AsyncClient(timeout=5.0) as client:
                world = World(broker, log, load, crew, client=client, dice=dice)
                for worker in crew:
                    await worker.start()
                for worker in crew:
                    await worker.until_ready()
                await world.until_settled()
                await world.load.open()
                yield world
        finally:
            for worker in crew:
                if worker.is_running:
                    await worker.kill()
                (folder / f"{worker.instance}.txt").write_text("\n".join(worker.lines))
            await log.close()
    finally:
        await asyncio.to_thread(broker.stop)
