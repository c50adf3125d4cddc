"""Workers that stand still end by themselves, say why, and the next one recovers; slow ones are let be."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from headrace.log.connect import connect
from headrace.log.port import Append, Log, Writer
from headrace.settings import Settings
from headrace.testing.kafka_broker import KafkaBroker
from headrace.watchdog import EXIT_STATUS
from tests.process.apps.ailing import AWAITS_S, told
from tests.process.workers import Worker, breath, running

APP = "tests.process.apps.ailing"
BOUND_S = 2.0
BROKER_BOUND_S = 6.0
"""A busy broker may take its time."""


def bounds(bound_s: float) -> dict[str, str]:
    """The environment in which no part may be silent for longer."""
    parts = ("LOOP", "BROKER", "MEMBERSHIP", "FETCH")
    return {
        **{f"HEADRACE_{part}_SILENCE_MAX_S": str(bound_s) for part in parts},
        "HEADRACE_INTERPRETER_SILENCE_MAX_S": str(2 * bound_s),
        "HEADRACE_WATCHDOG_GRACE_S": "1.5",
        # RocksDB is opened with the interpreter held, for longer than these bounds where the disk is busy.
        "HEADRACE_STORE": "memory",
    }


FAILS_WITHIN_S = 30.0
KEYS = ("a", "b", "c", "d")


class Teller:
    """Tells numbers to the service, and now and then something that it falls ill of."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.sums: Counter[str] = Counter()

    async def tell(self, count: int, illness: str = "") -> None:
        """So many numbers for each key, with the illness in the middle, in one transaction."""
        records: dict[int, list[tuple[bytes | None, bytes | None, tuple[()], int]]] = {0: [], 1: []}
        for key in KEYS:
            wire = told.keys.to_wire(key)
            partition = told.partitioner.place(wire, 2)
            for number in range(count):
                if illness and key == "a" and number == count // 2:
                    records[partition].append((wire, illness.encode(), (), 0))
                records[partition].append((wire, str(number).encode(), (), 0))
                self.sums[key] += number
        appends = [Append("ailing.told", partition, each) for partition, each in records.items() if each]
        await self._writer.commit(appends)


@asynccontextmanager
async def telling(address: str) -> AsyncIterator[tuple[Teller, Log]]:
    log = connect(Settings(log=address))
    await log.open()
    writer = await log.writer("teller")
    try:
        yield Teller(writer), log
    finally:
        await writer.close()
        await log.close()


async def until_summed(worker: Worker, client: httpx.AsyncClient, teller: Teller) -> None:
    """Return once the worker has each number once; fail when it has one twice, or ends."""
    async with asyncio.timeout(60):
        for key, wanted in teller.sums.items():
            while (found := await summed(worker, client, key)) != wanted:
                assert found is None or found < wanted
                assert worker.is_running, worker.tail()
                await breath()


async def summed(worker: Worker, client: httpx.AsyncClient, key: str) -> int | None:
    """What the worker says of a key; None while it says nothing."""
    try:
        answer = await worker.get(client, f"/sums/{key}")
    except httpx.TransportError:
        return None
    return int(answer.content) if answer.status_code == 200 else None


async def first_failure(worker: Worker, client: httpx.AsyncClient) -> httpx.Response | None:
    """What /livez answers when it fails first; None: nothing, until the worker is gone."""
    until = time.monotonic() + FAILS_WITHIN_S
    while worker.is_running:
        assert time.monotonic() < until, worker.tail()
        with suppress(httpx.TransportError):
            answer = await worker.get(client, "/livez")
            if answer.status_code != 200:
                return answer
        await breath()
    return None


async def until_gone(symptom: Path) -> None:
    """Return once the service has come down with it."""
    async with asyncio.timeout(60):
        while await asyncio.to_thread(symptom.exists):
            await breath()


ENDS = [
    ("block_the_loop", "blocked loop", EXIT_STATUS, "time.sleep(3_600)"),
    ("let_no_read_return", "dead fetch", EXIT_STATUS, "Thread MainThread:"),
    ("end_the_assignments", "dead assignor", EXIT_STATUS, "Task agent add main/"),
    ("keep_the_interpreter", "", 1, "in keep_the_interpreter"),
]


