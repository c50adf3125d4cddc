"""`headrace bridge diff`, as people type it: beside a worker, a real applier, and a load."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from headrace import Settings
from headrace.log.connect import connect
from headrace.log.port import Append, Log
from headrace.testing.kafka_broker import KafkaBroker
from tests.bridge.databases import KINDS, address, rows, run
from tests.process.apps.drifting import PARTITIONS, UNLUCKY, Bought, sales
from tests.process.workers import Worker, breath, running

APP = "tests.process.apps.drifting"
PEOPLE = 300
TABLE = "CREATE TABLE balances (who bigint PRIMARY KEY, cents bigint NOT NULL, visits bigint NOT NULL)"


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return address(request.param, request, tmp_path)


class Till:
    """Sells to people, from a process of its own as far as the log can tell."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._fate = Random(5)

    async def sell(self, bought: Iterable[Bought]) -> None:
        """Some purchases in one transaction."""
        by_partition: dict[int, list[Any]] = {}
        for each in bought:
            key = sales.keys.to_wire(each.who)
            partition = sales.partitioner.place(key, PARTITIONS)
            by_partition.setdefault(partition, []).append((key, sales.values.encode(each), (), 0))
        writer = await self._log.writer("till")
        await writer.commit([Append("sales", number, records) for number, records in by_partition.items()])
        await writer.close()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """People buy all the time."""

        async def go_on() -> None:
            while True:
                people = self._fate.sample(range(PEOPLE // 2, PEOPLE), 8)
                await self.sell(Bought(who, 2 * self._fate.randrange(1, 50)) for who in people)
                await breath()

        going = asyncio.create_task(go_on(), name="till")
        try:
            yield
        finally:
            going.cancel()
            await asyncio.wait({going})


async def until_there(url: str, who: int, *, visits: int) -> None:
    """Return once the database knows of so many visits of somebody; it wakes nobody."""
    async with asyncio.timeout(30):
        while await rows(url, f"SELECT visits FROM balances WHERE who = {who}") != [(visits,)]:
            await breath()


async def diff(worker: Worker, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit status and answer."""
    status, output = await worker.command("bridge", "diff", "balances", "--json", *options)
    answers = [line for line in output.splitlines() if line.startswith("{")]
    assert len(answers) == 1, output
    return status, json.loads(answers[0])


def told(answer: dict[str, Any]) -> dict[str, int]:
    return {kind: answer[kind] for kind in ("missing", "extra", "different", "undecided")}


async def test_drift_is_told_and_mended_on_either_side_while_people_buy(url: str, tmp_path: Path) -> None:
    await run(url, TABLE)
    environment = {"HEADRACE_LOG": f"embedded://{tmp_path}/log.db", "HEADRACE_DATABASE": url}
    worker = Worker(APP, "one", tmp_path, environment, by_faust=False)
    async with running(worker):
        log = connect(Settings(log=environment["HEADRACE_LOG"]))
        await log.open()
        till = Till(log)
        await till.sell(Bought(who, 2 + who * 2) for who in range(PEOPLE))
        for who in range(PEOPLE):
            await until_there(url, who, visits=1)
        async with till.open():
            status, answer = await diff(worker)
            assert (status, set(told(answer).values())) == (0, {0})
            assert answer["compared"] == PEOPLE

            # The service forgets these; whoever had bought nothing before is unknown to it.
            await till.sell([Bought(3, UNLUCKY), Bought(PEOPLE + 7, UNLUCKY)])
            await until_there(url, 3, visits=2)
            await until_there(url, PEOPLE + 7, visits=1)
            await run(
                url, "DELETE FROM balances WHERE who = 9", "UPDATE balances SET cents = 0 WHERE who = 200"
            )
            status, answer = await diff(worker)
            assert status == 1
            assert told(answer) == {"missing": 1, "extra": 1, "different": 2, "undecided": 0}
            found = {each["key"]: each for each in answer["differences"]}
            assert (found[9]["kind"], found[9]["database"]) == ("missing", None)
            assert (found[PEOPLE + 7]["kind"], found[PEOPLE + 7]["table"]) == ("extra", None)
            assert found[3]["database"]["cents"] == found[3]["table"]["cents"] + UNLUCKY
            offered = {each["key"]: each for each in answer["offered"]}
            assert offered[3]["event"].items() >= {"who": 3, "cents": UNLUCKY, "visits": 1}.items()
            assert offered[9]["sql"].startswith("INSERT INTO")

            # What the database lost is mended there, what the service forgot by events.
            await run(url, "DELETE FROM balances WHERE who IN (3, 307)")
            status, answer = await diff(worker, "--repair-sql")
            assert (status, answer["repaired"], answer["not_repaired"]) == (1, 3, 0)
            assert (await diff(worker))[0] == 0

            await till.sell([Bought(3, UNLUCKY), Bought(PEOPLE + 8, UNLUCKY)])
            await until_there(url, 3, visits=2)
            await until_there(url, PEOPLE + 8, visits=1)
            status, answer = await diff(worker, "--send")
            assert (status, answer["sent"]) == (1, 2)
            await until_clean(worker)
        await log.close()


async def until_compared(client: httpx.AsyncClient, worker: Worker) -> dict[str, Any]:
    """What shadow reads have found, once none of them waits."""
    async with asyncio.timeout(60):
        while True:
            card: dict[str, Any] = (await worker.get(client, "/whiteboard/shadows")).json()[0]
            if not card["waiting"]:
                return card
            await breath()


async def until_clean(worker: Worker) -> None:
    """Return once the corrections that are on their way are applied."""
    async with asyncio.timeout(30):
        while (await diff(worker))[0] != 0:
            await breath()


async def test_a_worker_compares_what_it_serves_with_a_real_applier(url: str, tmp_path: Path) -> None:
    await run(url, TABLE)
    environment = {"HEADRACE_LOG": f"embedded://{tmp_path}/log.db", "HEADRACE_DATABASE": url}
    worker = Worker(APP, "one", tmp_path, environment, by_faust=False)
    async with running(worker), httpx.AsyncClient() as client:
        log = connect(Settings(log=environment["HEADRACE_LOG"]))
        await log.open()
        till = Till(log)
        async with till.open():
            for _ in range(10):
                for who in range(PEOPLE // 2, PEOPLE):
                    await worker.get(client, f"/balances/{who}")
        card = await until_compared(client, worker)
        await log.close()
    assert (card["differing"], card["failed"], card["dropped"]) == (0, 0, 0)
    assert card["agreed"] == 10 * (PEOPLE // 2) - card["undecided"]
    assert card["undecided"] < 15


async def test_on_kafka_the_ends_of_transactions_keep_nobody_waiting(
    own_broker: KafkaBroker, tmp_path: Path
) -> None:
    url = f"sqlite://{tmp_path}/shop.db"
    await run(url, TABLE)
    environment = {"HEADRACE_LOG": f"kafka://{own_broker.address}", "HEADRACE_DATABASE": url}
    worker = Worker(APP, "one", tmp_path, environment, by_faust=False)
    async with running(worker), httpx.AsyncClient() as client:
        log = connect(Settings(log=environment["HEADRACE_LOG"]))
        await log.open()
        till = Till(log)
        await till.sell(Bought(who, 2) for who in range(40))
        async with till.open():
            await until_there(url, 39, visits=1)
            status, answer = await diff(worker)
            assert (status, set(told(answer).values())) == (0, {0})
        # Nothing comes any more: the offset behind the last event is that of a marker, here or there.
        await till.sell([Bought(1, 2)])
        await until_there(url, 1, visits=2)
        await run(url, "UPDATE balances SET cents = 5 WHERE who = 1")
        status, answer = await diff(worker)
        assert (status, told(answer)) == (1, {"missing": 0, "extra": 0, "different": 1, "undecided": 0})
        for who in range(40):
            await worker.get(client, f"/balances/{who}")
        card = await until_compared(client, worker)
        await log.close()
    assert (card["agreed"], card["differing"]) == (39, 1)


async def test_what_is_not_declared_or_contradicts_itself_is_misuse(tmp_path: Path) -> None:
    environment = {"HEADRACE_LOG": f"embedded://{tmp_path}/log.db"}
    worker = Worker(APP, "one", tmp_path, environment, by_faust=False)
    status, output = await worker.command("bridge", "diff", "nothing")
    assert (status, "there is: balances" in output) == (2, True)
    status, output = await worker.command("bridge", "diff", "balances", "--sample", "0%")
    assert (status, "a percentage above 0" in output) == (2, True)
    status, output = await worker.command("bridge", "diff", "balances", "--send", "--repair-sql")
    assert (status, "one side is to be mended" in output) == (2, True)