@pytest.mark.timeout(400)
async def test_a_worker_that_stands_still_ends_and_the_next_one_recovers_and_slow_ones_are_let_be(
    tmp_path: Path,
) -> None:
    symptoms = tmp_path / "symptoms"
    await asyncio.to_thread(symptoms.mkdir)
    address = f"embedded://{tmp_path}/log.db"
    environment = {"HEADRACE_LOG": address, "SYMPTOMS": str(symptoms), **bounds(BOUND_S)}
    worker = Worker(APP, "one", tmp_path, environment, by_faust=False)
    async with httpx.AsyncClient(timeout=3.0) as client, telling(address) as (teller, _):
        async with running(worker):
            for illness, reason, status, stack in ENDS:
                await teller.tell(10)
                await until_summed(worker, client, teller)
                await asyncio.to_thread((symptoms / illness).touch)
                await teller.tell(10, illness)
                await until_gone(symptoms / illness)
                if illness == "let_no_read_return":
                    await teller.tell(1)  # something to read
                failure = await first_failure(worker, client)
                if reason in ("dead fetch", "dead assignor"):
                    assert failure is not None
                    assert failure.status_code == 503
                    assert failure.headers["content-type"] == "application/problem+json"
                    assert failure.json()["trouble"] == reason
                else:
                    assert failure is None
                assert await worker.ended() == status, worker.tail()
                told_by_log = worker.tail(10_000)
                assert f"Watchdog: {reason}" in told_by_log or not reason
                assert stack in told_by_log
                worker.lines.clear()
                await worker.start()
                await worker.until_ready()
                await until_summed(worker, client, teller)
            assert await worker.terminate() == 0
        await check_slowness(worker, client, teller)


async def check_slowness(worker: Worker, client: httpx.AsyncClient, teller: Teller) -> None:
    """Neither a restore nor a handler that takes longer than every bound is ended."""
    worker.environment["SLOWLY_S"] = "0.15"
    await worker.start()
    try:
        await until_asked(worker, client)
        began = time.monotonic()
        await worker.until_ready()
        assert time.monotonic() - began > BOUND_S
        began = time.monotonic()
        await teller.tell(3, "await")
        await until_summed(worker, client, teller)
        assert time.monotonic() - began > AWAITS_S > BOUND_S
        assert (await worker.get(client, "/livez")).status_code == 200
        assert not [line for line in worker.lines if "Watchdog" in line]
        assert await worker.terminate() == 0
    finally:
        if worker.is_running:
            await worker.kill()


async def until_asked(worker: Worker, client: httpx.AsyncClient) -> None:
    """Return once it says that it lives, which it does while it restores."""
    async with asyncio.timeout(60):
        while True:
            with suppress(httpx.TransportError):
                if (await worker.get(client, "/livez")).status_code == 200:
                    return
            await breath()


@pytest.mark.kafka
@pytest.mark.timeout(400)
async def test_a_worker_that_reaches_no_broker_ends_and_the_next_one_recovers(
    own_broker: KafkaBroker, tmp_path: Path
) -> None:
    address = f"kafka://{own_broker.address}"
    environment = {
        "HEADRACE_LOG": address,
        **bounds(BROKER_BOUND_S),
        # Where no broker answers these stand still, too: the cause is to be named, not what follows of it.
        "HEADRACE_FETCH_SILENCE_MAX_S": "60",
        "HEADRACE_MEMBERSHIP_SILENCE_MAX_S": "60",
    }
    worker = Worker(APP, "one", tmp_path, environment, by_faust=False)
    async with httpx.AsyncClient(timeout=3.0) as client, running(worker):
        async with telling(address) as (teller, _):
            await teller.tell(20)
            await until_summed(worker, client, teller)
            own_broker.pause()
            try:
                failure = await first_failure(worker, client)
                assert failure is not None
                assert failure.json()["trouble"] == "unreachable broker"
                assert await worker.ended() == EXIT_STATUS
            finally:
                own_broker.resume()
            assert "Watchdog: unreachable broker" in worker.tail(10_000)
            await worker.start()
            await worker.until_ready()
            await teller.tell(20)
            await until_summed(worker, client, teller)
        assert await worker.terminate() == 0
